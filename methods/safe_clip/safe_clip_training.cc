#include "methods/safe_clip/safe_clip_training.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "core/progress.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "training/trainer.h"

namespace excise {
namespace {

using E = QuadrupletEmbeds;

constexpr SafeClipTermSet kAllTerms = {true, true, true, true, true, true, true, true};
constexpr int64_t kChunk = 32;  // rows embedded together where none are trained

at::Tensor TextRows(const ClipTowers& towers, const at::Tensor& ids, LayerHooks* hooks) {
  return EmbedIds(towers.config.text, towers.weights, ids, ClipPass::kPooledToken, hooks);
}

at::Tensor PictureRows(const ClipTowers& towers, const at::Tensor& pixels, LayerHooks* hooks) {
  return EmbedPixels(towers.config.vision, towers.weights, pixels, ClipPass::kPooledToken, hooks);
}

// Both kinds of one tower in one pass where both are wanted.
template <class Embed>
void EmbedBoth(const at::Tensor& safe, const at::Tensor& unsafe, const Embed& embed,
               at::Tensor* safe_out, at::Tensor* unsafe_out) {
  if (safe.defined() && unsafe.defined()) {
    const at::Tensor both = embed(at::cat({safe, unsafe}));
    *safe_out = both.slice(0, 0, safe.size(0));
    *unsafe_out = both.slice(0, safe.size(0));
    return;
  }
  if (safe.defined()) *safe_out = embed(safe);
  if (unsafe.defined()) *unsafe_out = embed(unsafe);
}

// Everything that an epoch's end needs, by one set of weights.
QuadrupletEmbeds EmbedPart(const ClipTowers& towers, PartReader& reader) {
  const NoGrad no_grad;
  std::vector<at::Tensor> parts[4];
  reader.ForEach(kChunk, [&](const std::vector<int64_t>& rows) {
    const QuadrupletBatch batch = reader.Batch(rows, kAllTerms);
    parts[0].push_back(TextRows(towers, batch.safe_ids, nullptr));
    parts[1].push_back(TextRows(towers, batch.unsafe_ids, nullptr));
    parts[2].push_back(PictureRows(towers, batch.safe_pixels, nullptr));
    parts[3].push_back(PictureRows(towers, batch.unsafe_pixels, nullptr));
  });
  return {at::cat(parts[0]), at::cat(parts[1]), at::cat(parts[2]), at::cat(parts[3]), {}, {}};
}

// The original's embeddings of a part, from the file of an interrupted run where there is one.
ReferenceEmbeds EmbedReference(const ClipTowers& original, PartReader& reader,
                               const std::filesystem::path& file) {
  const NoGrad no_grad;
  const at::Device device = original.weights.Get("text_projection.weight").device();
  if (std::filesystem::exists(file)) {
    const StateDict stored = LoadSafetensors(file, /*upcast=*/false);
    const ReferenceEmbeds found = {stored.Get("text").to(device), stored.Get("vision").to(device)};
    if (found.text.size(0) == reader.size() && found.vision.size(0) == reader.size()) return found;
  }
  std::vector<at::Tensor> texts, pictures;
  Progress progress("safe_clip reference", reader.size(), "rows");
  reader.ForEach(kChunk, [&](const std::vector<int64_t>& rows) {
    const QuadrupletBatch batch = reader.Batch(rows, {});
    texts.push_back(TextRows(original, batch.safe_ids, nullptr));
    pictures.push_back(PictureRows(original, batch.safe_pixels, nullptr));
    progress.Advance(static_cast<int64_t>(rows.size()));
  });
  const ReferenceEmbeds embeds = {at::cat(texts), at::cat(pictures)};
  if (!at::isfinite(at::cat({embeds.text, embeds.vision})).all().item<bool>()) {
    throw Error(
        fmt::format("safe_clip: {} gives embeddings that are not finite, before any training. Its "
                    "weights are damaged or overflow: fetch them again, or use fp32.",
                    original.origin));
  }
  StateDict stored;
  stored.Set("text", embeds.text);
  stored.Set("vision", embeds.vision);
  SaveSafetensors(file, stored);
  return embeds;
}

// The mean over rows of the batches' losses; in-batch negatives are those of training.
double ValidationLoss(const QuadrupletEmbeds& embeds, const SafeClipSpec& spec) {
  const NoGrad no_grad;
  const int64_t n = embeds.text_safe.size(0);
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += spec.batch) {
    const int64_t end = std::min(begin + spec.batch, n);
    const auto rows = [&](const at::Tensor& all) { return all.slice(0, begin, end); };
    const QuadrupletEmbeds batch = {rows(embeds.text_safe),      rows(embeds.text_unsafe),
                                    rows(embeds.vision_safe),    rows(embeds.vision_unsafe),
                                    rows(embeds.text_reference), rows(embeds.vision_reference)};
    sum += QuadrupletLoss(batch, spec.terms, spec.logit_scale).total.item<double>() *
           static_cast<double>(end - begin);
  }
  return sum / static_cast<double>(n);
}

// The weights that adapters change, with the adapters in them.
StateDict Merged(const ClipTowers& original, const StateDict& lora, const LoraSpec& spec) {
  const StateDict all = MergeLora(original.weights, lora, spec);
  StateDict changed;
  for (const auto& [name, tensor] : all) {
    const at::Tensor& old = original.weights.Get(name);
    if (tensor.data_ptr() != old.data_ptr()) changed.Set(name, tensor);
  }
  return changed;
}

// What the loss and the validation of one run share.
class Training {
 public:
  Training(const ClipTowers& original, const QuadrupletSet& data, const SafeClipSpec& spec,
           Context& context);
  SafeClipResult Run();

