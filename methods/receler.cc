// What: erasers behind cross-attention, trained against adversarial prompts, where the concept is
// Paper: Huang, Chang, Tsai, Lai, Yang, Wang, "Receler: Reliable Concept Erasing of Text-to-Image
//   Diffusion Models via Lightweight Erasers", ECCV 2024, arXiv 2311.17717
// Equation: min_E ||eps_E(z_t, [c, p*]) - [eps(z_t, 0) - eta (eps(z_t, c) - eps(z_t, 0))]||^2
//   + r mean over layers of |E(o) (1 - M)|^2, E(o) = U gelu(D o + d) + u added to what a
//   cross-attention answers, M where the picture attends to c, p* = argmin_p ||eps_E(z_t, [c, p])
//   - eps(z_t, c)||^2, K steps on p after each step on E
// Reference: jasper0314-huang/Receler @ 3ccedc9, train_receler.py, receler/concept_reg.py
// Deviations: z_t is of a pool that the original draws once, where the reference lets the model
//   under training draw a partial run for every step; t is the sampler's own, not drawn around it;
//   with K = 0 the erasers are trained on the name alone, where the reference trains nothing
// Needs: known names; no picture
// Caveats: a training that is killed begins anew, for adversarial prompts live on from step to
//   step; defaults are reduced for the emoji backbone
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/text.h"
#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "models/nets/attention_maps.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "training/trainer.h"

namespace excise {
namespace {

// Adds its eraser's answer to every cross-attention's, and keeps what it added.
class Erasers : public LayerHooks {
 public:
  explicit Erasers(StateDict weights) : weights_(std::move(weights)) {}
  bool WantsAttention(const std::string& name) const override {
    return weights_.Contains(name + ".up.weight");
  }
  at::Tensor OnAttentionOutput(const std::string& name, at::Tensor output) override {
    const auto of = [&](const char* part) { return weights_.Get(name + part); };
    const at::Tensor inside = at::gelu(at::linear(output, of(".down.weight"), of(".down.bias")));
    added[name] = at::linear(inside, of(".up.weight"), of(".up.bias"));
    return output + added[name];
  }
  std::map<std::string, at::Tensor> added;  // (batch, pixels, channels)

 private:
  const StateDict weights_;
};

class EraserRun : public HookRun {
 public:
  explicit EraserRun(const StateDict& weights) : layers_(weights) {}
  LayerHooks* Layers() override { return &layers_; }

 private:
  Erasers layers_;
};

class EraserHooks : public Hooks {
 public:
  explicit EraserHooks(StateDict weights) : weights_(std::move(weights)) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<EraserRun>(weights_);
  }

 private:
  const StateDict weights_;
};

// As torch.nn.Linear starts, and an upper half of zeros.
StateDict FreshErasers(const StateDict& unet, int64_t rank, uint64_t seed) {
  constexpr std::string_view kOut = ".to_out.0.weight";
  StateDict erasers;
  for (const auto& [name, weight] : unet) {
    if (name.find("attn2") == std::string::npos || !EndsWith(name, kOut)) continue;
    const std::string layer = name.substr(0, name.size() - kOut.size());
    const int64_t width = weight.size(0);
    const double bound = 1 / std::sqrt(static_cast<double>(width));
    const auto put = [&](const char* part, const at::Tensor& value) {
      erasers.Set(layer + part, value.to(weight.device()));
    };
    put(".down.weight", nn::InitUniform({rank, width}, bound, seed, layer + ".down.weight"));
    put(".down.bias", nn::InitUniform({rank}, bound, seed, layer + ".down.bias"));
    put(".up.weight", at::zeros({width, rank}, at::kFloat));
    put(".up.bias", at::zeros({width}, at::kFloat));
  }
  return erasers;
}

// A name with its pool of points, and the prompt that brings it back so far.
struct Name {
  at::Tensor states;               // (1, tokens, width)
  std::vector<int64_t> positions;  // of the name's tokens
  ConceptPoints points;
  at::Tensor soft;  // (1, prompt_len, width), behind the name
  std::shared_ptr<Optimizer> optimizer;

