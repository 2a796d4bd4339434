// What: guides away from a text of what is unwanted, where the prompt's prediction comes near it
// Paper: Schramowski et al., "Safe Latent Diffusion", CVPR 2023, arXiv 2211.05105
// Equation: eps = e0 + s (ep - e0 - gamma), without gamma before step delta; gamma = mu (ec - e0) +
//   s_m nu; mu = min(1, s_S |ep - ec|) where ep - ec < lambda, else 0; nu <- b_m nu + (1 - b_m)
//   gamma at every step; e0, ep, ec: predictions for the empty prompt, the prompt and the text
// Reference: huggingface/diffusers @ 0256497, pipelines/deprecated/stable_diffusion_safe
// Deviations: warm-up is a share of the steps, delta / 50, to mean the same at any number of them
// Needs: known names, or a text; one further U-Net row a step and picture, no training
// Caveats: defaults are what the tuning rule takes; does nothing at guidance scale 1;
//   preset "paper" is "medium", the released default, with the released text for every concept;
//   other papers' scripts take s_S = 200 for "weak"; a step that a white-box attack evaluates by
//   itself has no momentum
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "methods/concept_text.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

struct Strength {
  double scale = 1000, warmup = 0, threshold = 0.3, momentum = 0.3, beta = 0.7;
};

class SldRun : public HookRun {
 public:
  SldRun(const Strength& strength, at::Tensor text, const GuidanceBatch& batch)
      : strength_(strength),
        text_(std::move(text)),
        first_(std::llround(strength.warmup * static_cast<double>(batch.num_steps))) {}

  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t step) override {
    std::vector<at::Tensor> rows = HookRun::Rows(batch, step);
    // Warm-up reads the text for the momentum of later steps alone.
    const bool reads = step >= first_ || (strength_.momentum > 0 && first_ < batch.num_steps);
    const bool acts = reads && strength_.scale > 0 && batch.guidance_scale != 1;
    if (acts) rows.push_back(text_.expand_as(batch.prompt_states));
    return rows;
  }

  at::Tensor Combine(const GuidanceBatch& batch, int64_t step,
                     const std::vector<at::Tensor>& e) override {
    if (e.size() < 3) return HookRun::Combine(batch, step, e);
    const at::Tensor d = e[1] - e[2];
    const at::Tensor mu = (d.abs() * strength_.scale).clamp_max(1) * (d < strength_.threshold);
    const at::Tensor gamma = mu * (e[2] - e[0]) + strength_.momentum * nu_;
    nu_ = strength_.beta * nu_ + (1 - strength_.beta) * gamma;
    if (step < first_) return HookRun::Combine(batch, step, {e[0], e[1]});
    return e[0] + batch.guidance_scale * (e[1] - e[0] - gamma);
  }

 private:
  const Strength strength_;
  const at::Tensor text_;          // (1, tokens, width)
  const int64_t first_;            // the first step that is guided
  at::Tensor nu_ = at::zeros({});  // the momentum, after a step of the batch's shape
};

class Sld : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Text("text", &text_, "what to guide away from; empty: the concepts' known names");
    v.Number("scale", &strength_.scale, "s_S, which mu grows by", {.min = 0});
    v.Number("warmup", &strength_.warmup, "share of unguided steps", {.min = 0, .max = 1});
    v.Number("threshold", &strength_.threshold, "lambda: the least difference that is let be");
    v.Number("momentum", &strength_.momentum, "s_m, its weight", {.min = 0, .max = 1});
    v.Number("beta", &strength_.beta, "b_m, what momentum keeps of itself", {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits;
    if (text_.empty()) traits.uses = {"known_names"};
    traits.reads_concepts = text_.empty();
    traits.acts = Acts::kWhileDrawing;
    traits.streams = 3;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    const auto preset = [](double s, double d, double l, double m, double b) -> Json {
      return {{"scale", s}, {"warmup", d}, {"threshold", l}, {"momentum", m}, {"beta", b}};
    };
    std::map<std::string, Json> presets = {{"weak", preset(20, 0.3, 0, 0, 0)},
                                           {"medium", preset(1000, 0.2, 0.01, 0.3, 0.4)},
                                           {"strong", preset(2000, 0.14, 0.025, 0.5, 0.7)},
                                           {"max", preset(5000, 0, 1, 0.5, 0.7)}};
    presets["smoke"] = presets["max"];
    presets["paper"] = presets["medium"];
    presets["paper"]["text"] =
        "an image showing hate, harassment, violence, suffering, humiliation, harm, suicide, "
        "sexual, nudity, bodily fluids, blood, obscene gestures, illegal activity, drug use, "
        "theft, vandalism, weapons, child abuse, brutality, cruelty";
    return presets;
  }
  SearchSpace search_space() const override {
    return {{"scale", {1000, 2000, 5000}},
            {"warmup", {0, 0.14, 0.2}},
            {"threshold", {0.01, 0.025, 0.1, 0.3, 1}},
            {"momentum", {0, 0.3, 0.5}}};
  }
  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    const auto text = text_.empty() ? EncodeNames(base, concepts) : EncodeTexts(base, {text_});
    Erased erased;
    erased.hooks = TextHooks(text, [strength = strength_](auto&&... batch) {
      return std::make_unique<SldRun>(strength, batch...);
    });
    return erased;
  }

 private:
  std::string text_;
  Strength strength_;
};

const Registration<Method, Sld> registration;

}  // namespace
}  // namespace excise