 private:
  at::Tensor Loss(const StateDict& lora, int64_t step);
  Validation Validate(const StateDict& lora);
  double StateLoss(const ClipTowers& tuned);
  std::vector<int64_t> RowsOf(int64_t step);

  const ClipTowers& original_;
  const SafeClipSpec& spec_;
  Context& context_;
  PartReader train_, validation_;
  const int64_t per_epoch_;
  const uint64_t dropout_seed_;
  const at::Tensor empty_prompt_;         // (1, tokens)
  ReferenceEmbeds reference_, held_out_;  // of the two parts, where the reference is frozen
  int64_t order_of_ = -1;                 // the epoch whose order is `order_`
  std::vector<int64_t> order_;
};

const ClipTowers& Checked(const ClipTowers& towers) {
  CheckTowers(towers);
  return towers;
}

Training::Training(const ClipTowers& original, const QuadrupletSet& data, const SafeClipSpec& spec,
                   Context& context)
    : original_(Checked(original)),
      spec_(spec),
      context_(context),
      train_(original, data, QuadrupletPart::kTrain, spec.train_rows),
      validation_(original, data, QuadrupletPart::kValidation, spec.validation_rows),
      per_epoch_((train_.size() + spec.batch - 1) / spec.batch),
      dropout_seed_(context.Rng("safe_clip/dropout").NextU64()),
      empty_prompt_(
          TokenizeBatch(*original.tokenizer, {""}, original.config.text.max_position_embeddings)) {
  if (!spec.frozen_reference) return;
  const std::string beside = context.CheckpointFile().string();
  reference_ = EmbedReference(original, train_, beside + ".reference");
  held_out_ = EmbedReference(original, validation_, beside + ".validation");
}

std::vector<int64_t> Training::RowsOf(int64_t step) {
  const int64_t epoch = step / per_epoch_, begin = step % per_epoch_ * spec_.batch;
  if (epoch != order_of_) {
    Philox rng = context_.Rng("safe_clip/order", static_cast<uint64_t>(epoch));
    order_ = rng.Permutation(train_.size());
    order_of_ = epoch;
  }
  return {order_.begin() + begin, order_.begin() + std::min(begin + spec_.batch, train_.size())};
}

at::Tensor Training::Loss(const StateDict& lora, int64_t step) {
  const std::vector<int64_t> rows = RowsOf(step);
  LoraHooks hooks(AsLinear(lora), spec_.lora, dropout_seed_);
  hooks.SetStep(step);
  // Without dropout the adapters can be added to the weights once, which is cheaper than to each
  // layer's output.
  const bool drops = spec_.lora.dropout > 0;
  ClipTowers tuned = original_;
  if (!drops) tuned.weights = ApplyLora(original_.weights, lora, spec_.lora);
  ReferenceEmbeds frozen;
  if (spec_.frozen_reference) {
    const at::Tensor index = at::tensor(rows, at::kLong).to(reference_.text.device());
    frozen = {reference_.text.index_select(0, index), reference_.vision.index_select(0, index)};
  }
  LayerHooks* const adapters = drops ? &hooks : nullptr;
  const QuadrupletBatch batch = train_.Batch(rows, spec_.terms);
  const at::Tensor loss = BatchLoss(tuned, batch, spec_.terms, adapters,
                                    spec_.frozen_reference ? &frozen : nullptr, spec_.logit_scale)
                              .total;
  if (!spec_.states.on()) return loss;
  at::Tensor random_texts;
  if (spec_.states.random_words) {
    Philox rng = context_.Rng("safe_clip/random_words", static_cast<uint64_t>(step));
    const int64_t n = std::min(spec_.states.texts, batch.safe_ids.size(0));
    random_texts = WithRandomWords(batch.safe_ids.slice(0, 0, n), original_.config.text, &rng);
  }
  return loss + TokenStateLoss(tuned, original_, batch, empty_prompt_, spec_.states, adapters,
                               random_texts);
}

// Of the whole validation part, the mean over rows.
double Training::StateLoss(const ClipTowers& tuned) {
  const NoGrad no_grad;
  TokenStateTerms all = spec_.states;
  all.texts = kChunk;
  double sum = 0;
  validation_.ForEach(kChunk, [&](const std::vector<int64_t>& rows) {
    const QuadrupletBatch batch = validation_.Batch(rows, {});
    sum += TokenStateLoss(tuned, original_, batch, empty_prompt_, all).item<double>() *
           static_cast<double>(rows.size());
  });
  return sum / static_cast<double>(validation_.size());
}

Validation Training::Validate(const StateDict& lora) {
  ClipTowers tuned = original_;
  tuned.weights = MergeLora(original_.weights, lora, spec_.lora);
  QuadrupletEmbeds embeds = EmbedPart(tuned, validation_);
  embeds.text_reference = spec_.frozen_reference ? held_out_.text : embeds.text_safe;
  embeds.vision_reference = spec_.frozen_reference ? held_out_.vision : embeds.vision_safe;
  double loss = ValidationLoss(embeds, spec_);
  if (spec_.states.on()) loss += StateLoss(tuned);
  return std::vector<double>{loss, -RecallSum(embeds)};
}

SafeClipResult Training::Run() {
  TrainSpec spec;
  spec.steps = spec_.epochs * per_epoch_;
  spec.optimizer.name = "adam";
  spec.optimizer.lr = spec_.lr;
  spec.checkpoint = context_.CheckpointFile();
  spec.checkpoint_every = std::min<int64_t>(per_epoch_, 50);
  spec.validate_every = per_epoch_;
  spec.patience = spec_.patience;
  spec.label = "safe_clip";
  const uint64_t seed = context_.Rng("safe_clip/adapters").NextU64();
  const StateDict fresh = InitLora(original_.weights, spec_.lora, seed);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : fresh) names.push_back(name);
  const TrainResult trained = Train(
      fresh, names, spec,
      [&](const StateDict& lora, int64_t step, int64_t) { return Loss(lora, step); },
      [&](const StateDict& lora) { return Validate(lora); });
  context_.CountGradientSteps(trained.steps_run);

