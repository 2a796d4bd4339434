// What: draws with two latent streams, the prompt's and a safe one's, summed with a weight
// Paper: Vice, Akhtar, Shah, Hartley, Mian, "Safety Without Semantic Disruptions: Editing-free Safe
//   Image Generation via Context-preserving Dual Latent Reconstruction", 2024, arXiv 2411.13982
// Equation: our interpretation: x_{t-1} = (1 - w) x^u_{t-1} + w x^s_{t-1} after the first tau_gc of
//   the steps, before them x^u alone; x^u, x^s from the same noise under classifier-free guidance
//   by the prompt and by the safe embedding. blend=nearest (ours): so for settle_at of these steps;
//   then each picture is drawn by the c of u, s whose |e_c - e_empty| is less, settled once
// Reference: none
// Deviations: the paper's equation, the unit of tau_gc, its safe embeddings, its detectors and its
//   settings could not be read and no code was found, so all of them are ours: tau_gc is a share of
//   the steps; the detectors are a cosine on text states and a ridge probe on an early x0; there
//   is no preset "paper"
// Needs: a safe text, the concept's anchor, or a Safe-CLIP folder; for detectors known names,
//   anchor and names to preserve; one more U-Net row a step and picture that is blended
// Caveats: a sum of predictions is the score of p_u^(1-w) p_s^w, which lies between two pictures
//   and is neither where each shows a single thing; blend=nearest leaves a picture to one stream in
//   time, so w says how many pictures are safe ones, not how safe a picture is; streams "coupled"
//   share one latent, which the safe prompt pulls at every step; "independent" ones part, and the
//   weights of the steps compound; blending starts only after the latent detector's step, so that
//   detector takes coupled streams; a step that a white-box attack evaluates by itself has no
//   history, counts as detected by it and settles by what it sees
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "methods/concept_text.h"
#include "methods/latent_blend/latent_blend_run.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "training/guided.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 8;  // of the latent detector's trajectories

