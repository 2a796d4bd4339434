#include "models/nets/clip.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "core/error.h"
#include "models/nets/nn.h"

namespace excise {
namespace {

// Added to the scores of positions that may not be seen. Finite, so that a row without any visible
// position stays finite (as in transformers), and within the range of bfloat16.
constexpr double kMasked = -1e30;
constexpr double kMaskedHalf = -65504;  // float16 ends here

struct TransformerShape {
  int64_t layers, heads;
  double eps;
  const std::string& activation;
};

at::Tensor SplitHeads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

// What the tokens `asks` (batch, asking tokens, hidden) read of all tokens `x`.
at::Tensor SelfAttention(const StateDict& weights, const std::string& prefix,
                         const at::Tensor& asks, const at::Tensor& x, int64_t heads,
                         const at::Tensor& mask, LayerHooks* hooks) {
  const at::Tensor q = SplitHeads(nn::Linear(weights, prefix + ".q_proj", asks, hooks), heads);
  const at::Tensor k = SplitHeads(nn::Linear(weights, prefix + ".k_proj", x, hooks), heads);
  const at::Tensor v = SplitHeads(nn::Linear(weights, prefix + ".v_proj", x, hooks), heads);
  const at::Tensor attended =
      nn::Attention(q, k, v, mask, prefix, hooks).transpose(1, 2).reshape(asks.sizes());
  at::Tensor y = nn::Linear(weights, prefix + ".out_proj", attended, hooks);
  if (hooks != nullptr && hooks->WantsAttention(prefix)) y = hooks->OnAttentionOutput(prefix, y);
  return y;
}

// (batch, tokens, hidden) -> (batch, 1, hidden): the token at each row's position.
at::Tensor TokenAt(const at::Tensor& x, const at::Tensor& positions) {
  return x.gather(1, positions.view({-1, 1, 1}).expand({-1, 1, x.size(2)}));
}

// The rows of an attention mask for one asking token in each text, (batch, 1, 1, tokens).
at::Tensor MaskAt(const at::Tensor& mask, const at::Tensor& positions) {
  const int64_t tokens = mask.size(-1);
  const at::Tensor each = mask.expand({positions.size(0), 1, tokens, tokens});
  return each.gather(2, positions.view({-1, 1, 1, 1}).expand({-1, 1, 1, tokens}));
}

// `wanted` (batch) int64 or undefined: the only position of each row that is read of the last
// layer, whose other tokens are not computed then; (batch, 1, hidden) comes back.
at::Tensor Transformer(const TransformerShape& shape, const StateDict& weights,
                       const std::string& root, at::Tensor x, at::Tensor mask, LayerHooks* hooks,
                       const at::Tensor& wanted = {}) {
  // Hooks may keep what they were handed, so nothing is overwritten under them.
  const auto sum = [&](at::Tensor y) {
    return hooks == nullptr ? nn::Add(std::move(y), x) : x + y;
  };
  for (int64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = fmt::format("{}.encoder.layers.{}", root, i);
    at::Tensor h = nn::LayerNorm(weights, layer + ".layer_norm1", x, shape.eps), asks = h;
    if (wanted.defined() && i + 1 == shape.layers) {
      x = TokenAt(x, wanted);
      asks = TokenAt(h, wanted);
      if (mask.defined()) mask = MaskAt(mask, wanted);
    }
    x = sum(SelfAttention(weights, layer + ".self_attn", asks, h, shape.heads, mask, hooks));
    h = nn::LayerNorm(weights, layer + ".layer_norm2", x, shape.eps);
    h = nn::Activation(shape.activation, nn::Linear(weights, layer + ".mlp.fc1", h, hooks));
    x = sum(nn::Linear(weights, layer + ".mlp.fc2", h, hooks));
  }
  return x;
}

// (tokens, tokens) or, with an attention mask, (batch, 1, tokens, tokens); added to the scores.
at::Tensor CausalMask(int64_t tokens, const at::Tensor& attention_mask,
                      const at::TensorOptions& options) {
  at::Tensor visible = at::ones({tokens, tokens}, options.dtype(at::kBool)).tril();
  if (attention_mask.defined()) {
    const at::Tensor given = attention_mask.to(options.device()).ne(0);
    visible = visible.logical_and(given.view({-1, 1, 1, tokens}));
  }
  const double masked = options.dtype() == at::kHalf ? kMaskedHalf : kMasked;
  return at::where(visible, at::scalar_tensor(0.0, options), at::scalar_tensor(masked, options));
}

// Where each row's text ends, (batch). Equal ids: the first one counts. The search is explicit
// because argmax does not promise which of several maxima it returns.
at::Tensor EndPositions(const ClipTextConfig& config, const at::Tensor& input_ids) {
  const bool legacy = config.eos_token_id == 2;
  const at::Tensor is_end = legacy ? input_ids.eq(std::get<0>(input_ids.max(1, /*keepdim=*/true)))
                                   : input_ids.eq(config.eos_token_id);
  const int64_t tokens = input_ids.size(1);
  const at::Tensor positions = at::arange(tokens, input_ids.options()).expand_as(input_ids);
  const at::Tensor first = std::get<0>(positions.masked_fill(is_end.logical_not(), tokens).min(1));
  // As in transformers, a row without an end token is pooled at its first position.
  return first.masked_fill(first.eq(tokens), 0);
}

// (batch, channels, h, w) -> (batch, patches, channels * side^2): every patch as a convolution of
// stride `side` sees it, row by row; what is over at the edges is left out, as it does.
at::Tensor Patches(const at::Tensor& x, int64_t side) {
  const int64_t batch = x.size(0), channels = x.size(1);
  const int64_t rows = x.size(2) / side, columns = x.size(3) / side;
  return x.narrow(2, 0, rows * side)
      .narrow(3, 0, columns * side)
      .reshape({batch, channels, rows, side, columns, side})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch, rows * columns, channels * side * side});
}