  SafeClipResult result;
  result.by_validation_loss = Merged(original_, trained.best[0], spec_.lora);
  result.by_recall_sum = Merged(original_, trained.best[1], spec_.lora);
  result.losses = trained.losses;
  for (size_t i = 0; i + 1 < trained.validations.size(); i += 2) {
    result.validation_losses.push_back(trained.validations[i]);
    result.recall_sums.push_back(-trained.validations[i + 1]);
  }
  result.reference = reference_;
  result.stopped_early = trained.stopped_early;
  return result;
}

}  // namespace

void CheckTowers(const ClipTowers& towers) {
  for (const char* name : {"text_projection.weight", "visual_projection.weight",
                           "vision_model.embeddings.patch_embedding.weight",
                           "vision_model.embeddings.position_embedding.weight",
                           "vision_model.post_layernorm.weight"}) {
    if (towers.weights.Contains(name)) continue;
    throw Error(
        fmt::format("safe_clip: {} has no '{}': both towers of a CLIP and their projections are "
                    "needed. Name the folder of the whole CLIPModel that the text encoder comes "
                    "from with the parameter 'clip'.",
                    towers.origin, name));
  }
  const auto check = [&](const char* name, std::vector<int64_t> shape) {
    const at::Tensor& tensor = towers.weights.Get(name);
    if (tensor.sizes() == at::IntArrayRef(shape)) return;
    throw Error(
        fmt::format("safe_clip: {}: '{}' is [{}]; with the widths of the other parts it must be "
                    "[{}]. Texts and "
                    "pictures are compared in one space, so both towers must come from one CLIP.",
                    towers.origin, name, fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", ")));
  };
  const ClipVisionConfig& vision = towers.config.vision;
  const int64_t joint = towers.weights.Get("text_projection.weight").size(0);
  const int64_t side = vision.patch_size < 1 ? 0 : vision.image_size / vision.patch_size;
  check("text_projection.weight", {joint, towers.config.text.hidden_size});
  check("visual_projection.weight", {joint, vision.hidden_size});
  check("vision_model.embeddings.patch_embedding.weight",
        {vision.hidden_size, 3, vision.patch_size, vision.patch_size});
  check("vision_model.embeddings.position_embedding.weight", {side * side + 1, vision.hidden_size});
  check("vision_model.post_layernorm.weight", {vision.hidden_size});
}

