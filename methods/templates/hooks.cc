// What: template of a method that hooks: guidance also away from the concept's names
// Paper: none; a template to copy: cp methods/templates/hooks.cc methods/my_method.cc
// Equation: eps = e0 + s (ep - e0) - w (en - e0); e0, ep, en: the U-Net's predictions for the empty
//   prompt, the prompt and the names
// Reference: none
// Deviations: none
// Needs: known names; no training; one further U-Net evaluation a step
// Caveats: acts on every prompt, so unrelated pictures change too
#include <ATen/core/Tensor.h>

#include "methods/concept_text.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Lives for one batch of pictures. What changes from step to step belongs here.
class Run : public HookRun {
 public:
  Run(at::Tensor names, double weight) : names_(std::move(names)), weight_(weight) {}
  // Which text states the U-Net reads: the usual ones, and one stream of ours.
  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
    return {batch.empty_states, batch.prompt_states, names_.expand_as(batch.prompt_states)};
  }
  // What the sampler gets of the streams' predictions, in their order.
  at::Tensor Combine(const GuidanceBatch& batch, int64_t,
                     const std::vector<at::Tensor>& e) override {
    return e[0].add(e[1].sub(e[0]), batch.guidance_scale).sub(e[2].sub(e[0]), weight_);
  }

 private:
  at::Tensor names_;  // (1, tokens, width)
  double weight_;
};

// Shared by all batches and threads: holds no state.
class NameHooks : public Hooks {
 public:
  NameHooks(at::Tensor names, double weight) : names_(std::move(names)), weight_(weight) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    const at::Tensor& like = batch.prompt_states;
    return std::make_unique<Run>(names_.to(like.device(), like.scalar_type()), weight_);
  }

 private:
  at::Tensor names_;
  double weight_;
};

class HooksTemplate : public Method {
 public:
  // Defaults, ranges and help all come from here.
  void Fields(ParamVisitor& v) override {
    v.Number("weight", &weight_, "how strongly names push away (w)", {.min = 0});
  }
  int version() const override { return 1; }  // raise it whenever results change
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.acts = Acts::kWhileDrawing;
    traits.streams = 3;  // the empty prompt, the prompt, the names
    return traits;
  }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    Erased erased;
    erased.hooks = std::make_shared<NameHooks>(EncodeNames(base, concepts), weight_);
    return erased;
  }

 private:
  double weight_ = 2;
};

const Registration<Method, HooksTemplate> registration;

}  // namespace
}  // namespace excise
