#include "experiments/run/metered_target.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace excise {

MeteredTarget::MeteredTarget(const Lab& lab, size_t attack, AttackInputs inputs,
                             DrawReference reference, VictimModel victim, DrawVictim draw)
    : lab_(lab),
      attack_(lab.attacks[attack]),
      inputs_(std::move(inputs)),
      reference_(std::move(reference)),
      victim_(std::move(victim)),
      draw_(std::move(draw)),
      queries_left_(inputs_.traits.queries) {
  if (queries_left_ > 0)
    inputs_.judge->oracle_digest();  // said before the search, not after half of it
}

void MeteredTarget::Require(bool declared, const char* what, const char* trait) const {
  if (declared) return;
  throw Error(fmt::format(
      "attack '{}' asked for {}, but does not declare it, so its results would be stored under a "
      "key that does not name it. Let traits().{} say so.",
      attack_.name, what, trait));
}

void MeteredTarget::RequireVictim() const {
  Require(inputs_.traits.gradients || inputs_.traits.weights, "the edited model", "gradients");
}

const ClipModel& MeteredTarget::Surrogate() {
  Require(inputs_.traits.surrogate, "the surrogate CLIP", "surrogate");
  return *inputs_.surrogate;
}

const Backbone& MeteredTarget::Unmodified() {
  Require(inputs_.traits.unmodified, "the unmodified model", "unmodified");
  return lab_.backbone;
}

at::Tensor MeteredTarget::ReferenceImages(const Prompt& prompt, int64_t n) {
  Require(inputs_.traits.unmodified, "pictures of the unmodified model", "unmodified");
  // A rewritten prompt keeps its seed's root.
  const bool own = prompt.id == inputs_.prompt.id ||
                   (!prompt.root_id.empty() && prompt.root_id == inputs_.prompt.root_id) ||
                   std::any_of(inputs_.seeds.begin(), inputs_.seeds.end(),
                               [&](const Prompt& seed) { return seed.id == prompt.id; });
  if (!own) {
    throw Error(fmt::format(
        "attack '{}' asked for pictures of prompt '{}' while it crafts for '{}'.", attack_.name,
        prompt.id, inputs_.seeds.empty() ? inputs_.prompt.id : inputs_.subject.name));
  }
  const Drawn drawn = reference_(prompt, n);
  // Counted also when the pictures were stored: what an attack costs must not depend on the store.
  ledger_.unet_evaluations += drawn.evaluations_per_image * n;
  return drawn.images.to(at::kFloat).div_(255.0);
}

std::vector<Prompt> MeteredTarget::Seeds() {
  Require(inputs_.traits.seeds > 0, "prompts of the concept", "seeds");
  return inputs_.seeds;
}

const Backbone& MeteredTarget::Victim() {
  RequireVictim();
  return *victim_.model;
}

const Hooks* MeteredTarget::VictimHooks() {
  RequireVictim();
  return victim_.hooks;
}

const SamplerSpec& MeteredTarget::Sampling() {
  // Who asks the oracle has a victim, and its key names how pictures are drawn.
  if (!inputs_.traits.drawing || inputs_.traits.queries == 0) RequireVictim();
  return victim_.sampling;
}

std::optional<Answer> MeteredTarget::Query(const Prompt& prompt) {
  return QueryTogether({this}, {prompt}).front();
}

std::vector<std::optional<Answer>> MeteredTarget::QueryTogether(
    const std::vector<MeteredTarget*>& targets, const std::vector<std::optional<Prompt>>& prompts) {
  std::vector<std::optional<Prompt>> asked(targets.size());
  MeteredTarget* any = nullptr;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!prompts[i] || !targets[i]->MayAsk()) continue;
    asked[i] = prompts[i];
    any = targets[i];
  }
  std::vector<std::optional<Answer>> answers(targets.size());
  if (any == nullptr) return answers;
  const std::vector<SearchedPicture> pictures = any->draw_(asked);
  // The oracle is asked in a pass of as many rows, too; whatever stands where nobody asked.
  std::vector<at::Tensor> images;
  for (size_t i = 0; i < targets.size(); ++i) images.push_back(pictures[i].image);
  const auto there = std::find_if(images.begin(), images.end(),
                                  [](const at::Tensor& image) { return image.defined(); });
  const at::Tensor filling = *there;
  for (at::Tensor& image : images) {
    if (!image.defined()) image = filling;
  }
  const std::vector<OracleAnswer> words =
      AskOracle(*any->inputs_.judge, at::stack(images), any->inputs_.judged);
  for (size_t i = 0; i < targets.size(); ++i) {
    if (asked[i]) answers[i] = targets[i]->Receive(pictures[i], words[i]);
  }
  return answers;
}

bool MeteredTarget::MayAsk() {
  Require(inputs_.traits.queries > 0, "the oracle", "queries");
  if (queries_left_ <= 0) return false;
  --queries_left_;
  return true;
}

Answer MeteredTarget::Receive(const SearchedPicture& picture, const OracleAnswer& word) {
  ++ledger_.victim_queries;
  ledger_.unet_evaluations += picture.unet_evaluations;
  Answer answer;
  if (inputs_.traits.sees_blocked) answer.blocked = picture.blocked;
  if (inputs_.traits.sees_picture) {
    const at::Tensor& delivered = picture.blocked ? picture.replacement : picture.image;
    answer.picture = delivered.to(at::kFloat).div(255.0);
  }
  // Who is blocked sees no picture, and so no target in it.
  if (picture.blocked) return answer;
  answer.success = word.success;
  answer.target_probability = word.target_probability;
  return answer;
}

Philox MeteredTarget::RngOf(const std::string& what, uint64_t step) const {
  const std::string base = attack_.plugin->adaptive_form_of();
  const std::string id = "attack/" + (base.empty() ? attack_.plugin_name : base) + "/" + what;
  return Philox(
      {static_cast<uint64_t>(lab_.experiment.seeds.attack), id, 0, Stream::kAttack, step});
}

Philox MeteredTarget::Rng(const Prompt& prompt, uint64_t step) {
  return RngOf(prompt.root_id, step);
}

Philox MeteredTarget::Rng(const Concept& subject, uint64_t step) {
  return RngOf("concept/" + subject.name, step);
}

}  // namespace excise
