// What Espresso computes (Das et al., CODASPY 2025, arXiv 2404.19227): the filter's rules, the
// objectives that fine-tune its text encoder, and how far a picture is from another answer. Image
// and text embeddings are rows (batch, projection); those named "unit" are normalised.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace excise {

// Texts that a filter distinguishes: row i is one unacceptable text, (texts, projection), and the
// acceptable texts that it is compared with, (texts, against, projection). All unit.
struct ConceptTexts {
  at::Tensor unacceptable, acceptable;
};

// By how much a picture looks more like an unacceptable text than like each of its acceptable ones,
// as a difference of logits: sigmoid of it is p_u. Of several acceptable texts the best match
// counts (the least difference), then of several unacceptable ones (the largest). (batch, p) unit
// -> (batch). Differentiable.
//   softmax:    scale (cos(x, u) - cos(x, a))
//   projection: |z - a| - |z - u| with z = (d.x) d, d = (u - a) / |u - a|
// Throws UsageError for another rule.
at::Tensor EspressoMargin(const std::string& rule, const at::Tensor& unit_images,
                          const ConceptTexts& texts, double scale);

// A batch of pairs for fine-tuning, (pairs, projection) unit each: pictures of an unacceptable
// prompt and of an acceptable one, and the two prompts.
struct EspressoPairs {
  at::Tensor unacceptable_images, acceptable_images, unacceptable_texts, acceptable_texts;
};

// Group 1, opposites, as we read the paper. With Lc(x, p) the sum of the two cross entropies of
// CLIP's contrastive loss (means over the batch of B) and hats for unit length:
//   alpha [Lc(xu, pu) - Lc(xa, pu) + Lc(xa, pa) - Lc(xu, pa) - sum |tu - ta|^2] / B
at::Tensor EspressoOppositesLoss(const EspressoPairs& pairs, double scale, double alpha);
// Group 1 as released: four of the eight cross entropies are those of other pairs, and all cancel;
// what is left is -alpha sum |tu - ta|^2 / B.
at::Tensor ReleasedOppositesLoss(const EspressoPairs& pairs, double scale, double alpha);
// Groups 2 and 3, as we read the paper: -|Tu - Ta| (Frobenius) of unit rows. (batch, p) unit.
at::Tensor EspressoDistanceLoss(const at::Tensor& unacceptable, const at::Tensor& acceptable);
// Groups 2 and 3 as released: the rows of the difference are normalised first, so it is -sqrt(B)
// whatever the texts are. (batch, p) of any length.
at::Tensor ReleasedDistanceLoss(const at::Tensor& unacceptable, const at::Tensor& acceptable);

// What the filter itself gets wrong, as cross entropy of p_u = sigmoid(EspressoMargin), both kinds
// of pictures with equal weight: (mean -log p_u(unacceptable) + mean -log(1 - p_u(acceptable)))
// / 2. (pictures, p) unit.
at::Tensor EspressoPicturesLoss(const std::string& rule, const at::Tensor& unacceptable_images,
                                const at::Tensor& acceptable_images, const ConceptTexts& texts,
                                double scale);

// The released certificate for the softmax rule, in the space of image embeddings:
//   (1 - s / (s + 2 |p - 0.5|)) |x|
// It is never above |x| / (s + 1). Released for p = p_u and threshold 0.5. With p = sigmoid(logit
// p_u - logit threshold) it holds for any threshold.
// p (batch) in [0,1], norms (batch) -> (batch).
at::Tensor PublishedRadius(const at::Tensor& p, const at::Tensor& norms, double scale);
// How far the embedding x is from the nearest one that the softmax rule answers otherwise. For one
// pair of texts exact: |x| |x.w| / (|x||w|), w = u - a, at threshold 0.5, where the boundary is a
// plane through 0; elsewhere it is a cone about w. Where no direction is answered otherwise: |x|,
// for 0 has no direction. With several texts a lower bound. It is never below PublishedRadius, for
// |w| <= 2 and |logit p| >= 4 |p - 0.5|.
// embeds (batch, p), not normalised -> (batch).
at::Tensor BoundaryDistance(const at::Tensor& embeds, const ConceptTexts& texts, double scale,
                            double threshold);

}  // namespace excise
