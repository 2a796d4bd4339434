// Closed forms of methods that edit cross-attention: the token states that stand for a name, ridge
// regression of the maps that read them, and the least squares of the opposite direction. All is
// float64 on the CPU; a row is a token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/snapshots/backbone.h"
#include "models/tensors/state_dict.h"

namespace excise {

// B A^-1 for b (rows, width) and a symmetric positive definite a (width, width), of which the lower
// triangle is read; both float64. By Cholesky. Throws Error when `a` is not positive definite or
// something is not finite.
at::Tensor SolveRight(const at::Tensor& b, const at::Tensor& a);

// Which states stand for a text: its last token's; those from its last token to the end of the
// padding; or all. The empty text's last token is the start token.
enum class NameTokens { kLast, kLastToEnd, kAll };

// Text states that stand for `name`, float64 (rows, width), in the order of the tokens. A name that
// is longer than the text encoder's context ends with the last token that fits.
at::Tensor NameStates(const Backbone& base, const std::string& name, NameTokens tokens);

// The maps of `unet` to keys and values of cross-attention, float64 copies (out, width).
StateDict CrossAttentionMaps(const StateDict& unet);
// `maps` as replacements of the tensors of `unet`: float32, each where its original lies.
StateDict MapsAsWeights(const StateDict& maps, const StateDict& unet);

// The edit of "Unified Concept Editing" (Gandikota et al., WACV 2024, arXiv 2308.14761, eq. 7):
// the W that minimises
//   lambda |W - W0|^2 + sum of weight |W c - W0 g|^2 over moves + weight |W p - W0 p|^2 over keeps.
// It is W0 + W0 D A^-1 with A = lambda I + sum of weight c c' + weight p p' and D = sum of weight
// (g - c) c', so one solve serves all maps.
class RidgeEdit {
 public:
  RidgeEdit(int64_t width, double lambda);  // lambda > 0: the weight of the original map
  // States c (rows, width) are to give what g gave, row by row; of unequal texts the first rows.
  void Move(const at::Tensor& c, const at::Tensor& g, double weight);
  // States p (rows, width) are to give what they gave.
  void Keep(const at::Tensor& p, double weight);
  // Edits every map (out, width). Throws Error as SolveRight.
  void Apply(StateDict* maps) const;

 private:
  at::Tensor a_, d_;  // (width, width)
};

// An edit of maps, and the states (n, width) at which it is to hold.
struct MapsAt {
  StateDict maps;
  at::Tensor states;
};
// One edit of `original` for all `edits`: the W that minimises
//   lambda |W - W0|^2 + sum over edits i and their states c of |W c - W_i c|^2
//   + sum of weight |W p - W0 p|^2 over rows p of `kept`.
// Lu et al., CVPR 2024, arXiv 2403.06135, section 4.3. lambda > 0. Throws Error as SolveRight.
StateDict FuseMaps(const StateDict& original, const std::vector<MapsAt>& edits,
                   const at::Tensor& kept, double weight, double lambda);

// The M (width, width) with which rows c M are the states that make `edited` maps give again what
// rows c gave under `original` (the same names): for each row the x that minimises
//   sum over maps |W_edited x - W_original c|^2 + lambda |x|^2,
// so M = (sum W_original' W_edited) (lambda I + sum W_edited' W_edited)^-1. lambda > 0. Gong et
// al., ECCV 2024, arXiv 2407.12383.
at::Tensor RegenerationMap(const StateDict& original, const StateDict& edited, double lambda);

}  // namespace excise
