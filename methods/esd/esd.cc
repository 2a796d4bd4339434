// What: fine-tunes the U-Net until the concept's name steers away from the concept
// Paper: Gandikota, Materzynska, Fiotto-Kaufman, Bau, "Erasing Concepts from Diffusion Models",
//   ICCV 2023, arXiv 2303.07345
// Equation: min_W ||eps_W(x_t, c, t) - [eps(x_t, 0, t) - eta (eps(x_t, c, t) - eps(x_t, 0, t))]||^2
//   (eq. 7), eps without W: the frozen original; x_t from a partial guided sampling run for c
// Reference: rohitgandikota/erasing @ 25613d2, esd_sd.py
// Deviations: eta counts as in the paper (the repository's negative_guidance is eta + 1 when
//   erase_from is not set); t is the sampler's own, as in the 2025 code, not drawn around it;
//   "sampled_by original" reads x_t and both predictions from a pool of whole trajectories instead
//   of one fresh partial run an iteration (same distribution of t, far fewer U-Net evaluations)
// Needs: known names; no picture; gradient steps and U-Net evaluations are counted
// Caveats: defaults are reduced for the emoji backbone; preset "paper" has the paper's settings
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "training/guided.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr int64_t kPrompts = 64;  // of the erase split, at most

// What an iteration trains at.
struct Points {
  at::Tensor latents;    // (n, 4, h, w)
  at::Tensor timesteps;  // (n)
  at::Tensor states;     // (n, tokens, width): text states of the names
  at::Tensor target;     // (n, 4, h, w)
};

