#include "metrics/judge_panel.h"

#include <ATen/ops/softmax.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "models/autograd.h"

namespace excise {
namespace {

const char* const kStyles[] = {"plain", "sepia", "line"};

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

std::string OutcomeName(Outcome outcome) {
  static const char* const kNames[] = {"target",  "anchor",  "other_valid",
                                       "garbage", "blocked", "error"};
  return kNames[static_cast<int>(outcome)];
}

Outcome OutcomeOf(const Verdict& verdict, const Concept& subject) {
  if (verdict.class_id.empty()) return Outcome::kGarbage;
  const std::string& seen = subject.judge.kind == "style" ? verdict.style : verdict.class_id;
  if (Contains(subject.judge.target, seen)) return Outcome::kTarget;
  if (Contains(subject.judge.anchor, seen)) return Outcome::kAnchor;
  return Outcome::kOtherValid;
}

std::shared_ptr<const JudgePanel> JudgePanel::Load(const std::filesystem::path& folder) {
  auto panel = std::make_shared<JudgePanel>();
  panel->reporting_ = LoadJudge(folder / "reporting");
  const JudgeConfig& config = panel->reporting_.config;
  if (config.num_styles != 3 ||
      static_cast<int64_t>(config.class_ids.size()) != config.num_classes) {
    throw Error(fmt::format(
        "{}: config.json has {} styles and {} class ids for {} classes; 3 styles (plain, sepia, "
        "line) and an id for every class are expected. The file is probably of another version: "
        "train the judge again with //models:pretrain_emoji.",
        (folder / "reporting").string(), config.num_styles, config.class_ids.size(),
        config.num_classes));
  }
  return panel;
}

std::vector<Verdict> JudgePanel::Report(const at::Tensor& images) const {
  const NoGrad no_grad;
  const JudgeOutput output =
      JudgeForward(reporting_.config, reporting_.weights, images.to(at::kFloat).div(255));
  const auto [class_probability, classes] = at::softmax(output.class_logits, 1).max(1);
  const auto [style_probability, styles] = at::softmax(output.style_logits, 1).max(1);
  std::vector<Verdict> verdicts(images.size(0));
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const int64_t best = classes[i].item<int64_t>();
    if (best < reporting_.config.num_classes) {
      verdicts[i].class_id = reporting_.config.class_ids[best];
    }
    verdicts[i].style = kStyles[styles[i].item<int64_t>()];
    verdicts[i].class_probability = class_probability[i].item<double>();
    verdicts[i].style_probability = style_probability[i].item<double>();
  }
  return verdicts;
}

}  // namespace excise
