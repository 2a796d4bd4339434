#include "methods/safe_clip/safe_clip_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "training/losses.h"

namespace excise {
namespace {

using E = QuadrupletEmbeds;

double LambdaSum() {
  double sum = 0;
  for (const SafeClipTerm& term : SafeClipTerms()) sum += term.lambda;
  return sum;
}

void CheckTerm(const SafeClipTerm& term, const at::Tensor& tuned, const at::Tensor& reference) {
  if (!tuned.defined() || !reference.defined()) {
    throw Error(
        fmt::format("Safe-CLIP's loss: term '{}' is on, but its embeddings are not given. Embed "
                    "every part of the quadruplets that a term reads.",
                    term.name));
  }
  if (tuned.dim() == 2 && tuned.size(0) > 0 && tuned.sizes() == reference.sizes()) return;
  const auto shape = [](const at::Tensor& t) {
    std::string text;
    for (const int64_t size : t.sizes()) text += (text.empty() ? "" : " x ") + std::to_string(size);
    return text;
  };
  throw Error(fmt::format(
      "Safe-CLIP's loss: term '{}' compares embeddings of {} with ones of {}. Texts and "
      "pictures must be projected to one width, and there must be as many of each.",
      term.name, shape(tuned), shape(reference)));
}

double RecallAt1(const at::Tensor& queries, const at::Tensor& candidates) {
  const at::Tensor similarity = at::matmul(queries, candidates.t());
  const at::Tensor own = similarity.diagonal().unsqueeze(1);
  const at::Tensor as_near = similarity.ge(own).sum(1);  // the pair itself is one
  return as_near.eq(1).to(at::kDouble).mean().item<double>();
}

}  // namespace

const std::array<SafeClipTerm, kSafeClipTerms>& SafeClipTerms() {
  static const std::array<SafeClipTerm, kSafeClipTerms> terms = {
      {{"text_safe", "preservation 1", 0.1, false, &E::text_safe, &E::text_reference},
       {"text_nsfw", "redirection 2", 0.1, false, &E::text_unsafe, &E::text_reference},
       {"vision_safe", "preservation 1", 0.1, false, &E::vision_safe, &E::vision_reference},
       {"vision_nsfw", "redirection 2", 0.2, false, &E::vision_unsafe, &E::vision_reference},
       {"S_Vref", "preservation 2", 0.25, true, &E::text_safe, &E::vision_reference},
       {"U_Vref", "redirection 1", 0.25, true, &E::text_unsafe, &E::vision_reference},
       {"V_Sref", "preservation 2", 0.25, true, &E::vision_safe, &E::text_reference},
       {"G_Sref", "redirection 1", 0.5, true, &E::vision_unsafe, &E::text_reference}}};
  return terms;
}

SafeClipTermSet ParseSafeClipTerms(const std::string& text) {
  const auto fail = [&](const std::string& why) {
    throw UsageError(fmt::format(
        "terms '{}': {}. Name terms of the loss by their numbers, 1 to 8, with commas between "
        "them: '1,3,5,7' for the safe ones alone.",
        text, why));
  };
  SafeClipTermSet terms = {};
  size_t begin = 0;
  do {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string number = text.substr(begin, end - begin);
    number.erase(0, number.find_first_not_of(' '));
    number.erase(number.find_last_not_of(' ') + 1);
    if (number.size() != 1 || number[0] < '1' || number[0] > '8') {
      fail(fmt::format("'{}' is no term", number));
    }
    bool& on = terms[static_cast<size_t>(number[0] - '1')];
    if (on) fail(fmt::format("term {} is named twice", number));
    on = true;
    begin = end + 1;
  } while (begin <= text.size());
  return terms;
}

bool Reads(const SafeClipTermSet& terms, at::Tensor QuadrupletEmbeds::*embeds) {
  for (size_t i = 0; i < kSafeClipTerms; ++i) {
    const SafeClipTerm& term = SafeClipTerms()[i];
    if (terms[i] && (term.tuned == embeds || term.reference == embeds)) return true;
  }
  return false;
}

SafeClipLoss QuadrupletLoss(const QuadrupletEmbeds& embeds, const SafeClipTermSet& terms,
                            double logit_scale) {
  SafeClipLoss loss;
  for (size_t i = 0; i < kSafeClipTerms; ++i) {
    if (!terms[i]) continue;
    const SafeClipTerm& term = SafeClipTerms()[i];
    const at::Tensor &tuned = embeds.*term.tuned, &reference = embeds.*term.reference;
    CheckTerm(term, tuned, reference);
    const at::Tensor scale = at::scalar_tensor(logit_scale, tuned.options().requires_grad(false));
    loss.terms[i] = (term.contrastive ? ContrastiveLosses(tuned, reference, scale)
                                      : CosineDistances(tuned, reference))
                        .mean();
    const double weight = term.lambda / LambdaSum() / static_cast<double>(kSafeClipTerms);
    const at::Tensor weighted = loss.terms[i] * weight;
    loss.total = loss.total.defined() ? loss.total + weighted : weighted;
  }
  if (!loss.total.defined()) throw Error("Safe-CLIP's loss: every term is off.");
  return loss;
}

double RecallSum(const QuadrupletEmbeds& embeds) {
  const NoGrad no_grad;
  const at::Tensor safe = nn::Normalised(embeds.text_safe),
                   unsafe = nn::Normalised(embeds.text_unsafe);
  const at::Tensor picture = nn::Normalised(embeds.vision_safe),
                   harmful = nn::Normalised(embeds.vision_unsafe);
  return RecallAt1(safe, picture) + RecallAt1(picture, safe) + RecallAt1(safe, harmful) +
         RecallAt1(harmful, safe) + RecallAt1(unsafe, picture) + RecallAt1(picture, unsafe);
}

}  // namespace excise