  // The text with `prompt` behind the name.
  at::Tensor With(const at::Tensor& prompt) const {
    const int64_t from = positions.back() + 1, to = from + prompt.size(1);
    return at::cat({states.narrow(1, 0, from), prompt, states.narrow(1, to, states.size(1) - to)},
                   1);
  }
};

class Receler : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("rank", &rank_, "of each eraser", {.min = 1, .max = 1024});
    v.Number("eta", &eta_, "how far beyond the empty prompt the target lies", {.min = 0});
    v.Number("regularisation", &regularisation_, "weight of what is erased elsewhere (r)",
             {.min = 0});
    v.Number("mask_threshold", &mask_threshold_,
             "attention of the concept's pixels, from the least (0) to the most (1) of a picture",
             {.min = 0, .max = 1});
    v.Integer("attack_steps", &attack_steps_, "steps on the adversarial prompt for each step (K)",
              {.min = 0});
    v.Integer("prompt_len", &prompt_len_, "its tokens", {.min = 1, .max = 74});
    v.Number("attack_lr", &attack_lr_, "its learning rate, of Adam", {.min = 0});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("batch", &batch_, "latents in a gradient step", {.min = 1});
    pool_.Fields(v);
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.seeded = true;
    traits.acts = Acts::kWhileDrawing;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"rank", 128},
              {"eta", 1},
              {"regularisation", 0.1},
              {"mask_threshold", 0.1},
              {"attack_steps", 50},
              {"prompt_len", 16},
              {"attack_lr", 0.1},
              {"lr", 3e-4},
              {"iterations", 500},
              {"batch", 1},
              {"sampling_steps", 50},
              {"start_guidance", 3}}},
            {"smoke",
             {{"iterations", 8},
              {"batch", 2},
              {"attack_steps", 1},
              {"trajectories", 2},
              {"sampling_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"rank", {16, 64}},
            {"eta", {0, 1, 3}},
            {"regularisation", {0, 0.1, 1}},
            {"attack_steps", {0, 4}},
            {"lr", {1e-4, 3e-4, 1e-3, 3e-3}}};
  }
  Work work() const override {
    const auto rows = static_cast<double>(batch_);
    return {pool_.work(),
            {Pass::kUNet, static_cast<double>(iterations_), rows},
            {Pass::kUNetGradient, static_cast<double>(iterations_ * (1 + attack_steps_)), rows}};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base, const std::vector<Concept>&,
                                            const StateDict& hook_state) const override {
    StateDict weights;
    for (const auto& [name, tensor] : hook_state) {
      weights.Set(name, tensor.to(base.unet.begin()->second.device()));
    }
    return std::make_shared<EraserHooks>(std::move(weights));
  }

 private:
  std::vector<Name> Names(Context& context, const Backbone& base,
                          const std::vector<Concept>& concepts) const;
  // K steps on the name's prompt against `erasers`; what it was before the last of them.
  at::Tensor Attack(const Backbone& base, const StateDict& erasers, const ConceptPoints& some,
                    Name* name) const;
  // What the erasers added where the picture does not attend to the name.
  at::Tensor Elsewhere(const Backbone& base, const Name& name, const ConceptPoints& some,
                       const std::map<std::string, at::Tensor>& added) const;

  double eta_ = 1, regularisation_ = 0.1, mask_threshold_ = 0.1, attack_lr_ = 0.1, lr_ = 1e-3;
  int64_t rank_ = 32, attack_steps_ = 4, prompt_len_ = 4, iterations_ = 150, batch_ = 8;
  PointPool pool_;
};

at::Tensor Predict(const Backbone& base, const ConceptPoints& at, const at::Tensor& states,
                   LayerHooks* layers) {
  return UNetForward(base.unet_config, base.unet, at.latents, at.timesteps,
                     states.expand({at.latents.size(0), -1, -1}), layers);
}