// Antialiased bicubic (a = -0.5), the kernel of Pillow.
at::Tensor Resize(const at::Tensor& x, int64_t height, int64_t width) {
  if (x.size(2) == height && x.size(3) == width) return x;
  const std::vector<int64_t> size = {height, width};
  return at::_upsample_bicubic2d_aa(x, size, /*align_corners=*/false, std::optional<double>(),
                                    std::optional<double>())
      .clamp(0, 1);
}

void InitEncoder(const std::string& root, int64_t hidden, int64_t intermediate, int64_t layers,
                 uint64_t seed, StateDict* weights) {
  const double width = static_cast<double>(hidden);
  const double in_deviation = std::pow(width, -0.5) * std::pow(2.0 * layers, -0.5);
  auto linear = [&](const std::string& prefix, int64_t out, int64_t in, double deviation) {
    const std::string name = prefix + ".weight";
    weights->Set(name, nn::InitNormal({out, in}, deviation, seed, name));
    weights->Set(prefix + ".bias", at::zeros({out}, at::kFloat));
  };
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = fmt::format("{}.encoder.layers.{}", root, i);
    for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
      linear(layer + ".self_attn." + part, hidden, hidden, in_deviation);
    }
    linear(layer + ".self_attn.out_proj", hidden, hidden, std::pow(width, -0.5));
    linear(layer + ".mlp.fc1", intermediate, hidden, std::pow(2.0 * width, -0.5));
    linear(layer + ".mlp.fc2", hidden, intermediate, in_deviation);
    nn::InitNorm(weights, layer + ".layer_norm1", hidden);
    nn::InitNorm(weights, layer + ".layer_norm2", hidden);
  }
}

}  // namespace

at::Tensor ClipTokenEmbeddings(const StateDict& weights, const at::Tensor& input_ids) {
  const at::Tensor& table = weights.Get("text_model.embeddings.token_embedding.weight");
  return at::embedding(table, input_ids.to(table.device()));
}

