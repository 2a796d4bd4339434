#include "judges/emoji_judges.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "core/hash.h"
#include "datasets/emoji/emoji_world.h"
#include "models/tensors/autograd.h"
#include "models/tensors/same_tensors.h"

namespace excise {
namespace {

JudgeNet LoadChecked(const std::filesystem::path& folder) {
  JudgeNet judge = LoadJudgeNet(folder);
  const JudgeConfig& config = judge.config;
  if (config.num_styles != kNumStyles ||
      static_cast<int64_t>(config.class_ids.size()) != config.num_classes) {
    throw Error(fmt::format(
        "{}: config.json has {} styles and {} class ids for {} classes; 3 styles (plain, sepia, "
        "line) and an id for every class are expected. The file is probably of another version: "
        "train the judge again with //models:pretrain_emoji.",
        folder.string(), config.num_styles, config.class_ids.size(), config.num_classes));
  }
  return judge;
}

std::vector<ScoreName> NamesOf(const JudgeNet& judge) {
  std::vector<ScoreName> names;
  for (const std::string& id : judge.config.class_ids) names.push_back({"class", id});
  names.push_back({"class", ""});
  for (const char* style : kStyleNames) names.push_back({"style", style});
  return names;
}

at::Tensor InUnits(const at::Tensor& images) { return images.to(at::kFloat).div(255); }

// images float (batch, 3, h, w) in [0,1] -> (batch, classes + 1 + styles)
at::Tensor Probabilities(const JudgeNet& judge, const at::Tensor& images) {
  const JudgeOutput output = JudgeForward(judge.config, judge.weights, images);
  at::Tensor scores =
      at::cat({at::softmax(output.class_logits, 1), at::softmax(output.style_logits, 1)}, 1);
  // The largest of NaN is whichever comes first: a verdict from nowhere.
  if (!at::isfinite(scores).all().item<bool>()) {
    throw Error(
        "A judge's answer is not finite: its weights are damaged or too large. Fetch or train it "
        "again (//models:pretrain_emoji).");
  }
  return scores;
}

// The best class and style of each row, as far as their scores reach `threshold`.
Judgement Read(const JudgeConfig& config, std::vector<ScoreName> names, const at::Tensor& scores,
               double threshold) {
  const int64_t classes = config.num_classes + 1;
  const auto [class_score, best_class] = scores.narrow(1, 0, classes).max(1);
  const auto [style_score, best_style] = scores.narrow(1, classes, config.num_styles).max(1);
  Judgement said{{}, std::move(names), scores};
  said.verdicts.resize(scores.size(0));
  for (size_t i = 0; i < said.verdicts.size(); ++i) {
    Verdict& verdict = said.verdicts[i];
    const int64_t best = best_class[i].item<int64_t>();
    verdict.class_probability = class_score[i].item<double>();
    verdict.style_probability = style_score[i].item<double>();
    if (best < config.num_classes && verdict.class_probability >= threshold) {
      verdict.class_id = config.class_ids[best];
    }
    if (verdict.style_probability >= threshold) {
      verdict.style = kStyleNames[best_style[i].item<int64_t>()];
    }
  }
  return said;
}

// `images` moved by (d, d) pixels; the border is repeated.
at::Tensor Moved(const at::Tensor& images, int64_t d) {
  const int64_t pad = std::abs(d), h = images.size(2), w = images.size(3);
  return at::replication_pad2d(images, {pad, pad, pad, pad})
      .narrow(2, pad - d, h)
      .narrow(3, pad - d, w);
}

std::vector<JudgeNet> LoadOracle(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::vector<std::filesystem::path> nets;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory(ignored)) nets.push_back(entry.path());
  }
  std::sort(nets.begin(), nets.end());
  const bool one = std::filesystem::exists(folder / "model.safetensors", ignored);
  if (one == !nets.empty()) {
    throw Error(fmt::format(
        "{}: {}. An oracle is networks in folders of their own (oracle/0, oracle/1, ...), or one "
        "network in this folder: config.json and model.safetensors each. {}",
        folder.string(), one ? "holds a network and folders" : "holds no network",
        one ? "Remove one or the other."
            : "Train it with //models:pretrain_emoji, or remove the folder to do without attacks "
              "that ask it."));
  }
  if (one) nets = {folder};
  std::vector<JudgeNet> oracle;
  for (const std::filesystem::path& net : nets) {
    oracle.push_back(LoadChecked(net));
    if (oracle.back().config.class_ids == oracle.front().config.class_ids) continue;
    throw Error(fmt::format(
        "{}: this network's class_ids are not those of {}. The oracle asks its networks for the "
        "same classes in the same order: train them together with //models:pretrain_emoji.",
        net.string(), nets.front().string()));
  }
  return oracle;
}

}  // namespace

std::shared_ptr<const EmojiJudges> EmojiJudges::Load(const std::filesystem::path& folder) {
  auto panel = std::make_shared<EmojiJudges>();
  panel->reporting_ = LoadChecked(folder / "reporting");
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "oracle", ignored)) return panel;
  panel->oracle_ = LoadOracle(folder / "oracle");
  for (const JudgeNet& net : panel->oracle_) {
    if (!SameTensors(net.weights, panel->reporting_.weights)) continue;
    throw Error(fmt::format(
        "{}: the oracle has the reporting judge's weights. Attacks search with the oracle, so it "
        "must be another network: train one with //models:pretrain_emoji, or remove the folder to "
        "do without attacks that ask it.",
        (folder / "oracle").string()));
  }
  return panel;
}

Judgement EmojiJudges::Report(const at::Tensor& images) const {
  const NoGrad no_grad;
  return Read(reporting_.config, names(), Probabilities(reporting_, InUnits(images)), 0);
}

std::vector<ScoreName> EmojiJudges::names() const { return NamesOf(reporting_); }

at::Tensor EmojiJudges::Features(const at::Tensor& images) const {
  const NoGrad no_grad;
  return JudgeForward(reporting_.config, reporting_.weights, images.to(at::kFloat).div(255)).pooled;
}

const std::vector<JudgeNet>& EmojiJudges::oracle() const {
  if (has_oracle()) return oracle_;
  throw Error(
      "The backbone's folder has no judges/oracle, which attacks ask whether a candidate worked. "
      "Train it with //models:pretrain_emoji, or leave such attacks out with --attacks.");
}

std::string EmojiJudges::oracle_digest() const {
  std::string all = fmt::format("mean of views moved by 0, {0}, -{0}; threshold {1}\n",
                                OracleRule::kShift, OracleRule::kThreshold);
  for (const JudgeNet& net : oracle()) all += net.digest + "\n";
  return Sha256Hex(all);
}

Judgement EmojiJudges::ConsultOracle(const at::Tensor& images) const {
  const NoGrad no_grad;
  const at::Tensor whole = InUnits(images);
  at::Tensor sum;
  int64_t votes = 0;
  for (const int64_t shift : {int64_t{0}, OracleRule::kShift, -OracleRule::kShift}) {
    const at::Tensor view = Moved(whole, shift);
    for (const JudgeNet& net : oracle()) {
      const at::Tensor scores = Probabilities(net, view);
      sum = sum.defined() ? sum + scores : scores;
      ++votes;
    }
  }
  const JudgeNet& first = oracle().front();
  return Read(first.config, NamesOf(first), sum / static_cast<double>(votes),
              OracleRule::kThreshold);
}

}  // namespace excise
