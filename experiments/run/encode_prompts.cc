#include "experiments/run/encode_prompts.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

at::Tensor TensorOf(const NpyArray& array, const std::vector<int64_t>& shape, const Prompt& prompt,
                    const char* what) {
  if (array.shape == shape) return at::tensor(array.values, at::kFloat).view(shape);
  throw Error(
      fmt::format("prompt {}: its {} have the shape ({}), and this model takes ({}). They were "
                  "probably made for another model.",
                  prompt.id, what, fmt::join(array.shape, ", "), fmt::join(shape, ", ")));
}

// The text around the embeddings' place.
PromptGap GapOf(const Backbone& model, const Prompt& prompt, const TokenEmbeddings& embeddings) {
  const std::string placeholder = kPlaceholder;
  const size_t place = prompt.text.find(placeholder);
  const bool once = place != std::string::npos &&
                    prompt.text.find(placeholder, place + placeholder.size()) == std::string::npos;
  if (!once || embeddings.rows.shape.empty()) {
    throw Error(fmt::format("prompt {}: it brings embeddings, so its text '{}' must hold {} once.",
                            prompt.id, prompt.text, placeholder));
  }
  return MakePromptGap(*model.tokenizer, prompt.text.substr(0, place),
                       prompt.text.substr(place + placeholder.size()),
                       embeddings.rows.shape.front(), model.clip.text.max_position_embeddings);
}

}  // namespace

EncodedPrompts EncodePrompts(const Backbone& model, const Hooks* hooks,
                             const std::vector<Prompt>& prompts) {
  const ClipTextConfig& clip = model.clip.text;
  EncodedPrompts encoded;
  std::vector<PromptGap> gaps(prompts.size());
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto* embeddings = std::get_if<TokenEmbeddings>(&prompts[i].driver);
    if (embeddings != nullptr) gaps[i] = GapOf(model, prompts[i], *embeddings);
    rows.push_back(embeddings != nullptr ? gaps[i].ids
                                         : TokenizeBatch(*model.tokenizer, {prompts[i].text},
                                                         clip.max_position_embeddings));
  }
  encoded.ids = at::cat(rows);
  const auto is_text = [](const Prompt& prompt) { return prompt.form() == PromptForm::kText; };
  if (std::all_of(prompts.begin(), prompts.end(), is_text)) {
    encoded.states = EncodeText(model, encoded.ids, hooks);
    return encoded;
  }
  encoded.embeddings = ClipTokenEmbeddings(model.text_encoder, encoded.ids).clone();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto* embeddings = std::get_if<TokenEmbeddings>(&prompts[i].driver);
    if (embeddings == nullptr) continue;
    encoded.embeddings[static_cast<int64_t>(i)]
        .narrow(0, gaps[i].position, gaps[i].length)
        .copy_(TensorOf(embeddings->rows, {gaps[i].length, clip.hidden_size}, prompts[i],
                        "token embeddings"));
  }
  encoded.states = EncodeTokens(model, encoded.embeddings, encoded.ids, hooks).clone();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto* states = std::get_if<TextStates>(&prompts[i].driver);
    if (states == nullptr) continue;
    encoded.states[static_cast<int64_t>(i)].copy_(TensorOf(
        states->rows, {clip.max_position_embeddings, clip.hidden_size}, prompts[i], "text states"));
  }
  return encoded;
}

at::Tensor OwnLatents(const Backbone& model, const Prompt& prompt) {
  if (prompt.latents.values.empty()) return {};
  const int64_t side = model.unet_config.sample_size;
  return TensorOf(prompt.latents, {model.unet_config.in_channels, side, side}, prompt,
                  "initial latents");
}

}  // namespace excise
