// What: closed-form edit of all cross-attention keys and values: names get their anchor's output
// Paper: Gandikota, Orgad, Belinkov, Materzynska, Bau, "Unified Concept Editing in Diffusion
//   Models", WACV 2024, arXiv 2308.14761
// Equation: W = (l W0 + a sum_e W0 g_e c_e' + b sum_p W0 p p') A^-1,
//   A = l I + a sum_e c_e c_e' + b sum_p p p' (eq. 7). The first factor is W0 (A + D) with
//   D = a sum_e (g_e - c_e) c_e', so W = W0 + W0 D A^-1: one solve serves all maps.
// Reference: rohitgandikota/unified-concept-editing @ 28c81ed, trainscripts/uce_sd_erase.py
// Deviations: float64 Cholesky instead of a float32 inverse (A is symmetric positive definite);
//   "all_tokens" keeps the empty prompt too, as that repository's first release did
// Needs: known names, anchor and preserved names; no picture, no U-Net evaluation
// Caveats: edits what the bare names encode; a name that was not listed may still reach the concept
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "training/closed_form.h"

namespace excise {
namespace {

class Uce : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("lambda", &lambda_, "weight of the original map (l)", {.min = 1e-9});
    v.Number("erase_scale", &erase_scale_, "weight of erased names (a)", {.min = 0});
    v.Number("preserve_scale", &preserve_scale_, "weight of preserved names (b)", {.min = 0});
    v.Choice("variant", &variant_,
             "text states of a name that are edited: its last token's, or those from its last "
             "token to the end of the padding",
             {"last_token", "all_tokens"});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override { return {{"known_names", "anchor", "preserve"}, true, ""}; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"lambda", 0.5}, {"preserve_scale", 1}, {"variant", "last_token"}}}};
  }
  SearchSpace search_space() const override {
    // Only the ratios of the three weights count, so that of erased names stays at 1.
    return {{"lambda", {0.01, 0.03, 0.1, 0.3, 0.5, 1, 3}},
            {"preserve_scale", {0.1, 0.3, 1, 3, 10}},
            {"variant", {"last_token", "all_tokens"}}};
  }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    const bool all = variant_ == "all_tokens";
    const auto states = [&](const std::string& name) {
      return NameStates(base, name, all ? NameTokens::kLastToEnd : NameTokens::kLast);
    };
    RidgeEdit edit(base.unet_config.cross_attention_dim, lambda_);
    for (const Concept& subject : concepts) {
      const at::Tensor anchor = states(subject.anchor);  // aligned with names at their last tokens
      for (const std::string& name : subject.known) edit.Move(states(name), anchor, erase_scale_);
      for (const std::string& name : subject.preserve) edit.Keep(states(name), preserve_scale_);
    }
    if (all) edit.Keep(states(""), preserve_scale_);
    StateDict maps = CrossAttentionMaps(base.unet);
    edit.Apply(&maps);
    Erased erased;
    erased.unet = MapsAsWeights(maps, base.unet);
    return erased;
  }

 private:
  double lambda_ = 0.03, erase_scale_ = 1, preserve_scale_ = 10;
  std::string variant_ = "all_tokens";
};

const Registration<Method, Uce> registration;

}  // namespace
}  // namespace excise
