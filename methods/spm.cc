// What: a one-dimensional adapter a concept, as strong as the prompt is like the concept
// Paper: Lyu, Yang, Hong, Chen, Jin, He, Jin, Han, Ding, "One-dimensional Adapter to Rule Them All:
//   Concepts, Diffusion Models and Erasing Applications" (SPM), CVPR 2024, arXiv 2312.16145
// Equation: min_BA ||eps'(z_t, c) - [eps(z_t, 0) - eta (eps(z_t, c) - eps(z_t, 0))]||^2
//   + l E_a ||eps'(z_t, a) - eps(z_t, a)||^2, eps' with W + BA in all transformer blocks; while a
//   prompt p is drawn, W + m BA with m = max(cos(E(p), E(c)), |p and c| / |c| in tokens)
// Reference: Con6924/SPM @ 3dd762e, train_spm.py, src/models/spm.py, src/engine/sampling.py,
//   infer_spm.py
// Deviations: z_t is of a pool that the original draws once, where the reference lets the model
//   under training draw a partial run for every step; the cosine schedule has no restarts; AdamW
//   has 32 bits; m multiplies an adapter once, where infer_spm.py multiplies both of its factors,
//   which squares it, and adds the factors of several concepts before it multiplies them
// Needs: known names; no picture
// Caveats: m reads the prompt, so an attack on it turns the adapter off; defaults are reduced for
//   the emoji backbone
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/text.h"
#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "training/lora.h"
#include "training/trainer.h"

namespace excise {
namespace {

// A concept's adapter, and what its strength is read from.
struct Membrane {
  StateDict lora;                           // of linear layers and of convolutions of 1 x 1
  at::Tensor names;                         // text states (names, tokens, width)
  std::vector<std::set<int64_t>> name_ids;  // of each, without special tokens
};

std::set<int64_t> TokenSet(const at::Tensor& ids) {
  const at::Tensor flat = ids.to(at::kCPU).contiguous();
  const int64_t* begin = flat.data_ptr<int64_t>();
  return {begin, begin + flat.numel()};
}

// How much of a name's tokens a prompt has, the most of all names.
double Overlap(const Membrane& membrane, const std::set<int64_t>& prompt) {
  double most = 0;
  for (const std::set<int64_t>& name : membrane.name_ids) {
    double shared = 0;
    for (const int64_t token : name) shared += static_cast<double>(prompt.count(token));
    most = std::max(most, shared / static_cast<double>(name.size()));
  }
  return most;
}

// (pictures): how strong an adapter is for each prompt. Differentiable in the prompts' states.
at::Tensor Strengths(const Membrane& membrane, const GuidanceBatch& batch) {
  const at::Tensor names = membrane.names.to(batch.prompt_states.options()).flatten(1);
  std::vector<at::Tensor> strengths;
  for (int64_t i = 0; i < batch.prompt_states.size(0); ++i) {
    const at::Tensor own = batch.prompt_states.narrow(0, i, 1).flatten(1);
    at::Tensor strength = at::cosine_similarity(own, names).max();
    if (batch.prompt_ids.defined()) {
      strength = strength.clamp_min(Overlap(membrane, TokenSet(batch.prompt_ids[i])));
    }
    strengths.push_back(strength);
  }
  return at::stack(strengths);
}

// Adds every membrane's adapter to its layers, for each picture at its own strength.
class Transport : public LayerHooks {
 public:
  Transport(std::vector<Membrane> membranes, double scale, const GuidanceBatch& batch)
      : membranes_(std::move(membranes)), scale_(scale) {
    for (const Membrane& membrane : membranes_) strengths_.push_back(Strengths(membrane, batch));
  }
  void Begin(const RowLayout& rows) override { streams_ = rows.streams; }
  bool WantsLinear(const std::string& name) const override {
    return membranes_[0].lora.Contains(name + ".lora_A.weight");
  }
  bool WantsConvolution(const std::string& name) const override { return WantsLinear(name); }
  at::Tensor OnLinear(const std::string& name, const at::Tensor& x, at::Tensor y) override {
    std::vector<int64_t> shape(static_cast<size_t>(y.dim()), 1);
    shape[0] = -1;
    for (size_t i = 0; i < membranes_.size(); ++i) {
      const StateDict& lora = membranes_[i].lora;
      const at::Tensor down = at::linear(x, lora.Get(name + ".lora_A.weight").flatten(1));
      const at::Tensor more = at::linear(down, lora.Get(name + ".lora_B.weight").flatten(1));
      y = y + more * (scale_ * strengths_[i].repeat({streams_}).view(shape));
    }
    return y;
  }
  at::Tensor OnConvolution(const std::string& name, const at::Tensor& x, at::Tensor y) override {
    return OnLinear(name, x.movedim(1, -1), y.movedim(1, -1)).movedim(-1, 1);
  }

