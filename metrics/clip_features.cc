#include "metrics/clip_features.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Comparisons with NaN are false, so it would read as "no target" or as no distance at all.
at::Tensor Finite(at::Tensor embeddings, const char* of) {
  if (at::isfinite(embeddings).all().item<bool>()) return embeddings;
  throw Error(fmt::format(
      "A CLIP that metrics use gives embeddings of {} that are not finite: its weights are damaged "
      "or too large. Fetch or train it again.",
      of));
}

}  // namespace

const ClipModel& ReferenceClip(const MetricModels& models, std::string_view metric) {
  if (models.reference_clip) return *models.reference_clip;
  throw Error(fmt::format(
      "Metric '{}' needs a reference CLIP (FOLDER/reference_clip beside the snapshot), or does not "
      "declare it in traits().models. The emoji backbone has one; leave the metric out with "
      "--metrics for other backbones.",
      metric));
}

const ClipModel& ChosenClip(const MetricModels& models, const std::string& choice,
                            std::string_view metric) {
  if (choice == "reference") return ReferenceClip(models, metric);
  const ClipModel* clip = choice == "base" ? models.base_clip : models.independent_clip;
  if (clip) return *clip;
  throw Error(fmt::format(
      "Metric '{}' was told to use {}, and this backbone has none. Choose another with --set "
      "metrics.{}.clip=reference.",
      metric,
      choice == "base" ? "the backbone's own CLIP, whose text encoder needs an image tower"
                       : "an independent CLIP (FOLDER/surrogate_clip)",
      metric));
}

std::string ClipOfChoice(const std::string& choice) { return choice + "_clip"; }

at::Tensor DeliveredImage(const Sample& sample, bool replacement) {
  if (!sample.blocked) return sample.image;
  return replacement ? sample.replacement : at::Tensor();
}

at::Tensor ImageEmbedding(const ClipModel& clip, const at::Tensor& image) {
  const NoGrad no_grad;
  const at::Tensor one = image.to(at::kFloat).div(255).unsqueeze(0);
  return Finite(nn::Normalised(EmbedPictures(clip, one))[0].to(at::kCPU), "a picture");
}

at::Tensor TextEmbeddings(const ClipModel& clip, const std::vector<std::string>& texts) {
  const NoGrad no_grad;
  std::vector<at::Tensor> rows;
  for (const std::string& text : texts) rows.push_back(nn::Normalised(EmbedTexts(clip, {text})));
  return Finite(at::cat(rows).to(at::kCPU), "a text");
}

double LogitScale(const ClipModel& clip) {
  return std::exp(clip.weights.Get("logit_scale").item<double>());
}

}  // namespace excise