std::vector<Name> Receler::Names(Context& context, const Backbone& base,
                                 const std::vector<Concept>& concepts) const {
  const GuidedTrajectory trajectory(base, pool_.sampling_steps);
  std::vector<std::string> texts;
  for (const Concept& subject : concepts) {
    texts.insert(texts.end(), subject.known.begin(), subject.known.end());
  }
  const auto count = static_cast<int64_t>(texts.size());
  PointPool each = pool_;
  each.trajectories = (pool_.trajectories + count - 1) / count;
  std::vector<Name> names;
  for (const std::string& text : texts) {
    Name name;
    name.states = EncodeTexts(base, {text}).detach();
    name.positions = WordPositions(*base.tokenizer, text, text);
    if (name.positions.back() + 1 + prompt_len_ > name.states.size(1)) {
      throw UsageError(fmt::format(
          "receler: prompt_len {} does not fit behind '{}' into a context of {} tokens. Lower it.",
          prompt_len_, text, name.states.size(1)));
    }
    name.points = each.Draw(context, base, trajectory, name.states,
                            EncodeTexts(base, {""}).detach(), "receler/" + text);
    Philox rng = context.Rng("receler/prompt/" + text);
    name.soft = at::zeros({1, prompt_len_, name.states.size(2)}, at::kFloat);
    float* values = name.soft.data_ptr<float>();
    for (int64_t i = 0; i < name.soft.numel(); ++i) values[i] = static_cast<float>(rng.Uniform());
    name.soft = name.soft.to(name.states.device()).requires_grad_(true);
    OptimizerSpec spec;
    spec.name = "adam";
    spec.lr = spec.weight_decay = attack_lr_;
    name.optimizer = std::make_shared<Optimizer>(spec, std::vector<std::string>{"prompt"},
                                                 std::vector<at::Tensor>{name.soft});
    names.push_back(std::move(name));
  }
  return names;
}

at::Tensor Receler::Attack(const Backbone& base, const StateDict& erasers,
                           const ConceptPoints& some, Name* name) const {
  StateDict frozen;
  for (const auto& [key, tensor] : erasers) frozen.Set(key, tensor.detach());
  at::Tensor before;
  for (int64_t step = 0; step < attack_steps_; ++step) {
    before = name->soft.detach().clone();
    Erasers layers(frozen);
    const at::Tensor said = Predict(base, some, name->With(name->soft), &layers);
    name->optimizer->Step(Gradients(at::mse_loss(said, some.text), {name->soft}));
  }
  return before;
}

at::Tensor Receler::Elsewhere(const Backbone& base, const Name& name, const ConceptPoints& some,
                              const std::map<std::string, at::Tensor>& added) const {
  at::Tensor outside;
  {
    const NoGrad no_grad;
    AttentionMaps maps(name.positions);
    Predict(base, some, name.states, &maps);
    outside = 1 - maps.Region(some.latents.size(2), some.latents.size(3), mask_threshold_);
  }
  at::Tensor sum;
  for (const auto& [layer, more] : added) {
    const at::Tensor flip = RegionAt(outside, more.size(1)).gt(0.5).to(more.scalar_type());
    const at::Tensor one = (more.square().mean(2) * flip).sum() / (flip.sum() + 1e-9);
    sum = sum.defined() ? sum + one : one;
  }
  return sum / static_cast<double>(added.size());
}

Erased Receler::Erase(Context& context, const Backbone& base,
                      const std::vector<Concept>& concepts) const {
  std::vector<Name> names = Names(context, base, concepts);
  const StateDict start = FreshErasers(base.unet, rank_, context.Rng("receler/erasers").NextU64());
  const auto loss = [&](const StateDict& erasers, int64_t step, int64_t) {
    Philox rng = context.Rng("receler/points", static_cast<uint64_t>(step));
    Name& name = names[rng.Below(names.size())];
    const ConceptPoints some = name.points.Some(rng, batch_);
    const at::Tensor prompt = Attack(base, erasers, some, &name);
    Erasers layers(erasers);
    const at::Tensor said =
        Predict(base, some, prompt.defined() ? name.With(prompt) : name.states, &layers);
    const at::Tensor sum = at::mse_loss(said, GuidedPrediction(some.empty, some.text, -eta_));
    if (regularisation_ == 0) return sum;
    return sum + regularisation_ * Elsewhere(base, name, some, layers.added);
  };
  TrainSpec training;
  training.steps = iterations_;
  training.optimizer.name = "adam";
  training.optimizer.lr = lr_;
  training.label = "receler";
  std::vector<std::string> moved;
  for (const auto& [name, tensor] : start) moved.push_back(name);
  Erased erased;
  const StateDict trained = Train(start, moved, training, loss).weights;
  for (const auto& [name, tensor] : trained) erased.hook_state.Set(name, tensor.detach());
  erased.hooks = std::make_shared<EraserHooks>(erased.hook_state);
  context.CountGradientSteps(iterations_ * (1 + attack_steps_));
  context.CountUnetEvaluations(iterations_ * batch_ *
                               (1 + attack_steps_ + (regularisation_ > 0 ? 1 : 0)));
  return erased;
}

const Registration<Method, Receler> registration;

}  // namespace
}  // namespace excise