SafeClipLoss BatchLoss(const ClipTowers& towers, const QuadrupletBatch& batch,
                       const SafeClipTermSet& terms, LayerHooks* hooks,
                       const ReferenceEmbeds* frozen, double logit_scale) {
  const auto texts = [&](const at::Tensor& ids) { return TextRows(towers, ids, hooks); };
  const auto pictures = [&](const at::Tensor& x) { return PictureRows(towers, x, hooks); };
  QuadrupletEmbeds embeds;
  EmbedBoth(Reads(terms, &E::text_safe) ? batch.safe_ids : at::Tensor(),
            Reads(terms, &E::text_unsafe) ? batch.unsafe_ids : at::Tensor(), texts,
            &embeds.text_safe, &embeds.text_unsafe);
  EmbedBoth(Reads(terms, &E::vision_safe) ? batch.safe_pixels : at::Tensor(), batch.unsafe_pixels,
            pictures, &embeds.vision_safe, &embeds.vision_unsafe);
  if (frozen != nullptr) {
    embeds.text_reference = frozen->text;
    embeds.vision_reference = frozen->vision;
  } else {
    const NoGrad no_grad;
    if (Reads(terms, &E::text_reference)) embeds.text_reference = texts(batch.safe_ids);
    if (Reads(terms, &E::vision_reference)) embeds.vision_reference = pictures(batch.safe_pixels);
  }
  return QuadrupletLoss(embeds, terms, logit_scale);
}

LoraSpec SafeClipLora() {
  LoraSpec spec;
  spec.rank = 16;
  spec.alpha = 1;
  spec.dropout = 0.1;
  for (const char* layer : {"k_proj", "v_proj", "out_proj", "fc1", "fc2", "patch_embedding"}) {
    spec.targets.push_back(fmt::format("\\.{}\\.weight$", layer));
  }
  return spec;
}

StateDict AsLinear(const StateDict& lora) {
  StateDict out;
  for (const auto& [name, tensor] : lora) out.Set(name, tensor.flatten(1));
  return out;
}

SafeClipResult TrainSafeClip(const ClipTowers& original, const QuadrupletSet& data,
                             const SafeClipSpec& spec, Context& context) {
  return Training(original, data, spec, context).Run();
}

}  // namespace excise
