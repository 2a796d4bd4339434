// The loss of Safe-CLIP and what chooses its checkpoint (Poppi et al., ECCV 2024, arXiv 2311.16254;
// aimagelab/safe-clip @ a638c0a, training/train.py, losses.py, validation.py).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <string>

namespace excise {

// Projected embeddings of quadruplets, (batch, dim) each, row i of quadruplet i; they need not be
// normalised. Undefined where nothing that is asked for reads them.
struct QuadrupletEmbeds {
  at::Tensor text_safe, text_unsafe, vision_safe, vision_unsafe;  // T(t), T(t*), V(v), V(v*)
  at::Tensor text_reference, vision_reference;  // T0(t), V0(v) of the reference; no gradient
};

struct SafeClipTerm {
  const char *name, *role;  // as in the released code; as in the paper
  double lambda;            // raw weight
  bool contrastive;         // else cosine distance
  at::Tensor QuadrupletEmbeds::*tuned;
  at::Tensor QuadrupletEmbeds::*reference;
};
// In the order of the released code; their sum is 1.75.
constexpr size_t kSafeClipTerms = 8;
const std::array<SafeClipTerm, kSafeClipTerms>& SafeClipTerms();

// Which of the terms are on.
using SafeClipTermSet = std::array<bool, kSafeClipTerms>;
// "1,3,5,7": numbers from 1, each at most once, at least one. Throws UsageError.
SafeClipTermSet ParseSafeClipTerms(const std::string& text);
// Whether a term that is on reads these embeddings.
bool Reads(const SafeClipTermSet& terms, at::Tensor QuadrupletEmbeds::*embeds);

// The released code's: 1 / 0.01, which is also what OpenAI's CLIPs were trained to.
constexpr double kSafeClipLogitScale = 100;

struct SafeClipLoss {
  at::Tensor total;                              // scalar
  std::array<at::Tensor, kSafeClipTerms> terms;  // unweighted scalars; undefined where off
};
// sum over the terms that are on of (lambda / 1.75) L / 8. A term that is off adds nothing and the
// weights of the others stay as they are, so that each term weighs the same in every ablation.
// Cosine terms: mean over the batch of 1 - cos. Contrastive ones: the mean of both directions'
// cross entropies of logit_scale * cos against the pairs (in-batch negatives alone). Throws Error
// where a term that is on lacks its embeddings, or where their widths or numbers of rows differ.
SafeClipLoss QuadrupletLoss(const QuadrupletEmbeds& embeds, const SafeClipTermSet& terms,
                            double logit_scale = kSafeClipLogitScale);

// The released code's second criterion: the sum of R@1 of S->V, V->S, S->G, G->S, U->V and V->U
// (S, U: safe and unsafe texts; V, G: safe and unsafe pictures), in [0, 6]. A query counts when its
// pair is more similar than every other candidate: a tie is no hit.
double RecallSum(const QuadrupletEmbeds& embeds);

}  // namespace excise
