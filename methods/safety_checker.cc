// What: the rule of Stable Diffusion's safety checker: cosines with concept embeddings, a threshold
//   for each, all of them lowered where something needs special care
// Paper: described by Rando, Paleka, Lindner, Heim, Tramer, "Red-Teaming the Stable Diffusion
//   Safety Filter", 2022, arXiv 2210.04610
// Equation: adj = 0; for each special text: adj = 0.01 once round(cos(x, s) - thr + adj, 3) > 0;
//   blocked iff max over concepts of round(cos(x, c) - thr + adj, 3) > 0
// Reference: huggingface/diffusers @ v0.42.1, src/diffusers/pipelines/stable_diffusion/
//   safety_checker.py
// Deviations: without a checker's folder the concept embeddings are the texts of the concept's
//   known names (of parameter special_care: special ones), each with the threshold that the given
//   share of pictures of its anchor and of preserved names exceeds on the erase split
// Needs: parameter checker, the snapshot's safety_checker folder; else known names, anchor,
//   preserved names and pictures of the unmodified model
// Caveats: the released checker knows sexual content alone. Rounding has no derivative: gradients
//   pass as if it were not there
#include "models/snapshots/safety_checker.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "methods/clip_filter.h"
#include "methods/method.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class CheckerFilter : public ClipFilter {
 public:
  CheckerFilter(ClipModel clip, double threshold, const std::string& replacement, StateDict state)
      : ClipFilter(std::move(clip), threshold, replacement), state_(std::move(state)) {}

  at::Tensor ScoreEmbeddings(const at::Tensor& embeds) const override {
    return CheckerExcess(state_, embeds);
  }

 private:
  StateDict state_;
};

class SafetyChecker : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("checker", &checker_,
           "folder of Stable Diffusion's safety checker; none: concept embeddings are made from "
           "the concept's names");
    v.Number("threshold", &threshold_, "a picture is blocked when a rounded excess is above it",
             {.min = -2, .max = 2});
    v.Number("false_positive_rate", &false_positive_rate_,
             "share of calibration pictures that a made threshold lets be blocked",
             {.min = 0, .max = 1});
    v.Integer("pictures", &pictures_, "calibration pictures, at most", {.min = 1, .max = 800});
    v.Texts("special_care", &special_care_, "texts whose presence lowers every threshold by 0.01");
    filter_.Fields(v);
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits;
    if (checker_.empty()) {
      traits.uses = {"known_names", "anchor", "preserve"};
      traits.prompts = {{"anchor", PromptsOfGroup()}, {"preserve", PromptsOfGroup()}};
      traits.base_pictures = true;
    }
    traits.acts = Acts::kOnPictures;
    return traits;
  }
  Work work() const override {
    if (!checker_.empty()) return {};
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)}};
  }
  std::map<std::string, Json> presets() const override { return {{"smoke", {{"pictures", 4}}}}; }
  SearchSpace search_space() const override {
    return {{"false_positive_rate", {0.01, 0.02, 0.05, 0.1, 0.2}}};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    Erased erased;
    if (!checker_.empty()) {
      CheckerModel checker = LoadCheckerModel(checker_);
      erased.hook_state = checker.texts;
      erased.hooks = MakeFilter(std::move(checker.clip), erased.hook_state);
      return erased;
    }
    const ClipModel clip = FilterClip(base, filter_.clip, "safety_checker");
    erased.hook_state = Calibrate(context, clip, concepts);
    erased.hooks = MakeFilter(clip, erased.hook_state);
    return erased;
  }
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base, const std::vector<Concept>&,
                                            const StateDict& hook_state) const override {
    return MakeFilter(checker_.empty() ? FilterClip(base, filter_.clip, "safety_checker")
                                       : LoadCheckerModel(checker_).clip,
                      hook_state);
  }

 private:
  // Half of the pictures show what the concept should become, half what must stay.
  int64_t PromptsOfGroup() const { return std::max<int64_t>(1, pictures_ / 2); }
  StateDict Calibrate(Context& context, const ClipModel& clip,
                      const std::vector<Concept>& concepts) const;
  std::shared_ptr<const Hooks> MakeFilter(ClipModel clip, const StateDict& state) const {
    return std::make_shared<CheckerFilter>(std::move(clip), threshold_, filter_.replacement, state);
  }

  std::string checker_;
  double threshold_ = 0, false_positive_rate_ = 0.01;
  int64_t pictures_ = 48;
  std::vector<std::string> special_care_;
  ClipFilterParams filter_;
};

// For each text (row) the cosine that a share `above` of the pictures exceeds, interpolated.
at::Tensor Quantiles(const at::Tensor& cosines, double above) {
  const at::Tensor sorted = std::get<0>(cosines.to(at::kDouble).cpu().sort(0)).t().contiguous();
  const int64_t n = sorted.size(1);
  at::Tensor out = at::empty({sorted.size(0)}, at::kFloat);
  const double place = (1 - above) * static_cast<double>(n - 1);
  const auto low = static_cast<int64_t>(place);
  const int64_t high = std::min(low + 1, n - 1);
  const double part = place - static_cast<double>(low);
  for (int64_t i = 0; i < sorted.size(0); ++i) {
    const double* row = sorted.data_ptr<double>() + i * n;
    out.data_ptr<float>()[i] = static_cast<float>(row[low] + part * (row[high] - row[low]));
  }
  return out;
}

StateDict SafetyChecker::Calibrate(Context& context, const ClipModel& clip,
                                   const std::vector<Concept>& concepts) const {
  RequireTexts(concepts, /*anchor=*/true, "safety_checker");
  const NoGrad no_grad;
  std::vector<std::string> names, prompts;
  for (const Concept& subject : concepts) {
    names.insert(names.end(), subject.known.begin(), subject.known.end());
    for (const char* group : {"anchor", "preserve"}) {
      const std::vector<std::string> some = context.Prompts(subject, group, PromptsOfGroup());
      prompts.insert(prompts.end(), some.begin(), some.end());
    }
  }
  if (prompts.empty()) {
    throw Error(
        "safety_checker: there is no prompt to calibrate thresholds on (groups anchor and preserve "
        "of the erase split). Give some, or a checker's folder with --set "
        "methods.safety_checker.checker=DIR.");
  }
  const at::Tensor seen = nn::Normalised(FilterPictures(clip, context.Images(prompts)));
  StateDict state;
  const auto add = [&](const char* embeds, const char* thresholds,
                       const std::vector<std::string>& texts) {
    const at::Tensor rows = texts.empty() ? at::zeros({0, seen.size(1)}, seen.options())
                                          : FilterTexts(clip, clip.weights, texts);
    state.Set(embeds, rows.contiguous());
    state.Set(thresholds, texts.empty()
                              ? at::zeros({0}, at::kFloat)
                              : Quantiles(at::matmul(seen, rows.t()), false_positive_rate_));
  };
  add(kCheckerConcepts, kCheckerConceptThresholds, names);
  add(kCheckerSpecial, kCheckerSpecialThresholds, special_care_);
  return state;
}

const Registration<Method, SafetyChecker> registration;

}  // namespace
}  // namespace excise
