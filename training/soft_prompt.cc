#include "training/soft_prompt.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Ends no text and pads none, wherever it stands.
int64_t PlainToken(const Tokenizer& tokenizer) {
  int64_t id = 0;
  while (id == tokenizer.bos_id() || id == tokenizer.eos_id() || id == tokenizer.pad_id()) ++id;
  return id;
}

// Euclidean lengths of the rows, shaped (n, 1, ...) to multiply `x`.
at::Tensor RowLengths(const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return x.flatten(1).norm(2, {1}, /*keepdim=*/true).view(shape);
}

void CheckBall(const Ball& ball) {
  static const std::vector<std::string> known = {"l2", "linf"};
  if (!IsOneOf(ball.norm, known)) {
    throw UsageError(
        fmt::format("Unknown norm '{}'.{}", ball.norm, DidYouMeanOrKnown(ball.norm, known)));
  }
  if (!(ball.radius >= 0)) {
    throw UsageError(fmt::format("The radius of a ball is {}; it must be >= 0.", ball.radius));
  }
}

}  // namespace

at::Tensor FrameIds(const Tokenizer& tokenizer, const at::Tensor& ids, int64_t context) {
  const int64_t n = ids.size(0), length = ids.size(1);
  if (length + 2 > context) {
    throw UsageError(fmt::format(
        "A prompt of {} tokens does not fit the text encoder's context of {} tokens with start and "
        "end token; at most {} can be used. Shorten it (attacks: prompt_len).",
        length, context, context - 2));
  }
  const auto column = [&](int64_t id, int64_t width) {
    return at::full({n, width}, id, at::kLong);
  };
  return at::cat({column(tokenizer.bos_id(), 1), ids, column(tokenizer.eos_id(), 1),
                  column(tokenizer.pad_id(), context - length - 2)},
                 1);
}

PromptGap MakePromptGap(const Tokenizer& tokenizer, const std::string& before,
                        const std::string& after, int64_t length, int64_t context) {
  std::vector<int64_t> ids = tokenizer.Encode(before);
  const auto position = static_cast<int64_t>(ids.size());
  ids.insert(ids.end(), static_cast<size_t>(length), PlainToken(tokenizer));
  const std::vector<int64_t> rest = tokenizer.Encode(after);
  ids.insert(ids.end(), rest.begin(), rest.end());
  return {FrameIds(tokenizer, at::tensor(ids, at::kLong).unsqueeze(0), context), 1 + position,
          length};
}

at::Tensor PlaceTokens(const at::Tensor& embeddings, const at::Tensor& soft, int64_t position) {
  const int64_t n = std::max(embeddings.size(0), soft.size(0)), end = position + soft.size(1);
  const auto rows = [&](const at::Tensor& x) { return x.expand({n, -1, -1}); };
  return at::cat({rows(embeddings.narrow(1, 0, position)), rows(soft),
                  rows(embeddings.narrow(1, end, embeddings.size(1) - end))},
                 1);
}

at::Tensor EncodeSoftPrompt(const Backbone& model, const PromptGap& gap, const at::Tensor& soft,
                            const Hooks* hooks) {
  if (soft.dim() != 3 || soft.size(1) != gap.length) {
    throw Error(fmt::format(
        "A gap of {} tokens takes (n, {}, hidden) embeddings, not {} dimensions with {} tokens.",
        gap.length, gap.length, soft.dim(), soft.dim() > 1 ? soft.size(1) : 0));
  }
  const at::Tensor embeddings =
      PlaceTokens(ClipTokenEmbeddings(model.text_encoder, gap.ids), soft, gap.position);
  return EncodeTokens(model, embeddings, gap.ids.expand({soft.size(0), -1}), hooks);
}

at::Tensor InversionLosses(const Backbone& model, const PromptGap& gap, const at::Tensor& soft,
                           const at::Tensor& latents, const DiffusionDraw& draw,
                           LayerHooks* hooks) {
  const at::Tensor states = EncodeSoftPrompt(model, gap, soft).expand({latents.size(0), -1, -1});
  return DenoisingLosses(model.unet_config, model.scheduler, model.unet, latents, states, draw,
                         hooks);
}

at::Tensor ProjectToBall(const at::Tensor& delta, const Ball& ball) {
  CheckBall(ball);
  if (ball.norm == "linf") return delta.clamp(-ball.radius, ball.radius);
  // A row inside is multiplied by 1, so it keeps its bits.
  return delta * (ball.radius / RowLengths(delta).clamp_min(1e-12)).clamp_max(1);
}

at::Tensor ProjectedStep(const at::Tensor& delta, const at::Tensor& gradient, const Ball& ball,
                         double step) {
  CheckBall(ball);
  const NoGrad no_grad;
  const at::Tensor uphill =
      ball.norm == "linf" ? gradient.sign() : gradient / RowLengths(gradient).clamp_min(1e-12);
  return ProjectToBall(delta - step * uphill, ball);
}

}  // namespace excise
