#include "judges/emoji_judges.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>

#include "core/error.h"
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

Judgement Read(const JudgeNet& judge, const at::Tensor& images) {
  const NoGrad no_grad;
  const JudgeOutput output =
      JudgeForward(judge.config, judge.weights, images.to(at::kFloat).div(255));
  const at::Tensor of_classes = at::softmax(output.class_logits, 1);
  const at::Tensor of_styles = at::softmax(output.style_logits, 1);
  Judgement said{{}, NamesOf(judge), at::cat({of_classes, of_styles}, 1)};
  // The largest of NaN is whichever comes first: a verdict from nowhere.
  if (!at::isfinite(said.scores).all().item<bool>()) {
    throw Error(
        "A judge's answer is not finite: its weights are damaged or too large. Fetch or train it "
        "again (//models:pretrain_emoji).");
  }
  const auto [class_probability, classes] = of_classes.max(1);
  const auto [style_probability, styles] = of_styles.max(1);
  said.verdicts.resize(images.size(0));
  for (size_t i = 0; i < said.verdicts.size(); ++i) {
    Verdict& verdict = said.verdicts[i];
    const int64_t best = classes[i].item<int64_t>();
    if (best < judge.config.num_classes) verdict.class_id = judge.config.class_ids[best];
    verdict.style = kStyleNames[styles[i].item<int64_t>()];
    verdict.class_probability = class_probability[i].item<double>();
    verdict.style_probability = style_probability[i].item<double>();
  }
  return said;
}

}  // namespace

std::shared_ptr<const EmojiJudges> EmojiJudges::Load(const std::filesystem::path& folder) {
  auto panel = std::make_shared<EmojiJudges>();
  panel->reporting_ = LoadChecked(folder / "reporting");
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "oracle", ignored)) return panel;
  panel->oracle_ = LoadChecked(folder / "oracle");
  if (SameTensors(panel->oracle_->weights, panel->reporting_.weights)) {
    throw Error(fmt::format(
        "{}: the oracle has the reporting judge's weights. Attacks search with the oracle, so it "
        "must be another network: train one with //models:pretrain_emoji, or remove the folder to "
        "do without attacks that ask it.",
        (folder / "oracle").string()));
  }
  return panel;
}

Judgement EmojiJudges::Report(const at::Tensor& images) const { return Read(reporting_, images); }

std::vector<ScoreName> EmojiJudges::names() const { return NamesOf(reporting_); }

at::Tensor EmojiJudges::Features(const at::Tensor& images) const {
  const NoGrad no_grad;
  return JudgeForward(reporting_.config, reporting_.weights, images.to(at::kFloat).div(255)).pooled;
}

const JudgeNet& EmojiJudges::oracle() const {
  if (oracle_.has_value()) return *oracle_;
  throw Error(
      "The backbone's folder has no judges/oracle, which attacks ask whether a candidate worked. "
      "Train it with //models:pretrain_emoji, or leave such attacks out with --attacks.");
}

Judgement EmojiJudges::ConsultOracle(const at::Tensor& images) const {
  return Read(oracle(), images);
}

}  // namespace excise