namespace {

// The text transformer before its final norm; `wanted` as Transformer has it.
at::Tensor TextStates(const ClipTextConfig& config, const StateDict& weights,
                      const at::Tensor& token_embeddings, const at::Tensor& attention_mask,
                      LayerHooks* hooks, const at::Tensor& wanted = {}) {
  const int64_t tokens = token_embeddings.size(1);
  const at::Tensor& positions = weights.Get("text_model.embeddings.position_embedding.weight");
  if (tokens > positions.size(0)) {
    throw Error(
        fmt::format("A prompt of {} tokens does not fit the text encoder, which has {} "
                    "positions. Pad or cut prompts to the tokenizer's model_max_length.",
                    tokens, positions.size(0)));
  }
  const at::Tensor h = token_embeddings + positions.narrow(0, 0, tokens);
  const at::Tensor mask = CausalMask(tokens, attention_mask, h.options().requires_grad(false));
  return nn::LayerNorm(weights, "text_model.final_layer_norm",
                       Transformer({config.num_hidden_layers, config.num_attention_heads,
                                    config.layer_norm_eps, config.hidden_act},
                                   weights, "text_model", h, mask, hooks, wanted),
                       config.layer_norm_eps);
}

// The vision transformer's last layer; `wanted` as Transformer has it.
at::Tensor VisionStates(const ClipVisionConfig& config, const StateDict& weights,
                        const at::Tensor& pixel_values, LayerHooks* hooks,
                        const at::Tensor& wanted = {}) {
  const std::string root = "vision_model.embeddings.", embedding = root + "patch_embedding";
  const at::Tensor pixels = nn::As(weights, embedding + ".weight", pixel_values);
  at::Tensor patches = nn::Conv2d(weights, embedding, pixels, config.patch_size);
  patches = patches.flatten(2).transpose(1, 2);
  if (hooks != nullptr && hooks->WantsLinear(embedding)) {
    patches = hooks->OnLinear(embedding, Patches(pixels, config.patch_size), patches);
  }
  const at::Tensor& positions = weights.Get(root + "position_embedding.weight");
  if (patches.size(1) + 1 != positions.size(0)) {
    throw Error(
        fmt::format("Images of {} x {} give {} patches, but the vision model has positions "
                    "for {}. Resize them to {} with ClipPreprocess.",
                    pixel_values.size(2), pixel_values.size(3), patches.size(1),
                    positions.size(0) - 1, config.image_size));
  }
  const at::Tensor start = weights.Get(root + "class_embedding")
                               .to(patches.scalar_type())
                               .expand({patches.size(0), 1, patches.size(2)});
  at::Tensor h = at::cat({start, patches}, 1) + positions;
  h = nn::LayerNorm(weights, "vision_model.pre_layrnorm", h, config.layer_norm_eps);
  return Transformer({config.num_hidden_layers, config.num_attention_heads, config.layer_norm_eps,
                      config.hidden_act},
                     weights, "vision_model", h, {}, hooks, wanted);
}

// Of the class token, which stands first.
at::Tensor PooledVision(const ClipVisionConfig& config, const StateDict& weights,
                        const at::Tensor& states) {
  return nn::LayerNorm(weights, "vision_model.post_layernorm", states.select(1, 0),
                       config.layer_norm_eps);
}

}  // namespace

ClipTextOutput ClipTextForward(const ClipTextConfig& config, const StateDict& weights,
                               const at::Tensor& token_embeddings, const at::Tensor& input_ids,
                               const at::Tensor& attention_mask, LayerHooks* hooks) {
  const at::Tensor states = TextStates(config, weights, token_embeddings, attention_mask, hooks);
  const at::Tensor end = EndPositions(config, input_ids.to(states.device()));
  return {states, TokenAt(states, end).squeeze(1)};
}

at::Tensor ClipTextPooled(const ClipTextConfig& config, const StateDict& weights,
                          const at::Tensor& token_embeddings, const at::Tensor& input_ids,
                          LayerHooks* hooks) {
  const at::Tensor end = EndPositions(config, input_ids.to(token_embeddings.device()));
  // The encoder is causal: what stands behind the last end token is read by none that is pooled.
  const int64_t used = end.max().item<int64_t>() + 1;
  return TextStates(config, weights, token_embeddings.narrow(1, 0, used), {}, hooks, end)
      .squeeze(1);
}

ClipVisionOutput ClipVisionForward(const ClipVisionConfig& config, const StateDict& weights,
                                   const at::Tensor& pixel_values, LayerHooks* hooks) {
  const at::Tensor states = VisionStates(config, weights, pixel_values, hooks);
  return {states, PooledVision(config, weights, states)};
}

