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
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "methods/clip_filter.h"
#include "methods/method.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

constexpr const char* kConcepts = "concept_embeds";
constexpr const char* kConceptThresholds = "concept_embeds_weights";
constexpr const char* kSpecial = "special_care_embeds";
constexpr const char* kSpecialThresholds = "special_care_embeds_weights";
constexpr double kCare = 0.01;

// To three decimals, half to even; the derivative is that of x.
at::Tensor Round3(const at::Tensor& x) { return x + ((x * 1000).round() / 1000 - x).detach(); }

class CheckerFilter : public ClipFilter {
 public:
  CheckerFilter(ClipModel clip, double threshold, const std::string& replacement, StateDict state)
      : ClipFilter(std::move(clip), threshold, replacement), state_(std::move(state)) {}

  at::Tensor ScoreEmbeddings(const at::Tensor& embeds) const override {
    const at::Tensor x = nn::Normalised(embeds).to(at::kDouble);
    const at::Tensor special = Over(x, kSpecial, kSpecialThresholds);
    at::Tensor care = at::zeros({x.size(0)}, x.options());
    for (int64_t i = 0; i < special.size(1); ++i) {
      const at::Tensor found = Round3(special.select(1, i) + care).gt(0);
      care = at::where(found, at::full_like(care, kCare), care);
    }
    const at::Tensor over = Over(x, kConcepts, kConceptThresholds) + care.unsqueeze(1);
    return Round3(over).amax(1).to(at::kFloat);
  }

 private:
  // cos - threshold, (batch, texts).
  at::Tensor Over(const at::Tensor& x, const char* embeds, const char* thresholds) const {
    const at::Tensor texts = nn::Normalised(state_.Get(embeds).to(x.options()));
    return at::matmul(x, texts.t()) - state_.Get(thresholds).to(x.options());
  }

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
      ClipModel clip = LoadChecker(&erased.hook_state);
      erased.hooks = MakeFilter(std::move(clip), erased.hook_state);
      return erased;
    }
    const ClipModel clip = FilterClip(base, filter_.clip, "safety_checker");
    erased.hook_state = Calibrate(context, clip, concepts);
    erased.hooks = MakeFilter(clip, erased.hook_state);
    return erased;
  }
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base, const std::vector<Concept>&,
                                            const StateDict& hook_state) const override {
    StateDict ignored;
    return MakeFilter(
        checker_.empty() ? FilterClip(base, filter_.clip, "safety_checker") : LoadChecker(&ignored),
        hook_state);
  }

 private:
  // Half of the pictures show what the concept should become, half what must stay.
  int64_t PromptsOfGroup() const { return std::max<int64_t>(1, pictures_ / 2); }
  // The checker's image tower; its embeddings and thresholds go to `state`.
  ClipModel LoadChecker(StateDict* state) const;
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

void RequireWidths(const StateDict& state, int64_t width, const std::string& origin) {
  for (const auto& [embeds, thresholds] :
       {std::pair{kConcepts, kConceptThresholds}, std::pair{kSpecial, kSpecialThresholds}}) {
    const at::Tensor &texts = state.Get(embeds), &limits = state.Get(thresholds);
    if (texts.dim() == 2 && texts.size(1) == width && limits.dim() == 1 &&
        limits.size(0) == texts.size(0)) {
      continue;
    }
    throw Error(fmt::format(
        "{}: '{}' has shape ({}) and '{}' ({}), but the image tower's embeddings are {} wide: "
        "({}, {}) and ({}) would fit.",
        origin, embeds, fmt::join(texts.sizes(), ", "), thresholds, fmt::join(limits.sizes(), ", "),
        width, texts.dim() > 0 ? texts.size(0) : 0, width, texts.dim() > 0 ? texts.size(0) : 0));
  }
  if (state.Get(kConcepts).size(0) == 0) {
    throw Error(
        fmt::format("{}: '{}' is empty: nothing would ever be blocked.", origin, kConcepts));
  }
}

ClipModel SafetyChecker::LoadChecker(StateDict* state) const {
  const std::filesystem::path folder = checker_;
  ClipModel clip;
  clip.folder = folder;
  clip.config =
      ParseClipConfig(ReadJsonFile(folder / "config.json"), (folder / "config.json").string());
  const int64_t most = ClipElements(clip.config) + (int64_t{1} << 20);
  const StateDict all = LoadSafetensorsFolder(folder, "model", at::kFloat, most);
  for (const auto& [name, tensor] : all) {
    const std::string nested = "vision_model.vision_model.";
    const bool inner = StartsWith(name, nested);
    clip.weights.Set(inner ? "vision_model." + name.substr(nested.size()) : name, tensor);
  }
  for (const char* name : {kConcepts, kConceptThresholds, kSpecial, kSpecialThresholds,
                           "visual_projection.weight", "vision_model.post_layernorm.weight"}) {
    if (clip.weights.Contains(name)) continue;
    throw Error(fmt::format(
        "{}: tensor '{}' is missing, so it is no safety checker of Stable Diffusion's shape.",
        folder.string(), name));
  }
  for (const char* name : {kConcepts, kConceptThresholds, kSpecial, kSpecialThresholds}) {
    state->Set(name, clip.weights.Get(name));
  }
  RequireWidths(*state, clip.weights.Get("visual_projection.weight").size(0), folder.string());
  return clip;
}

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
  add(kConcepts, kConceptThresholds, names);
  add(kSpecial, kSpecialThresholds, special_care_);
  return state;
}

const Registration<Method, SafetyChecker> registration;

}  // namespace
}  // namespace excise
