#include "attacks/victim_text.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "attacks/alarm.h"
#include "attacks/names_in_text.h"
#include "core/error.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

bool SameVocabulary(const Tokenizer& a, const Tokenizer& b) {
  if (&a == &b) return true;
  if (a.vocab_size() != b.vocab_size() || a.bos_id() != b.bos_id() || a.eos_id() != b.eos_id() ||
      a.pad_id() != b.pad_id()) {
    return false;
  }
  for (int64_t id = 0; id < a.vocab_size(); ++id) {
    if (a.Decode({id}) != b.Decode({id})) return false;
  }
  return true;
}

// Whether `victim` encodes text as `base` does. What only `base` has (a vision part) is no matter.
bool SameTextEncoder(const StateDict& victim, const StateDict& base) {
  for (const auto& [name, tensor] : victim) {
    if (!StartsWith(name, "text_model.") && name != "text_projection.weight") continue;
    if (!base.Contains(name)) continue;
    const at::Tensor& other = base.Get(name);
    if (tensor.is_same(other) || tensor.data_ptr() == other.data_ptr()) continue;
    if (tensor.sizes() != other.sizes() || !tensor.equal(other)) return false;
  }
  return true;
}

}  // namespace

VictimText::VictimText(Target& target) : victim_(&target.Victim()), hooks_(target.VictimHooks()) {
  const NoGrad no_grad;
  const ClipModel& base = target.Surrogate();
  const ClipTextConfig &own = victim_->clip.text, &other = base.config.text;
  if (own.hidden_size != other.hidden_size ||
      own.max_position_embeddings != other.max_position_embeddings ||
      !SameVocabulary(*victim_->tokenizer, *base.tokenizer)) {
    throw UsageError(
        "An adaptive attack compares the defended text encoder with the unmodified one, but the "
        "surrogate is another encoder. Set \"surrogate\": \"base\" in the experiment, or leave the "
        "adaptive attacks out.");
  }
  const bool has_own = victim_->text_encoder.Contains("text_projection.weight");
  projection_ = (has_own ? victim_->text_encoder : base.weights).Get("text_projection.weight");
  differs_ = !SameTextEncoder(victim_->text_encoder, base.weights);
  if (hooks_ == nullptr) return;
  // What hooks offer does not depend on the prompt.
  const at::Tensor none = at::full({1, 0}, 0, at::kLong);
  const TextBatch silence =
      Read(FrameIds(*victim_->tokenizer, none, own.max_position_embeddings), 0);
  differs_ = differs_ || hooks_->TextLayers() != nullptr || hooks_->TextView(silence).defined();
  margin_ = hooks_->TextMargin(silence).defined();
}

at::Tensor VictimText::Gap(Target& target, const Concept& subject, const Prompt& seed) const {
  constexpr int64_t kPictures = 4;  // of each prompt
  if (!margin_ || !hooks_->OnlyFilters()) return {};
  const NoGrad no_grad;
  constexpr const char* kTower = "visual_projection.weight";
  const bool has_own = victim_->text_encoder.Contains(kTower);
  ClipModel clip;
  clip.config = has_own ? victim_->clip : target.Surrogate().config;
  clip.weights = has_own ? victim_->text_encoder : target.Surrogate().weights;
  if (!clip.weights.Contains(kTower)) return {};

  // Of the concept alone the gap would be too wide in its direction: a text that names it lies
  // further that way than any picture does.
  std::vector<Prompt> prompts = {seed};
  const std::u32string text = DecodeUtf8(seed.text);
  const std::vector<NamePlace> names = PlacesOfNames(text, subject.known);
  if (!names.empty() && !subject.anchor.empty()) {
    prompts.push_back(
        AdversarialPrompt(seed, "anchor", 0, Renamed(text, names, subject.anchor, false)));
  }
  const int64_t context = victim_->clip.text.max_position_embeddings;
  std::vector<at::Tensor> pictures, texts;
  for (const Prompt& prompt : prompts) {
    std::vector<int64_t> ids = victim_->tokenizer->Encode(prompt.text);
    ids.resize(std::min(ids.size(), static_cast<size_t>(context - 2)));
    const auto length = static_cast<int64_t>(ids.size());
    const at::Tensor framed =
        FrameIds(*victim_->tokenizer, at::tensor(ids, at::kLong).view({1, length}), context);
    texts.push_back(Read(framed, length).pooled.expand({kPictures, -1}));
    pictures.push_back(
        nn::Normalised(EmbedPictures(clip, target.ReferenceImages(prompt, kPictures))));
    ++target.ledger().text_evaluations;
  }
  return ModalityGap(at::cat(pictures), at::cat(texts));
}

// The end token stands behind start and `length` tokens.
at::Tensor VictimText::Embeds(const at::Tensor& states, int64_t length) const {
  return nn::Normalised(at::matmul(states.select(1, length + 1), projection_.t()));
}

TextBatch VictimText::Read(const at::Tensor& framed, int64_t length,
                           const at::Tensor& change) const {
  TextBatch text;
  text.ids = framed;
  text.embeddings = ClipTokenEmbeddings(victim_->text_encoder, framed);
  if (change.defined()) {
    text.embeddings =
        PlaceTokens(text.embeddings, text.embeddings.narrow(1, 1, length) + change, 1);
  }
  text.states = EncodeTokens(*victim_, text.embeddings, framed, hooks_);
  if (hooks_ != nullptr) text.pooled = Embeds(text.states, length);
  return text;
}

at::Tensor ModalityGap(const at::Tensor& pictures, const at::Tensor& texts) {
  return (pictures - texts).mean(0);
}

VictimText::View VictimText::Evaluate(const at::Tensor& ids, const at::Tensor& moved) const {
  View view;
  if (!offers()) return view;
  const int64_t length = ids.size(1), context = victim_->clip.text.max_position_embeddings;
  const TextBatch text = Read(FrameIds(*victim_->tokenizer, ids, context), length,
                              moved.defined() ? moved - moved.detach() : at::Tensor());
  if (margin_) {
    TextBatch moved_text = text;
    if (gap_.defined()) moved_text.pooled = nn::Normalised(text.pooled + gap_);
    view.alarm = Alarm(hooks_->TextMargin(moved_text).flatten());
  }
  if (!differs_) return view;
  view.states = text.states;
  if (hooks_ != nullptr) {
    const at::Tensor viewed = hooks_->TextView(text);
    if (viewed.defined()) view.states = viewed;
  }
  view.embeds = Embeds(view.states, length);
  return view;
}

}  // namespace excise