class LatentBlend : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("w", &settings_.weight, "weight of the safe stream", {.min = 0, .max = 1});
    v.Number("tau_gc", &settings_.global_context,
             "share of the steps that the prompt's stream lays out alone", {.min = 0, .max = 1});
    v.Choice(
        "streams", &streams_,
        "coupled: both start every step from one latent; independent: the safe one has its own",
        {"coupled", "independent"});
    v.Choice(
        "blend", &blend_,
        "what is summed: updated latents, predicted pictures x0, or noise predictions (coupled "
        "streams: the same, unless renormalised); nearest: noise predictions until settle_at, then "
        "each picture is drawn by the stream that it resembles, w = 0 and 1 apart",
        {"latent", "x0", "noise", "nearest"});
    v.Number("settle_at", &settings_.settle_at,
             "for blend=nearest: share of the steps after tau_gc that sum", {.min = 0, .max = 1});
    v.Flag("renormalise", &settings_.renormalise,
           "keep the streams' standard deviation, which a sum of two that have parted loses");
    v.Choice("schedule", &schedule_, "w over the steps after tau_gc: constant, or rising to w",
             {"constant", "linear", "cosine"});
    v.Choice("safe", &safe_,
             "the safe embedding: of safe_text, of the concept's anchor, or Safe-CLIP's reading of "
             "the prompt itself",
             {"text", "anchor", "safe_clip"});
    v.Text("safe_text", &safe_text_, "what safe=text draws");
    v.Path("safe_clip", &safe_clip_, "for safe=safe_clip: a folder with a tuned text encoder");
    v.Choice("detectors", &detectors_,
             "blend every picture (none), or those that a detector of prompts or of early latents, "
             "or either of them, fires for",
             {"none", "text", "latent", "either"});
    v.Number("text_threshold", &settings_.text_threshold,
             "the text detector fires above it; 0 is halfway between targets and harmless prompts "
             "of the erase split",
             {.min = -2, .max = 2});
    v.Number("latent_threshold", &settings_.latent_threshold,
             "the latent detector fires above it; 0 is halfway", {.min = -100, .max = 100});
    v.Number("detect_at", &detect_at_,
             "share of the steps after which the latent detector reads x0", {.min = 0, .max = 0.9});
    v.Integer("detector_prompts", &detector_prompts_,
              "prompts of the erase split that detectors are fitted on, a group", {.min = 1});
    v.Integer("probe_steps", &probe_steps_, "steps of the latent detector's trajectories",
              {.min = 2});
    v.Number("probe_guidance", &probe_guidance_, "their guidance scale", {.min = 0});
    v.Number("probe_ridge", &probe_ridge_, "ridge of the latent detector's probe",
             {.min = 1e-6, .max = 1e6});
  }
  int version() const override { return 2; }
  std::vector<std::string> needs_one_of() const override {
    if (safe_ == "safe_clip") return {"safe_clip"};
    return {};
  }
  MethodTraits traits() const override;
  std::map<std::string, Json> presets() const override {
    return {{"smoke", {{"detector_prompts", 1}, {"probe_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    // At w = 1 nothing is blended: a switch behind a detector is another method.
    return {{"w", {0.25, 0.5, 0.75, 0.9}},
            {"tau_gc", {0, 0.2, 0.4}},
            {"blend", {"latent", "nearest"}},
            {"settle_at", {0.25, 0.375, 0.5}},
            {"detectors", {"text", "latent", "either"}}};
  }
  Work work() const override;

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base,
                                            const std::vector<Concept>& concepts,
                                            const StateDict& hook_state) const override {
    const NoGrad no_grad;
    return MakeBlendHooks(Settings(), MakeSafeText(base, concepts), TextDetector::Load(hook_state),
                          LatentDetector::Load(hook_state));
  }

 private:
  bool ReadsText() const { return detectors_ == "text" || detectors_ == "either"; }
  bool ReadsLatents() const { return detectors_ == "latent" || detectors_ == "either"; }
  BlendSettings Settings() const;
  SafeText MakeSafeText(const Backbone& base, const std::vector<Concept>& concepts) const;
  SafeText LoadSafeClip(const Backbone& base) const;
  TextDetector FitText(Context& context, const Backbone& base,
                       const std::vector<Concept>& concepts) const;
  LatentDetector FitLatents(Context& context, const Backbone& base,
                            const std::vector<Concept>& concepts) const;
  // Features of the x0 that a guided run predicts for each prompt at the detector's step.
  at::Tensor EarlyFeatures(Context& context, const Backbone& base,
                           const std::vector<std::string>& prompts) const;
  // Prompts of the erase split that ask for something else.
  std::vector<std::string> Harmless(Context& context, const Concept& subject) const;

  // The latent threshold was set on the split select, where it parts targets from neighbours.
  BlendSettings settings_ = Defaults();
  static BlendSettings Defaults() {
    BlendSettings settings;
    settings.weight = 0.9;
    settings.global_context = 0.2;
    settings.settle_at = 0.375;
    settings.latent_threshold = 0.3;
    return settings;
  }
  std::string streams_ = "coupled", blend_ = "latent", schedule_ = "constant", safe_ = "anchor";
  std::string safe_text_ = "a harmless picture", safe_clip_, detectors_ = "either";
  double detect_at_ = 0.1, probe_guidance_ = 3, probe_ridge_ = 3;
  int64_t detector_prompts_ = 32, probe_steps_ = 20;
};

MethodTraits LatentBlend::traits() const {
  MethodTraits traits;
  const bool detects = detectors_ != "none";
  if (detects) traits.uses.push_back("known_names");
  if (detects || safe_ == "anchor") traits.uses.push_back("anchor");
  if (detects) {
    traits.uses.push_back("preserve");
    // The latent detector needs as many prompts of the concept as of both other groups.
    traits.prompts = {{"target", (ReadsLatents() ? 2 : 1) * detector_prompts_},
                      {"anchor", detector_prompts_},
                      {"preserve", detector_prompts_}};
  }
  if (safe_ == "safe_clip") traits.uses.push_back("unsafe_images");
  traits.seeded = ReadsLatents();
  traits.acts = Acts::kWhileDrawing;
  // The safe stream in place of the prompt's, beside it, or with guidance of its own.
  traits.streams = streams_ == "independent" ? 4 : settings_.weight < 1 ? 3 : 2;
  return traits;
}

Work LatentBlend::work() const {
  Work work;
  const auto prompts = static_cast<double>(detector_prompts_);
  if (ReadsText()) work.push_back({Pass::kText, 1, 3 * prompts});
  if (ReadsLatents()) {
    // Twice as many targets and as many others, in batches of kBatch with and without text.
    const auto steps = static_cast<double>(LatentDetector::StepAt(detect_at_, probe_steps_) + 1);
    work.push_back({Pass::kUNet, steps * 4 * prompts / kBatch, 2.0 * kBatch});
  }
  return work;
}

BlendSettings LatentBlend::Settings() const {
  BlendSettings settings = settings_;
  settings.independent = streams_ == "independent";
  using Quantity = BlendSettings::Quantity;
  using Schedule = BlendSettings::Schedule;
  settings.quantity = blend_ == "x0"        ? Quantity::kX0
                      : blend_ == "noise"   ? Quantity::kNoise
                      : blend_ == "nearest" ? Quantity::kNearest
                                            : Quantity::kLatent;
  settings.schedule = schedule_ == "linear"   ? Schedule::kLinear
                      : schedule_ == "cosine" ? Schedule::kCosine
                                              : Schedule::kConstant;
  return settings;
}

SafeText LatentBlend::LoadSafeClip(const Backbone& base) const {
  if (safe_clip_.empty()) {
    throw UsageError(
        "latent_blend: safe=safe_clip needs a folder with Safe-CLIP's text encoder. Name it with "
        "the parameter safe_clip, or set safe to text or anchor.");
  }
  const fs::path folder = safe_clip_;
  ClipConfig config;
  StateDict weights;
  LoadTextEncoder(fs::exists(folder / "text_encoder") ? folder / "text_encoder" : folder, &config,
                  &weights);
  const ClipTextConfig &given = config.text, &own = base.clip.text;
  const auto require = [&](const char* what, int64_t value, int64_t wanted) {
    if (value == wanted) return;
    throw Error(fmt::format(
        "latent_blend: the text encoder of {} has {} {}, that of the backbone '{}' has {}, so the "
        "U-Net cannot read its states. Give the Safe-CLIP that was tuned from the backbone's own "
        "CLIP (Stable Diffusion 1: ViT-L/14).",
        folder.string(), what, value, base.name, wanted));
  };
  require("a width of", given.hidden_size, own.hidden_size);
  require("a vocabulary of", given.vocab_size, own.vocab_size);
  require("a context of", given.max_position_embeddings, own.max_position_embeddings);
  return SafeText(given, weights);
}

SafeText LatentBlend::MakeSafeText(const Backbone& base,
                                   const std::vector<Concept>& concepts) const {
  if (safe_ == "safe_clip") return LoadSafeClip(base);
  std::string text = safe_text_;
  if (safe_ == "anchor") {
    std::vector<std::string> anchors;
    for (const Concept& subject : concepts) {
      if (std::count(anchors.begin(), anchors.end(), subject.anchor) == 0) {
        anchors.push_back(subject.anchor);
      }
    }
    text = fmt::format("{}", fmt::join(anchors, ", "));
  }
  if (text.find_first_not_of(" \t\n") == std::string::npos) {
    throw UsageError(
        safe_ == "anchor"
            ? "latent_blend: safe=anchor, but the concept names no anchor to draw instead. Add "
              "\"anchor\" to the concept's file, or set safe to text."
            : "latent_blend: safe=text, but safe_text is empty. Say what is to be drawn instead.");
  }
  return SafeText(EncodeTexts(base, {text}));
}

std::vector<std::string> LatentBlend::Harmless(Context& context, const Concept& subject) const {
  std::vector<std::string> prompts = context.Prompts(subject, "preserve", detector_prompts_);
  const std::vector<std::string> anchors = context.Prompts(subject, "anchor", detector_prompts_);
  prompts.insert(prompts.end(), anchors.begin(), anchors.end());
  return prompts;
}

TextDetector LatentBlend::FitText(Context& context, const Backbone& base,
                                  const std::vector<Concept>& concepts) const {
  const auto features = [&](const std::vector<std::string>& texts) {
    return TextDetector::Features(EncodeTexts(base, texts));
  };
  std::vector<TextDetector::Example> examples;
  for (const Concept& subject : concepts) {
    std::vector<std::string> targets = context.Prompts(subject, "target", detector_prompts_);
    targets.insert(targets.end(), subject.known.begin(), subject.known.end());
    std::vector<std::string> harmless = Harmless(context, subject);
    harmless.insert(harmless.end(), subject.preserve.begin(), subject.preserve.end());
    harmless.push_back(subject.anchor);
    examples.push_back({features(subject.known), features({subject.anchor}), features(targets),
                        features(harmless)});
  }
  return TextDetector::Fit(examples);
}

at::Tensor LatentBlend::EarlyFeatures(Context& context, const Backbone& base,
                                      const std::vector<std::string>& prompts) const {
  const GuidedTrajectory trajectory(base, probe_steps_);
  const int64_t last = LatentDetector::StepAt(detect_at_, trajectory.steps());
  // Guidance in the order of operations of drawing, not of GuidedPrediction.
  const auto guide = [&](const std::vector<at::Tensor>& empty_and_prompt) {
    return empty_and_prompt[0] + probe_guidance_ * (empty_and_prompt[1] - empty_and_prompt[0]);
  };
  const int64_t side = base.unet_config.sample_size, channels = base.unet_config.in_channels;
  std::vector<at::Tensor> features;
  for (size_t start = 0; start < prompts.size(); start += kBatch) {
    const size_t end = std::min(start + kBatch, prompts.size());
    const std::vector<at::Tensor> texts = {
        EncodeTexts(base, {""}),
        EncodeTexts(base, {prompts.begin() + start, prompts.begin() + end})};
    at::Tensor noise = at::empty({texts[1].size(0), channels, side, side}, at::kFloat);
    for (size_t i = start; i < end; ++i) {
      const at::Tensor one = noise[static_cast<int64_t>(i - start)];
      context.Rng("latent_blend/probe/" + prompts[i], i)
          .FillNormal(one.data_ptr<float>(), one.numel());
    }
    const at::Tensor x = trajectory.Walk(
        base.unet, noise, last, texts,
        [&](int64_t, const at::Tensor&, const std::vector<at::Tensor>& predictions) {
          return guide(predictions);
        });
    const at::Tensor guided = guide(trajectory.Predict(base.unet, x, last, texts));
    context.CountUnetEvaluations(2 * x.size(0) * (last + 1));
    const NoiseLevel level = trajectory.level(last);
    features.push_back(LatentDetector::Features(
        X0At(level, x, ToEpsilon(trajectory.scheduler(), guided, x, level))));
  }
  return at::cat(features);
}

LatentDetector LatentBlend::FitLatents(Context& context, const Backbone& base,
                                       const std::vector<Concept>& concepts) const {
  std::vector<std::string> prompts;
  std::vector<bool> positive;
  for (const Concept& subject : concepts) {
    for (const std::string& text : context.Prompts(subject, "target", 2 * detector_prompts_)) {
      prompts.push_back(text);
      positive.push_back(true);
    }
    for (const std::string& text : Harmless(context, subject)) {
      prompts.push_back(text);
      positive.push_back(false);
    }
  }
  if (prompts.empty()) return LatentDetector::Fit({}, {}, probe_ridge_, detect_at_);
  return LatentDetector::Fit(EarlyFeatures(context, base, prompts), positive, probe_ridge_,
                             detect_at_);
}

Erased LatentBlend::Erase(Context& context, const Backbone& base,
                          const std::vector<Concept>& concepts) const {
  const NoGrad no_grad;
  if (streams_ == "independent" && ReadsLatents()) {
    throw UsageError(fmt::format(
        "latent_blend: streams=independent with detectors={}: the safe stream runs from the first "
        "step on, but the latent detector speaks later, so pictures that need no blending would "
        "pay for it. Set streams=coupled or detectors=text.",
        detectors_));
  }
  if (streams_ == "independent" && blend_ == "nearest") {
    throw UsageError(
        "latent_blend: streams=independent with blend=nearest: a picture resembles one stream or "
        "the other only where both read the same latents. Set streams=coupled.");
  }
  Erased erased;
  SafeText safe = MakeSafeText(base, concepts);
  if (ReadsText() || ReadsLatents()) {
    for (const Concept& subject : concepts) {
      if (!subject.anchor.empty()) continue;
      throw UsageError(
          fmt::format("latent_blend: detectors={} needs an anchor to tell the concept '{}' from. "
                      "Add \"anchor\" to the concept's file, or set detectors=none.",
                      detectors_, subject.name));
    }
  }
  std::optional<TextDetector> text;
  std::optional<LatentDetector> latent;
  if (ReadsText()) {
    text = FitText(context, base, concepts);
    text->Save(&erased.hook_state);
  }
  if (ReadsLatents()) {
    latent = FitLatents(context, base, concepts);
    latent->Save(&erased.hook_state);
  }
  erased.hooks = MakeBlendHooks(Settings(), std::move(safe), std::move(text), std::move(latent));
  return erased;
}

const Registration<Method, LatentBlend> registration;

}  // namespace
}  // namespace excise
