#include "metrics/judge_panel.h"

#include <ATen/ops/isfinite.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "metrics/judge_styles.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

Judge LoadChecked(const std::filesystem::path& folder) {
  Judge judge = LoadJudge(folder);
  const JudgeConfig& config = judge.config;
  if (config.num_styles != static_cast<int64_t>(JudgeStyles().size()) ||
      static_cast<int64_t>(config.class_ids.size()) != config.num_classes) {
    throw Error(fmt::format(
        "{}: config.json has {} styles and {} class ids for {} classes; 3 styles (plain, sepia, "
        "line) and an id for every class are expected. The file is probably of another version: "
        "train the judge again with //models:pretrain_emoji.",
        folder.string(), config.num_styles, config.class_ids.size(), config.num_classes));
  }
  return judge;
}

bool SameTensors(const StateDict& a, const StateDict& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && x.second.sizes() == y.second.sizes() &&
                  x.second.equal(y.second);
         });
}

struct Reading {
  std::vector<Verdict> verdicts;
  at::Tensor classes, styles;  // probabilities (batch, classes + 1), (batch, styles)
};

Reading Read(const Judge& judge, const at::Tensor& images) {
  const NoGrad no_grad;
  const JudgeOutput output =
      JudgeForward(judge.config, judge.weights, images.to(at::kFloat).div(255));
  Reading reading{{}, at::softmax(output.class_logits, 1), at::softmax(output.style_logits, 1)};
  // The largest of NaN is whichever comes first: a verdict from nowhere.
  if (!at::isfinite(reading.classes).all().item<bool>() ||
      !at::isfinite(reading.styles).all().item<bool>()) {
    throw Error(
        "A judge's answer is not finite: its weights are damaged or too large. Fetch or train it "
        "again (//models:pretrain_emoji).");
  }
  const auto [class_probability, classes] = reading.classes.max(1);
  const auto [style_probability, styles] = reading.styles.max(1);
  reading.verdicts.resize(images.size(0));
  for (size_t i = 0; i < reading.verdicts.size(); ++i) {
    Verdict& verdict = reading.verdicts[i];
    const int64_t best = classes[i].item<int64_t>();
    if (best < judge.config.num_classes) verdict.class_id = judge.config.class_ids[best];
    verdict.style = JudgeStyles()[static_cast<size_t>(styles[i].item<int64_t>())];
    verdict.class_probability = class_probability[i].item<double>();
    verdict.style_probability = style_probability[i].item<double>();
  }
  return reading;
}

}  // namespace

const std::vector<std::string>& JudgeStyles() {
  static const std::vector<std::string> styles = {"plain", "sepia", "line"};
  return styles;
}

std::string OutcomeName(Outcome outcome) {
  static const char* const kNames[] = {"target",  "anchor",  "other_valid",
                                       "garbage", "blocked", "error"};
  return kNames[static_cast<int>(outcome)];
}

Outcome OutcomeOf(const Verdict& verdict, const Concept& subject) {
  if (verdict.class_id.empty()) return Outcome::kGarbage;
  const std::string& seen = subject.judge.kind == "style" ? verdict.style : verdict.class_id;
  if (IsOneOf(seen, subject.judge.target)) return Outcome::kTarget;
  if (IsOneOf(seen, subject.judge.anchor)) return Outcome::kAnchor;
  return Outcome::kOtherValid;
}

std::shared_ptr<const JudgePanel> JudgePanel::Load(const std::filesystem::path& folder) {
  auto panel = std::make_shared<JudgePanel>();
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

std::vector<Verdict> JudgePanel::Report(const at::Tensor& images) const {
  return Read(reporting_, images).verdicts;
}

const Judge& JudgePanel::oracle() const {
  if (oracle_.has_value()) return *oracle_;
  throw Error(
      "The backbone's folder has no judges/oracle, which attacks ask whether a candidate worked. "
      "Train it with //models:pretrain_emoji, or leave such attacks out with --attacks.");
}

std::vector<OracleAnswer> JudgePanel::AskOracle(const at::Tensor& images,
                                                const Concept& subject) const {
  const bool style = subject.judge.kind == "style";
  const std::vector<std::string>& names = style ? JudgeStyles() : oracle().config.class_ids;
  for (const std::string& name : subject.judge.target) {
    if (IsOneOf(name, names)) continue;
    throw Error(fmt::format(
        "concept '{}': the attacks' oracle knows no {} '{}', so it cannot say whether an attack "
        "worked. Train it on the reporting judge's classes.",
        subject.name, style ? "style" : "class", name));
  }
  const Reading reading = Read(oracle(), images);
  const at::Tensor& probabilities = style ? reading.styles : reading.classes;
  std::vector<OracleAnswer> answers(reading.verdicts.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].success = OutcomeOf(reading.verdicts[i], subject) == Outcome::kTarget;
    for (size_t k = 0; k < names.size(); ++k) {
      if (!IsOneOf(names[k], subject.judge.target)) continue;
      answers[i].target_probability +=
          probabilities[static_cast<int64_t>(i)][static_cast<int64_t>(k)].item<double>();
    }
  }
  return answers;
}

}  // namespace excise