class Esd : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("variant", &variant_,
             "layers that move: x cross-attention, x_strict its keys and values only, u all but "
             "cross-attention, full all",
             {"x", "x_strict", "u", "full"});
    v.Number("eta", &eta_, "strength of the negative guidance in the target", {.min = 0});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("batch", &batch_, "latents in a gradient step", {.min = 1});
    v.Choice("prompts", &prompts_,
             "the concept's texts: its known names, or prompts of the erase split",
             {"names", "erase_split"});
    v.Choice("sampled_by", &sampled_by_,
             "who draws x_t: a pool of the original's trajectories, or the student anew in every "
             "iteration",
             {"original", "student"});
    pool_.Fields(v);
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.seeded = true;
    if (prompts_ != "names") traits.prompts = {{"target", kPrompts}};
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {
        {"paper",
         {{"variant", "x"},
          {"eta", 1},
          {"lr", 1e-5},
          {"iterations", 1000},
          {"batch", 1},
          {"sampled_by", "student"},
          {"sampling_steps", 50}}},
        {"smoke", {{"iterations", 8}, {"batch", 2}, {"trajectories", 2}, {"sampling_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"variant", {"x", "u", "full"}},
            {"eta", {1, 2, 3}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override {
    const auto steps = static_cast<double>(pool_.sampling_steps);
    const auto trained = static_cast<double>(iterations_), rows = static_cast<double>(batch_);
    const Passes training{Pass::kUNetGradient, trained, rows};
    if (sampled_by_ == "student") {
      // Half of a run on average, and the original once; with and without text.
      return {{Pass::kUNet, trained * (steps / 2 + 1), 2 * rows}, training};
    }
    return {pool_.work(), training};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;

 private:
  struct Text {
    at::Tensor names;  // (names, tokens, width)
    at::Tensor empty;  // (1, tokens, width)
  };
  Text Encode(Context& context, const Backbone& base, const std::vector<Concept>& concepts) const;
  at::Tensor Target(const at::Tensor& with_text, const at::Tensor& without) const {
    return GuidedPrediction(without, with_text, -eta_);
  }
  Points DrawFromPool(Context& context, const ConceptPoints& pool, int64_t iteration) const {
    const ConceptPoints some = pool.Some(context.Rng("esd/points", iteration), batch_);
    return {some.latents, some.timesteps, some.states, Target(some.text, some.empty)};
  }
  Points DrawByStudent(Context& context, const Backbone& base, const GuidedTrajectory& trajectory,
                       const StateDict& student, const Text& text, int64_t iteration) const;
  // How far the student samples in `iteration`.
  static int64_t StudentSteps(Context& context, const GuidedTrajectory& trajectory,
                              int64_t iteration) {
    return context.Rng("esd/step", iteration).Below(trajectory.steps());
  }

  std::string variant_ = "full", prompts_ = "names", sampled_by_ = "original";
  double eta_ = 2, lr_ = 2e-4;
  int64_t iterations_ = 150, batch_ = 8;
  PointPool pool_;
};

Esd::Text Esd::Encode(Context& context, const Backbone& base,
                      const std::vector<Concept>& concepts) const {
  std::vector<std::string> texts;
  for (const Concept& subject : concepts) {
    const std::vector<std::string> some =
        prompts_ == "names" ? subject.known : context.Prompts(subject, "target", kPrompts);
    texts.insert(texts.end(), some.begin(), some.end());
  }
  if (texts.empty()) {
    throw Error(
        fmt::format("esd: no text for the concepts ({} of them): a concept needs known "
                    "names, or prompts in its erase split.",
                    concepts.size()));
  }
  return {EncodeTexts(base, texts), EncodeTexts(base, {""})};
}

Points Esd::DrawByStudent(Context& context, const Backbone& base,
                          const GuidedTrajectory& trajectory, const StateDict& student,
                          const Text& text, int64_t iteration) const {
  const NoGrad no_grad;
  const int64_t steps = StudentSteps(context, trajectory, iteration);
  Philox rng = context.Rng("esd/names", iteration);
  std::vector<at::Tensor> noise, rows;
  for (int64_t j = 0; j < batch_; ++j) {
    noise.push_back(UnitNormal(context, base, "esd/latents", iteration * batch_ + j));
    rows.push_back(text.names[rng.Below(text.names.size(0))]);
  }
  const at::Tensor states = at::stack(rows);
  const std::vector<at::Tensor> texts = {states, text.empty};
  const at::Tensor latents = trajectory.Walk(
      student, at::stack(noise), steps, texts,
      [&](int64_t, const at::Tensor&, const std::vector<at::Tensor>& predictions) {
        return GuidedPrediction(predictions[1], predictions[0], pool_.start_guidance);
      });
  const std::vector<at::Tensor> here = trajectory.Predict(base.unet, latents, steps, texts);
  return {latents, at::tensor(trajectory.timestep(steps)).expand({batch_}), states,
          Target(here[0], here[1])};
}

Erased Esd::Erase(Context& context, const Backbone& base,
                  const std::vector<Concept>& concepts) const {
  Text text;
  {
    const NoGrad no_grad;
    text = Encode(context, base, concepts);
  }
  const GuidedTrajectory trajectory(base, pool_.sampling_steps);
  const bool by_student = sampled_by_ == "student";
  ConceptPoints pool;
  if (!by_student) pool = pool_.Draw(context, base, trajectory, text.names, text.empty, "esd");

  TrainSpec spec;
  spec.steps = iterations_;
  spec.optimizer.name = "adam";
  spec.optimizer.lr = lr_;
  spec.checkpoint = context.CheckpointFile();
  spec.checkpoint_every = 50;
  spec.label = "esd";
  for (const Concept& subject : concepts) spec.label += " " + subject.name;

  const std::vector<std::string> names = UNetLayers(base.unet, variant_);
  const TrainResult result =
      Train(base.unet, names, spec, [&](const StateDict& student, int64_t iteration, int64_t) {
        const Points points =
            by_student ? DrawByStudent(context, base, trajectory, student, text, iteration)
                       : DrawFromPool(context, pool, iteration);
        return at::mse_loss(
            UNetForward(base.unet_config, student, points.latents, points.timesteps, points.states),
            points.target);
      });

  // Counted from the settings, so that a resumed training reports what a straight one does.
  context.CountGradientSteps(iterations_);
  context.CountUnetEvaluations(iterations_ * batch_);
  for (int64_t i = 0; by_student && i < iterations_; ++i) {
    context.CountUnetEvaluations(2 * batch_ * (StudentSteps(context, trajectory, i) + 1));
  }
  Erased erased;
  for (const std::string& name : names) erased.unet.Set(name, result.weights.Get(name));
  return erased;
}

const Registration<Method, Esd> registration;

}  // namespace
}  // namespace excise
