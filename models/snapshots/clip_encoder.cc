#include "models/snapshots/clip_encoder.h"

namespace excise {

at::Tensor EmbedTokens(const ClipTextConfig& config, const StateDict& weights,
                       const at::Tensor& token_embeddings, const at::Tensor& ids, ClipPass pass,
                       LayerHooks* hooks) {
  return ClipTextEmbeds(
      weights,
      pass == ClipPass::kPooledToken
          ? ClipTextPooled(config, weights, token_embeddings, ids, hooks)
          : ClipTextForward(config, weights, token_embeddings, ids, {}, hooks).pooler_output);
}

at::Tensor EmbedIds(const ClipTextConfig& config, const StateDict& weights, const at::Tensor& ids,
                    ClipPass pass, LayerHooks* hooks) {
  return EmbedTokens(config, weights, ClipTokenEmbeddings(weights, ids), ids, pass, hooks);
}

at::Tensor EmbedPixels(const ClipVisionConfig& config, const StateDict& weights,
                       const at::Tensor& pixels, ClipPass pass, LayerHooks* hooks) {
  return ClipImageEmbeds(weights,
                         pass == ClipPass::kPooledToken
                             ? ClipVisionPooled(config, weights, pixels, hooks)
                             : ClipVisionForward(config, weights, pixels, hooks).pooler_output);
}

at::Tensor EmbedTexts(const ClipModel& clip, const std::vector<std::string>& texts) {
  const ClipTextConfig& config = clip.config.text;
  return EmbedIds(config, clip.weights,
                  TokenizeBatch(*clip.tokenizer, texts, config.max_position_embeddings));
}

at::Tensor EmbedPictures(const ClipModel& clip, const at::Tensor& images) {
  const ClipVisionConfig& config = clip.config.vision;
  return EmbedPixels(config, clip.weights, ClipPreprocess(config, images.to(at::kFloat)));
}

}  // namespace excise
