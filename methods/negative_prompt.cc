// What: guidance away from the concept's names instead of away from the empty prompt
// Paper: Ho & Salimans, "Classifier-Free Diffusion Guidance", NeurIPS 2021 workshop, arXiv
//   2207.12598; as a removal baseline in Schramowski et al., "Safe Latent Diffusion", CVPR 2023,
//   arXiv 2211.05105
// Equation: eps = eps(x_t, n, t) + s (eps(x_t, p, t) - eps(x_t, n, t)), n = "name, name, ..."
// Reference: huggingface/diffusers @ v0.42.1, src/diffusers/pipelines/stable_diffusion/
//   pipeline_stable_diffusion.py (negative_prompt)
// Deviations: none
// Needs: the concepts' known names; no training, no further U-Net evaluations
// Caveats: does nothing at guidance scale 1; the negative prompt acts on every prompt, so unrelated
//   pictures change too
#include <ATen/core/Tensor.h>

#include "methods/concept_text.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Classifier-free guidance in which the empty stream reads the negative prompt.
class NegativeRun : public HookRun {
 public:
  explicit NegativeRun(at::Tensor negative) : negative_(std::move(negative)) {}

  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t step) override {
    GuidanceBatch replaced = batch;
    replaced.empty_states = negative_.expand_as(batch.prompt_states);
    return HookRun::Rows(replaced, step);
  }

 private:
  at::Tensor negative_;  // (1, tokens, width)
};

class NegativePrompt : public Method {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.acts = Acts::kWhileDrawing;
    return traits;
  }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    Erased erased;
    erased.hooks = TextHooks(EncodeNames(base, concepts),
                             [](const at::Tensor& negative, const GuidanceBatch&) {
                               return std::make_unique<NegativeRun>(negative);
                             });
    return erased;
  }
};

const Registration<Method, NegativePrompt> registration;

}  // namespace
}  // namespace excise
