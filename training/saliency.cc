#include "training/saliency.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/kthvalue.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

std::vector<at::Tensor> GradientsOf(const at::Tensor& loss, const std::vector<at::Tensor>& leaves,
                                    int64_t sample) {
  const bool scalar = loss.defined() && loss.numel() == 1;
  if (!scalar || !loss.requires_grad() || !std::isfinite(loss.item<double>())) {
    throw Error(fmt::format(
        "Gradients by sample: the loss of sample {} {}", sample,
        !scalar ? "is not a scalar; reduce it with mean()"
        : !loss.requires_grad()
            ? "depends on none of the tensors asked for; check the names, and that no NoGrad scope "
              "is open"
            : "is not finite; the weights or the sample are damaged"));
  }
  return Gradients(loss, leaves);
}

// The mean over samples of `of`(gradient), by name.
template <class Of>
StateDict MeanOf(const StateDict& weights, const std::vector<std::string>& names, int64_t samples,
                 const SampleLoss& loss, const Of& of) {
  if (samples < 1 || names.empty()) {
    throw UsageError(
        fmt::format("Gradients by sample need at least one sample and one tensor; got {} and {}.",
                    samples, names.size()));
  }
  StateDict with_leaves = weights;
  std::vector<at::Tensor> leaves, sums;
  for (const std::string& name : names) {
    leaves.push_back(weights.Get(name).detach().clone().requires_grad_(true));
    sums.push_back(at::zeros_like(leaves.back().detach()));
    with_leaves.Set(name, leaves.back());
  }
  for (int64_t sample = 0; sample < samples; ++sample) {
    const std::vector<at::Tensor> gradients =
        GradientsOf(loss(with_leaves, sample), leaves, sample);
    for (size_t i = 0; i < sums.size(); ++i) {
      if (gradients[i].defined()) sums[i].add_(of(gradients[i]));
    }
  }
  StateDict means;
  for (size_t i = 0; i < sums.size(); ++i) {
    means.Set(names[i], sums[i].div_(static_cast<double>(samples)));
  }
  return means;
}

}  // namespace

StateDict MeanGradients(const StateDict& weights, const std::vector<std::string>& names,
                        int64_t samples, const SampleLoss& loss) {
  return MeanOf(weights, names, samples, loss, [](const at::Tensor& g) { return g; });
}

StateDict FisherDiagonal(const StateDict& weights, const std::vector<std::string>& names,
                         int64_t samples, const SampleLoss& loss) {
  return MeanOf(weights, names, samples, loss, [](const at::Tensor& g) { return g.square(); });
}

StateDict LargestMask(const StateDict& scores, double fraction) {
  if (!(fraction > 0 && fraction <= 1)) {
    throw UsageError(fmt::format("A mask's fraction is {}; it must be in (0, 1].", fraction));
  }
  std::vector<at::Tensor> parts;
  for (const auto& [name, score] : scores) {
    parts.push_back(score.detach().abs().flatten());
    if (at::isfinite(parts.back()).all().item<bool>()) continue;
    throw Error(
        fmt::format("The scores of '{}' are not finite, so none of them is largest.", name));
  }
  const at::Tensor all = parts.empty() ? at::Tensor() : at::cat(parts);
  const int64_t n = all.defined() ? all.numel() : 0;
  const auto taken = static_cast<int64_t>(std::floor(fraction * static_cast<double>(n)));
  if (taken == 0) {
    throw UsageError(fmt::format(
        "A mask of {} of {} numbers takes none of them. Raise the fraction.", fraction, n));
  }
  const double least = std::get<0>(all.kthvalue(n - taken + 1)).item<double>();
  StateDict mask;
  for (const auto& [name, score] : scores) {
    const at::Tensor size = score.detach().abs();
    mask.Set(name, size.ge(least).logical_and(size.gt(0)));
  }
  return mask;
}

StateDict AboveMask(const StateDict& scores, double threshold) {
  StateDict mask;
  for (const auto& [name, score] : scores) mask.Set(name, score.detach().abs().gt(threshold));
  return mask;
}

std::vector<at::Tensor> MasksOf(const StateDict& masks, const std::vector<std::string>& names,
                                const std::vector<at::Tensor>& parameters) {
  for (const auto& [name, mask] : masks) {
    if (IsOneOf(name, names)) continue;
    throw UsageError(fmt::format("There is a mask for '{}', which is not trained.{}", name,
                                 DidYouMean(name, names)));
  }
  std::vector<at::Tensor> in_order(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    if (!masks.Contains(names[i])) continue;
    const at::Tensor& mask = masks.Get(names[i]);
    if (mask.scalar_type() != at::kBool || mask.sizes() != parameters[i].sizes()) {
      throw UsageError(
          fmt::format("The mask of '{}' is {} of [{}]; it must be bool of [{}], as the parameter.",
                      names[i], c10::toString(mask.scalar_type()), fmt::join(mask.sizes(), ", "),
                      fmt::join(parameters[i].sizes(), ", ")));
    }
    in_order[i] = mask.to(parameters[i].device());
  }
  return in_order;
}

std::string MaskDigest(const StateDict& masks) {
  Sha256 sha;
  for (const auto& [name, mask] : masks) {
    const at::Tensor bytes = mask.cpu().contiguous();
    sha.Update(name);
    sha.Update(bytes.data_ptr(), bytes.nbytes());
  }
  return sha.Hex();
}

}  // namespace excise
