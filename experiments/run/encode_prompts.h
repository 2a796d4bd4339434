// From prompts of any form to what the model reads: tokens, their embeddings, text states, and the
// initial latents.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "datasets/formats/dataset.h"
#include "models/snapshots/backbone.h"

namespace excise {

// A row each.
struct EncodedPrompts {
  at::Tensor ids;         // (n, context) int64; a token that means nothing where embeddings stand
  at::Tensor embeddings;  // (n, context, hidden); undefined where all prompts are texts
  at::Tensor states;      // (n, context, width), as the U-Net gets them
};

// `hooks`, or null: what acts inside the text encoder. Throws Error naming the prompt: embeddings
// without their place in the text, or numbers of another shape than the model's.
EncodedPrompts EncodePrompts(const Backbone& model, const Hooks* hooks,
                             const std::vector<Prompt>& prompts);

// The latents that the prompt brings, initial ones or (PromptDrawing::first_step) those of a
// picture, float (channels, side, side); undefined when it brings none. Throws Error for another
// shape.
at::Tensor OwnLatents(const Backbone& model, const Prompt& prompt);

}  // namespace excise