 private:
  const std::vector<Membrane> membranes_;
  const double scale_;
  std::vector<at::Tensor> strengths_;
  int64_t streams_ = 1;
};

class TransportRun : public HookRun {
 public:
  TransportRun(const std::vector<Membrane>& membranes, double scale, const GuidanceBatch& batch)
      : layers_(membranes, scale, batch) {}
  LayerHooks* Layers() override { return &layers_; }

 private:
  Transport layers_;
};

class TransportHooks : public Hooks {
 public:
  TransportHooks(std::vector<Membrane> membranes, double scale)
      : membranes_(std::move(membranes)), scale_(scale) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    return std::make_unique<TransportRun>(membranes_, scale_, batch);
  }

 private:
  const std::vector<Membrane> membranes_;
  const double scale_;
};

class Spm : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("rank", &rank_, "of the adapter", {.min = 1, .max = 64});
    v.Number("alpha", &alpha_, "the adapter counts alpha / rank", {.min = 0});
    v.Number("eta", &eta_, "how far beyond the empty prompt the target lies", {.min = 0});
    v.Number("anchoring", &anchoring_, "weight of what other texts draw (l)", {.min = 0});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Integer("warmup", &warmup_, "steps in which the learning rate rises, before its cosine",
              {.min = 0});
    v.Integer("iterations", &iterations_, "gradient steps a concept", {.min = 1});
    v.Integer("batch", &batch_, "latents in a gradient step, of each kind", {.min = 1});
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
    return {
        {"paper",
         {{"rank", 1},
          {"alpha", 1},
          {"eta", 1},
          {"anchoring", 1000},
          {"lr", 1e-4},
          {"warmup", 500},
          {"iterations", 3000},
          {"batch", 1},
          {"sampling_steps", 50},
          {"start_guidance", 3}}},
        {"smoke", {{"iterations", 8}, {"batch", 2}, {"trajectories", 2}, {"sampling_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"rank", {1, 4}},
            {"eta", {0, 1, 3}},
            {"anchoring", {0, 10, 100, 1000}},
            {"lr", {3e-4, 1e-3, 3e-3, 1e-2}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override {
    const double passes = anchoring_ > 0 ? 2 : 1;
    return {
        pool_.work(),
        {Pass::kUNet, static_cast<double>(iterations_), (passes - 1) * static_cast<double>(batch_)},
        {Pass::kUNetGradient, static_cast<double>(iterations_),
         passes * static_cast<double>(batch_)}};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    std::vector<Membrane> membranes;
    Erased erased;
    for (size_t i = 0; i < concepts.size(); ++i) {
      membranes.push_back(Describe(base, concepts[i]));
      membranes.back().lora = Train(context, base, concepts[i], membranes.back().names);
      for (const auto& [name, tensor] : membranes.back().lora) {
        erased.hook_state.Set(fmt::format("{}.{}", i, name), tensor);
      }
    }
    erased.hooks = std::make_shared<TransportHooks>(std::move(membranes), Scale());
    return erased;
  }
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base,
                                            const std::vector<Concept>& concepts,
                                            const StateDict& hook_state) const override {
    std::vector<Membrane> membranes;
    for (size_t i = 0; i < concepts.size(); ++i) {
      membranes.push_back(Describe(base, concepts[i]));
      const std::string prefix = fmt::format("{}.", i);
      for (const auto& [name, tensor] : hook_state) {
        if (!StartsWith(name, prefix)) continue;
        membranes.back().lora.Set(name.substr(prefix.size()),
                                  tensor.to(membranes[i].names.device()));
      }
    }
    return std::make_shared<TransportHooks>(std::move(membranes), Scale());
  }

 private:
  double Scale() const { return alpha_ / static_cast<double>(rank_); }
  // All but the adapter.
  static Membrane Describe(const Backbone& base, const Concept& subject) {
    const NoGrad no_grad;
    Membrane membrane;
    membrane.names = EncodeTexts(base, subject.known);
    for (const std::string& name : subject.known) {
      const std::vector<int64_t> ids = base.tokenizer->Encode(name);
      membrane.name_ids.emplace_back(ids.begin(), ids.end());
    }
    return membrane;
  }
  StateDict Train(Context& context, const Backbone& base, const Concept& subject,
                  const at::Tensor& names) const;

  double alpha_ = 1, eta_ = 1, anchoring_ = 100, lr_ = 1e-3;
  int64_t rank_ = 1, warmup_ = 0, iterations_ = 150, batch_ = 8;
  PointPool pool_;
};

// A random text: states (1, tokens, width) of a random direction and about the length of `state`.
// It is drawn again with the probability of their cosine.
at::Tensor RandomText(const at::Tensor& state, Philox* rng) {
  for (;;) {
    const at::Tensor drawn = UnitNormal(rng, state.sizes()).to(state.options());
    const at::Tensor direction = drawn / drawn.norm();
    const at::Tensor cosine = at::cosine_similarity(direction.flatten(), state.flatten(), 0);
    if (rng->Uniform() >= 1 - cosine.item<double>()) continue;
    return direction * (state.norm() * rng->Uniform(0.8, 1.2));
  }
}

StateDict Spm::Train(Context& context, const Backbone& base, const Concept& subject,
                     const at::Tensor& names) const {
  const std::string stream = "spm/" + subject.name;
  const GuidedTrajectory trajectory(base, pool_.sampling_steps);
  const ConceptPoints pool =
      pool_.Draw(context, base, trajectory, names, EncodeTexts(base, {""}).detach(), stream);
  const LoraSpec spec{rank_, alpha_, 0, {"\\.attentions\\."}};
  const StateDict start = InitLora(base.unet, spec, context.Rng(stream + "/lora").NextU64());
  const auto loss = [&](const StateDict& lora, int64_t step, int64_t) {
    Philox rng = context.Rng(stream + "/points", static_cast<uint64_t>(step));
    const ConceptPoints some = pool.Some(rng, batch_);
    const StateDict unet = ApplyLora(base.unet, lora, spec);
    const auto predict = [&](const StateDict& weights, const at::Tensor& states) {
      return UNetForward(base.unet_config, weights, some.latents, some.timesteps, states);
    };
    const at::Tensor sum =
        at::mse_loss(predict(unet, some.states), GuidedPrediction(some.empty, some.text, -eta_));
    if (anchoring_ == 0) return sum;
    Philox texts = context.Rng(stream + "/anchors", static_cast<uint64_t>(step));
    std::vector<at::Tensor> anchors;
    for (int64_t i = 0; i < batch_; ++i) {
      anchors.push_back(RandomText(some.states.narrow(0, i, 1), &texts));
    }
    const at::Tensor others = at::cat(anchors);
    at::Tensor before;
    {
      const NoGrad no_grad;
      before = predict(base.unet, others);
    }
    return sum + anchoring_ * at::mse_loss(predict(unet, others), before);
  };
  TrainSpec training;
  training.steps = iterations_;
  training.optimizer.lr = lr_;
  training.optimizer.weight_decay = 0.01;
  training.schedule = {"cosine", warmup_, 0, 0.0};
  training.checkpoint = context.CheckpointFile().string() + "." + subject.name;
  training.checkpoint_every = 50;
  training.label = "spm " + subject.name;
  std::vector<std::string> moved;
  for (const auto& [name, tensor] : start) moved.push_back(name);
  const StateDict lora = excise::Train(start, moved, training, loss).weights;
  context.CountGradientSteps(iterations_);
  context.CountUnetEvaluations((anchoring_ > 0 ? 3 : 1) * iterations_ * batch_);
  return lora;
}

const Registration<Method, Spm> registration;

}  // namespace
}  // namespace excise