at::Tensor ClipVisionPooled(const ClipVisionConfig& config, const StateDict& weights,
                            const at::Tensor& pixel_values, LayerHooks* hooks) {
  const at::Tensor first =
      at::zeros({pixel_values.size(0)}, pixel_values.options().dtype(at::kLong));
  return PooledVision(config, weights, VisionStates(config, weights, pixel_values, hooks, first));
}

at::Tensor ClipTextEmbeds(const StateDict& weights, const at::Tensor& pooler_output) {
  return nn::Linear(weights, "text_projection", pooler_output);
}

at::Tensor ClipImageEmbeds(const StateDict& weights, const at::Tensor& pooler_output) {
  return nn::Linear(weights, "visual_projection", pooler_output);
}

at::Tensor ClipPreprocess(const ClipVisionConfig& config, const at::Tensor& images) {
  const int64_t size = config.image_size, height = images.size(2), width = images.size(3);
  at::Tensor x = images;
  if (height != size || width != size) {
    // The short edge becomes `size`; the long one is rounded down, as in CLIPImageProcessor.
    const int64_t shorter = std::min(height, width);
    const int64_t to_height = height == shorter ? size : size * height / shorter;
    const int64_t to_width = width == shorter ? size : size * width / shorter;
    // Columns first, then rows, each clamped: the kernel overshoots, and Pillow's 8-bit passes
    // cannot.
    x = Resize(x, height, to_width);
    x = Resize(x, to_height, to_width);
    x = x.narrow(2, (to_height - size) / 2, size).narrow(3, (to_width - size) / 2, size);
  }
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor mean = at::tensor({0.48145466, 0.4578275, 0.40821073}, options);
  const at::Tensor deviation = at::tensor({0.26862954, 0.26130258, 0.27577711}, options);
  return (x - mean.to(x.options()).view({1, 3, 1, 1})) /
         deviation.to(x.options()).view({1, 3, 1, 1});
}

StateDict InitClip(const ClipConfig& config, uint64_t seed) {
  StateDict weights;
  auto normal = [&](const std::string& name, at::IntArrayRef shape, double deviation) {
    weights.Set(name, nn::InitNormal(shape, deviation, seed, name));
  };
  const ClipTextConfig& text = config.text;
  const std::string text_root = "text_model.embeddings.";
  normal(text_root + "token_embedding.weight", {text.vocab_size, text.hidden_size}, 0.02);
  normal(text_root + "position_embedding.weight", {text.max_position_embeddings, text.hidden_size},
         0.02);
  InitEncoder("text_model", text.hidden_size, text.intermediate_size, text.num_hidden_layers, seed,
              &weights);
  nn::InitNorm(&weights, "text_model.final_layer_norm", text.hidden_size);

  const ClipVisionConfig& vision = config.vision;
  const std::string vision_root = "vision_model.embeddings.";
  const int64_t side = vision.image_size / vision.patch_size;
  const double vision_deviation = std::pow(static_cast<double>(vision.hidden_size), -0.5);
  normal(vision_root + "class_embedding", {vision.hidden_size}, vision_deviation);
  normal(vision_root + "patch_embedding.weight",
         {vision.hidden_size, 3, vision.patch_size, vision.patch_size}, 0.02);
  normal(vision_root + "position_embedding.weight", {side * side + 1, vision.hidden_size}, 0.02);
  nn::InitNorm(&weights, "vision_model.pre_layrnorm", vision.hidden_size);
  InitEncoder("vision_model", vision.hidden_size, vision.intermediate_size,
              vision.num_hidden_layers, seed, &weights);
  nn::InitNorm(&weights, "vision_model.post_layernorm", vision.hidden_size);

  normal("text_projection.weight", {config.projection_dim, text.hidden_size},
         std::pow(static_cast<double>(text.hidden_size), -0.5));
  normal("visual_projection.weight", {config.projection_dim, vision.hidden_size}, vision_deviation);
  weights.Set("logit_scale", at::scalar_tensor(2.6592, at::kFloat));  // log(1 / 0.07)
  return weights;
}

}  // namespace excise
