// What: distils the model's own answer to the empty prompt into its answer to the concept's names
// Paper: Kim, Jung, Kim, Choi, Shin, Lee, "Towards Safe Self-Distillation of Internet-Scale
//   Text-to-Image Diffusion Models" (SDD), ICML workshop 2023, arXiv 2307.05977
// Equation: min_W ||eps_W(z_t, c, t) - sg eps_W(z_t, 0, t)||^2, z_t on the way to a guided picture
//   of all the names; the result is the exponential moving average of W
// Reference: nannullna/safe-diffusion @ 8c57951, train_sdd.py
// Deviations: z_t is of a pool that the original draws once, where the reference's average draws a
//   partial run for every step (it starts as the original and takes a thousandth of W a step); t is
//   the sampler's own, not drawn around it; the average counts its first updates more (training/
//   ema.h), without which a training of hundreds of steps would hardly reach it
// Needs: known names; no picture
// Caveats: defaults are reduced for the emoji backbone; preset "paper" has the reference's settings
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>

#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class Sdd : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    tuning_.Fields(v);
    v.Number("clip_norm", &clip_norm_, "largest norm of a gradient; 0: any", {.min = 0});
    v.Integer("warmup", &warmup_, "steps in which the learning rate rises", {.min = 0});
    v.Number("ema_decay", &ema_decay_, "of the average that is returned; 0: the last weights",
             {.min = 0, .max = 0.99999});
    pool_.Fields(v);
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {
        {"paper",
         {{"layers", "x"},
          {"lr", 1e-5},
          {"weight_decay", 1e-4},
          {"clip_norm", 1},
          {"warmup", 500},
          {"ema_decay", 0.999},
          {"iterations", 1500},
          {"batch", 1},
          {"sampling_steps", 50},
          {"start_guidance", 3}}},
        {"smoke", {{"iterations", 8}, {"batch", 2}, {"trajectories", 2}, {"sampling_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"layers", {"x", "u", "full"}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"ema_decay", {0, 0.99, 0.999}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override { return {pool_.work(), tuning_.Evaluations(), tuning_.Gradients()}; }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const Texts texts = Encode(base, concepts);
    const GuidedTrajectory trajectory(base, pool_.sampling_steps);
    const ConceptPoints pool = pool_.Draw(context, base, trajectory, texts.all, texts.empty, "sdd");
    TrainSpec spec = tuning_.Spec(context, "sdd");
    spec.schedule.warmup_steps = warmup_;
    spec.clip_norm = clip_norm_;
    spec.ema_decay = ema_decay_;
    const auto loss = [&](const StateDict& unet, int64_t step, int64_t) {
      const ConceptPoints some =
          pool.Some(context.Rng("sdd/points", static_cast<uint64_t>(step)), tuning_.batch);
      // One name after another.
      const at::Tensor name =
          texts.names.narrow(0, step % texts.names.size(0), 1).expand_as(some.states);
      const auto predict = [&](const at::Tensor& states) {
        return UNetForward(base.unet_config, unet, some.latents, some.timesteps, states);
      };
      at::Tensor target;
      {
        const NoGrad no_grad;
        target = predict(texts.empty.expand_as(some.states));
      }
      return at::mse_loss(predict(name), target);
    };
    return tuning_.Train(context, base, spec, /*passes=*/2, loss);
  }

 private:
  struct Texts {
    at::Tensor names;  // (names, tokens, width)
    at::Tensor all;    // (1, tokens, width): all names as one text
    at::Tensor empty;  // (1, tokens, width)
  };
  static Texts Encode(const Backbone& base, const std::vector<Concept>& concepts) {
    const NoGrad no_grad;
    std::vector<std::string> names;
    for (const Concept& subject : concepts) {
      names.insert(names.end(), subject.known.begin(), subject.known.end());
    }
    return {EncodeTexts(base, names), EncodeNames(base, concepts), EncodeTexts(base, {""})};
  }

  FineTuning tuning_ = {.weight_decay = 1e-4};
  PointPool pool_;
  double clip_norm_ = 1, ema_decay_ = 0.99;
  int64_t warmup_ = 0;
};

const Registration<Method, Sdd> registration;

}  // namespace
}  // namespace excise
