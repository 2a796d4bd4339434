// What: template of a method that edits weights: the least change that takes names to their anchor
// Paper: none; a template to copy: cp methods/templates/edits_weights.cc methods/my_method.cc
// Equation: W = W0 + s W0 (g - c) c' / c'c, name by name; c and g: text states of name and anchor
// Reference: none
// Deviations: none
// Needs: known names and anchor; no picture, no U-Net evaluation
// Caveats: names that share words undo a part of each other's edits; use uce for removals
#include <ATen/core/Tensor.h>
#include <ATen/ops/outer.h>

#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class EditsWeights : public Method {
 public:
  // Defaults, ranges and help all come from here.
  void Fields(ParamVisitor& v) override {
    v.Number("strength", &strength_, "share of the way to the anchor (s)", {.min = 0, .max = 1});
  }
  int version() const override { return 1; }  // raise it whenever results change
  MethodTraits traits() const override { return {{"known_names", "anchor"}, true, ""}; }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    Erased erased;
    for (const auto& [name, weight] : base.unet) {
      const bool key = name.find("attn2.to_k.weight") != name.npos;
      if (!key && name.find("attn2.to_v.weight") == name.npos) continue;
      at::Tensor edited = weight.clone();  // (out, width); tensors of `base` are never changed
      for (const Concept& subject : concepts) {
        const at::Tensor g = State(base, subject.anchor);
        for (const std::string& known : subject.known) {
          const at::Tensor c = State(base, known);
          edited.add_(at::outer(edited.mv(g.sub(c)), c.div(c.dot(c))), strength_);
        }
      }
      erased.unet.Set(name, edited);
    }
    return erased;
  }

 private:
  // The text state of the last word of `text`: (width).
  static at::Tensor State(const Backbone& base, const std::string& text) {
    const int64_t context = base.clip.text.max_position_embeddings;
    const int64_t words = base.tokenizer->Encode(text).size();
    const at::Tensor ids = TokenizeBatch(*base.tokenizer, {text}, context);
    return EncodeText(base, ids)[0][std::min(words, context - 2)];
  }

  double strength_ = 1;
};

const Registration<Method, EditsWeights> registration;

}  // namespace
}  // namespace excise
