// What: uce's edit, then rounds of finding the states that bring the concept back and editing these
// Paper: Gong, Chen, Wei, Chen, Jiang, "Reliable and Efficient Concept Erasure of Text-to-Image
//   Diffusion Models", ECCV 2024, arXiv 2407.12383
// Equation: start with UCE's edit W of the maps W0. In each epoch every name's states c become
//   c* = (r I + sum W'W)^-1 (sum W'W0) c, which minimises sum |W c* - W0 c|^2 + r |c*|^2 over all
//   maps, and W becomes UCE's edit of W after which c* gives what W gave for the anchor
// Reference: CharlesGong12/RECE @ 403a67f: train.py, train_artists.py, erase_methods/uce.py,
//   close_form_emb_regzero in utils/embedding_calculation/close_form_emb.py
// Deviations: the last epoch is kept: the released loop picks the epoch by its detector's rate on
//   a list of prompts; names get their anchor's output, as in uce, where train.py takes the empty
//   prompt's; preserved names are kept at every epoch, as by train_artists.py, not by train.py; the
//   empty prompt is kept once, not once a name, so that its weight does not grow with the names;
//   float64 Cholesky instead of float32 inverses; UCE's edit is computed, not loaded
// Needs: known names, anchor and preserved names; no picture, no U-Net evaluation
// Caveats: preset "paper" is for nudity; the authors take regularisation 0.1 and 2 epochs for other
//   unsafe concepts, 0.001 and 1 for styles and for objects that UCE leaves, 0.1 and 1 for others
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "training/closed_form.h"

namespace excise {
namespace {

class Rece : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("epochs", &epochs_, "rounds after UCE's edit; 0 is uce with all_tokens", {0, 1000});
    v.Number("regularisation", &regularisation_,
             "weight of the length of the states that bring the concept back (r)", {.min = 1e-9});
    v.Number("lambda", &lambda_, "UCE's edit: weight of the original map", {.min = 1e-9});
    v.Number("preserve_scale", &preserve_scale_, "UCE's edit: weight of what is kept", {.min = 0});
    v.Number("epoch_lambda", &epoch_lambda_, "an epoch's edit: weight of the map before it",
             {.min = 1e-9});
    v.Number("epoch_preserve_scale", &epoch_preserve_scale_,
             "an epoch's edit: weight of what is kept", {.min = 0});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override { return {{"known_names", "anchor", "preserve"}, true, ""}; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"epochs", 3},
              {"regularisation", 0.1},
              {"lambda", 0.5},
              {"preserve_scale", 1},
              {"epoch_lambda", 0.1},
              {"epoch_preserve_scale", 0.1}}},
            {"smoke", {{"epochs", 1}}}};
  }
  SearchSpace search_space() const override {
    return {{"epochs", {1, 2, 3}},
            {"regularisation", {0.001, 0.01, 0.1, 1}},
            {"epoch_lambda", {0.1, 0.3, 1, 3}},
            {"epoch_preserve_scale", {0.1, 0.3, 1, 3}}};
  }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    const StateDict original = CrossAttentionMaps(base.unet);
    StateDict maps = original;
    Edit(base, concepts, NameTokens::kLastToEnd, {lambda_, preserve_scale_}, {}, &maps);
    for (int64_t epoch = 0; epoch < epochs_; ++epoch) {
      const at::Tensor back = RegenerationMap(original, maps, regularisation_);
      Edit(base, concepts, NameTokens::kAll, {epoch_lambda_, epoch_preserve_scale_}, back, &maps);
    }
    Erased erased;
    erased.unet = MapsAsWeights(maps, base.unet);
    return erased;
  }

 private:
  struct Weights {
    double original, kept;
  };

  // UCE's edit of `maps`, of the names' states times `back` where it is defined. As released, UCE
  // reads a name from its last token on, an epoch reads whole texts, position by position.
  static void Edit(const Backbone& base, const std::vector<Concept>& concepts, NameTokens tokens,
                   const Weights& weights, const at::Tensor& back, StateDict* maps) {
    RidgeEdit edit(base.unet_config.cross_attention_dim, weights.original);
    for (const Concept& subject : concepts) {
      const at::Tensor anchor = NameStates(base, subject.anchor, tokens);
      for (const std::string& name : subject.known) {
        const at::Tensor c = NameStates(base, name, tokens);
        edit.Move(back.defined() ? c.matmul(back) : c, anchor, 1);
      }
      for (const std::string& name : subject.preserve) {
        edit.Keep(NameStates(base, name, tokens), weights.kept);
      }
    }
    edit.Keep(NameStates(base, "", tokens), weights.kept);
    edit.Apply(maps);
  }

  int64_t epochs_ = 1;
  double regularisation_ = 1, lambda_ = 0.3, preserve_scale_ = 3;
  double epoch_lambda_ = 3, epoch_preserve_scale_ = 1;
};

const Registration<Method, Rece> registration;

}  // namespace
}  // namespace excise
