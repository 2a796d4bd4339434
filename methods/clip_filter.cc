#include "methods/clip_filter.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/pictures/picture_file.h"
#include "models/snapshots/clip_encoder.h"
#include "models/snapshots/snapshot.h"

namespace excise {

void ClipFilterParams::Fields(ParamVisitor& v) {
  v.Path("clip", &clip,
         "folder of the CLIPModel that sees the pictures; none: the backbone's own, where its text "
         "encoder is a whole CLIP");
  v.Path("replacement", &replacement,
         "picture (PNG or JPEG) that is delivered instead of a blocked one; none: black");
}

ClipModel FilterClip(const Backbone& base, const std::string& clip, std::string_view method) {
  if (!clip.empty()) {
    const std::filesystem::path folder = clip;
    // LoadClipModel would look beside it, which the folder's digest does not cover.
    if (!HoldsTokenizer(folder) && !HoldsTokenizer(folder / "tokenizer")) {
      throw Error(
          fmt::format("{}: {} holds no tokenizer (vocab.json and merges.txt, or tokenizer.json). "
                      "Copy the files "
                      "of its tokenizer into it.",
                      method, clip));
    }
    return LoadClipModel(folder);
  }
  for (const char* name : {"visual_projection.weight", "text_projection.weight", "logit_scale",
                           "vision_model.post_layernorm.weight"}) {
    if (base.text_encoder.Contains(name)) continue;
    throw Error(fmt::format(
        "{}: the text encoder of backbone '{}' has no '{}', so it is no whole CLIP and cannot see "
        "pictures. Name the folder of a CLIPModel with --set methods.{}.clip=DIR (for Stable "
        "Diffusion 1: openai/clip-vit-large-patch14).",
        method, base.name, name, method));
  }
  ClipModel own;
  own.folder = base.folder / "text_encoder";
  own.config = base.clip;
  own.tokenizer = base.tokenizer;
  own.weights = base.text_encoder;
  own.digest = base.digest;
  return own;
}

at::Tensor FilterPictures(const ClipModel& clip, const at::Tensor& images) {
  return EmbedPictures(clip, images).to(at::kFloat);
}

at::Tensor FilterTexts(const ClipModel& clip, const StateDict& weights,
                       const std::vector<std::string>& texts) {
  const ClipTextConfig& config = clip.config.text;
  const at::Tensor ids = TokenizeBatch(*clip.tokenizer, texts, config.max_position_embeddings);
  return nn::Normalised(EmbedIds(config, weights, ids));
}

double FilterLogitScale(const ClipModel& clip) {
  return std::exp(clip.weights.Get("logit_scale").item<double>());
}

double Logit(double p) { return std::log(p / (1 - p)); }

void RequireTexts(const std::vector<Concept>& concepts, bool anchor, std::string_view method) {
  if (concepts.empty()) throw Error(fmt::format("{}: there is no concept to filter.", method));
  for (const Concept& subject : concepts) {
    if (subject.known.empty()) {
      throw Error(fmt::format("{}: concept '{}' has no known name (names/known in its file).",
                              method, subject.name));
    }
    if (anchor && subject.anchor.empty()) {
      throw Error(fmt::format(
          "{}: concept '{}' has no anchor, the acceptable text that pictures are compared with. "
          "Set \"anchor\" in its file.",
          method, subject.name));
    }
  }
}

ClipFilter::ClipFilter(ClipModel clip, double threshold, const std::string& replacement)
    : clip_(std::move(clip)), threshold_(threshold) {
  if (!replacement.empty()) replacement_ = ReadPicture(replacement).to(at::kFloat).div(255);
}

at::Tensor ClipFilter::Score(const at::Tensor& images) const {
  return ScoreEmbeddings(FilterPictures(clip_, images));
}

at::Tensor ClipFilter::Margin(const at::Tensor& images) const {
  return MarginEmbeddings(FilterPictures(clip_, images));
}

at::Tensor ClipFilter::MarginEmbeddings(const at::Tensor& embeds) const {
  return ScoreEmbeddings(embeds) - threshold_;
}

at::Tensor ClipFilter::Replacement(int64_t height, int64_t width) const {
  if (!replacement_.defined()) return ImageFilter::Replacement(height, width);
  if (replacement_.size(1) == height && replacement_.size(2) == width) return replacement_;
  const std::vector<int64_t> size = {height, width};
  return at::_upsample_bicubic2d_aa(replacement_.unsqueeze(0), size, /*align_corners=*/false,
                                    std::optional<double>(), std::optional<double>())
      .clamp(0, 1)[0];
}

}  // namespace excise
