#include "experiments/run/offers.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <functional>

#include "core/progress.h"
#include "core/workers.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"
#include "models/tensors/same_tensors.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

// The prompt without words: what hooks offer does not depend on the prompt.
TextBatch Silence(const Backbone& model, const Hooks& hooks) {
  const int64_t context = model.clip.text.max_position_embeddings;
  TextBatch text;
  text.ids = FrameIds(*model.tokenizer, at::full({1, 0}, 0, at::kLong), context);
  text.embeddings = ClipTokenEmbeddings(model.text_encoder, text.ids);
  text.states = EncodeTokens(model, text.embeddings, text.ids, &hooks);
  if (model.text_encoder.Contains("text_projection.weight")) {
    text.pooled = nn::Normalised(ClipTextEmbeds(model.text_encoder, text.states.select(1, 1)));
  }
  return text;
}

// The concept whose removal tells what the method does, or none.
std::optional<size_t> FirstClaimed(const Lab& lab, size_t method) {
  if (!lab.methods[method].not_applicable.empty()) return std::nullopt;
  for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
    if (lab.ReasonNotClaimed(method, subject).empty()) return subject;
  }
  return std::nullopt;
}

// Of a row's edits the first one is asked for all.
bool Unknown(const Lab& lab, size_t method) {
  if (lab.RowOf(method) != method) return false;
  const bool known = method < lab.offers.size() && lab.offers[method].has_value();
  return !known && !lab.MadeElsewhere(method) && FirstClaimed(lab, method).has_value();
}

void Fill(Lab* lab, Store& store, int workers, const std::function<bool(const Json&)>& wanted) {
  if (!NeedsOffers(*lab)) return;
  lab->offers.resize(lab->methods.size());
  std::vector<size_t> methods;
  for (size_t method = 0; method < lab->methods.size(); ++method) {
    if (Unknown(*lab, method) && wanted(OffersKey(*lab, method, *FirstClaimed(*lab, method)))) {
      methods.push_back(method);
    }
  }
  if (methods.empty()) return;
  Pipeline pipeline(*lab, store);
  Progress progress("erase", static_cast<int64_t>(methods.size()), "first removals");
  RunUnits(static_cast<int64_t>(methods.size()), workers, [&](int64_t i) {
    UseOneThreadPerWorker();
    const size_t method = methods[static_cast<size_t>(i)];
    try {
      lab->offers[method] = pipeline.Offers(method, *FirstClaimed(*lab, method));
    } catch (const std::exception&) {
      lab->inputs.Check();  // a changed file ends the run; the rest is reported by its stage
    }
    progress.Advance(1, lab->methods[method].name);
  });
}

}  // namespace

std::vector<std::string> OffersOf(const Backbone& base, const ErasedModel& edited) {
  const NoGrad no_grad;
  std::vector<std::string> offers;
  const bool inside = edited.hooks != nullptr && edited.hooks->TextLayers() != nullptr;
  if (inside || !SameTensors(edited.exact.text_encoder, base.text_encoder)) {
    offers.push_back("text_encoder");
  }
  if (edited.hooks == nullptr) return offers;
  const TextBatch silence = Silence(edited.exact, *edited.hooks);
  if (edited.hooks->TextView(silence).defined()) offers.push_back("text_view");
  if (edited.hooks->TextMargin(silence).defined()) offers.push_back("text_margin");
  return offers;
}

std::vector<std::string> Pipeline::Offers(size_t method, size_t subject) {
  const Json key = OffersKey(lab_, method, subject);
  const auto stored = Load(key, ReadOffers);
  if (stored) return *stored;
  const std::vector<std::string> offers = OffersOf(lab_.backbone, *Erase(method, subject));
  Put(key, {{"offers.json", CanonicalJson(offers)}});
  return offers;
}

bool NeedsOffers(const Lab& lab) {
  bool adaptive = false, unknown = false;
  for (size_t attack = 0; attack < lab.attacks.size(); ++attack) {
    adaptive = adaptive || !lab.TraitsOf(attack).adapts_to.empty();
  }
  for (size_t method = 0; method < lab.methods.size(); ++method) {
    unknown = unknown || Unknown(lab, method);
  }
  return adaptive && unknown;
}

void LearnOffers(Lab* lab, Store& store, int workers) {
  Fill(lab, store, workers, [](const Json&) { return true; });
}

void ReadStoredOffers(Lab* lab, Store& store) {
  Fill(lab, store, 1, [&](const Json& key) { return store.Holds(key); });
}

}  // namespace excise
