#include "experiments/run/erase_context.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"

namespace excise {

bool Drawn::Blocked(int64_t i) const {
  const auto filter = detected.find("filter");
  return filter != detected.end() &&
         filter->second.scores[i].item<double>() > filter->second.threshold;
}

namespace {

// A removal that reads no concept draws the same numbers whichever it is computed with.
std::string StreamOf(const Entry<Method>& entry, const std::string& subject) {
  return entry.plugin_name + (entry.plugin->traits().reads_concepts ? "/" + subject : "");
}

}  // namespace

EraseContext::EraseContext(const Lab& lab, size_t method, const std::string& subject,
                           std::filesystem::path checkpoint, DrawBase draw)
    : lab_(lab),
      stream_(StreamOf(lab.methods[method], subject)),
      checkpoint_(std::move(checkpoint)),
      draw_(std::move(draw)) {}

Philox EraseContext::Rng(std::string_view name, uint64_t step) {
  const std::string id = "erase/" + stream_ + "/" + std::string(name);
  return Philox({static_cast<uint64_t>(lab_.experiment.seeds.erase), id, 0, Stream::kInit, step});
}

std::vector<std::string> EraseContext::Prompts(const Concept& subject, const std::string& group,
                                               int64_t limit) {
  // Methods see a part of a concept; its prompts are made of the whole.
  const auto whole = std::find_if(lab_.concepts.begin(), lab_.concepts.end(),
                                  [&](const Concept& one) { return one.name == subject.name; });
  const Concept& asked = whole == lab_.concepts.end() ? subject : *whole;
  std::vector<std::string> texts;
  for (const Prompt& prompt :
       lab_.dataset.plugin->Prompts(asked, group, Split::kErase, limit).prompts) {
    texts.push_back(prompt.text);
  }
  return texts;
}

at::Tensor EraseContext::Images(const std::vector<std::string>& texts) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    Prompt prompt;
    prompt.id = prompt.root_id = "erase/" + Sha256Hex(text).substr(0, 16);
    prompt.text = text;
    prompts.push_back(prompt);
  }
  const Drawn drawn = draw_(prompts);
  cost_.unet_evaluations += drawn.evaluations_per_image * drawn.images.size(0);
  return drawn.images.to(at::kFloat).div_(255.0);
}

MeteredTarget::MeteredTarget(const Lab& lab, size_t attack, DrawReference draw)
    : lab_(lab), attack_(lab.attacks[attack]), draw_(std::move(draw)) {}

void MeteredTarget::RequireSurrogate() const {
  const auto* transfer = dynamic_cast<const TransferAttack*>(attack_.plugin.get());
  if (transfer == nullptr || transfer->uses_surrogate()) return;
  throw Error(fmt::format(
      "attack '{}' asked for the surrogate or its pictures, but declares that it uses none, so its "
      "results would be stored under a key that does not name it. Let uses_surrogate() say true.",
      attack_.name));
}

const ClipModel& MeteredTarget::Surrogate() {
  RequireSurrogate();
  return lab_.Surrogate();
}

at::Tensor MeteredTarget::ReferenceImages(const Prompt& prompt, int64_t n) {
  RequireSurrogate();
  const Drawn drawn = draw_(prompt, n);
  // Counted also when the pictures were stored: what an attack costs must not depend on the store.
  ledger_.unet_evaluations += drawn.evaluations_per_image * n;
  return drawn.images.to(at::kFloat).div_(255.0);
}

Philox MeteredTarget::Rng(const Prompt& prompt, uint64_t step) {
  const std::string base = attack_.plugin->adaptive_form_of();
  const std::string id =
      "attack/" + (base.empty() ? attack_.plugin_name : base) + "/" + prompt.root_id;
  return Philox(
      {static_cast<uint64_t>(lab_.experiment.seeds.attack), id, 0, Stream::kAttack, step});
}

}  // namespace excise
