// The stage "attack": what attacks make of prompts, and of models.
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/stopwatch.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"

namespace excise {
namespace {

// What the rest of the table believes of the attack's prompts is what it declares.
void CheckForms(const Trajectory& trajectory, const AttackTraits& traits, const std::string& name) {
  for (const Candidate& candidate : trajectory) {
    const Prompt& prompt = candidate.prompt;
    const bool latents = !prompt.latents.values.empty(), drawing = !prompt.drawing.plain();
    if (prompt.form() == traits.form && (traits.latents || !latents) &&
        (traits.drawing || !drawing)) {
      continue;
    }
    const auto described = [](PromptForm form, bool own_latents, bool own_drawing) {
      return fmt::format("{}{}{}", FormName(form), own_latents ? " with initial latents" : "",
                         own_drawing ? " with a drawing of its own" : "");
    };
    throw Error(fmt::format(
        "attack '{}' declares prompts of the form {}, and made one of the form {}. Let traits() "
        "say what it makes.",
        name, described(traits.form, traits.latents, traits.drawing),
        described(prompt.form(), latents, drawing)));
  }
}

Prompt ForSeed(Prompt prompt, const Prompt& seed, const std::string& attack) {
  prompt.root_id = seed.root_id.empty() ? seed.id : seed.root_id;
  prompt.id = prompt.root_id + "+" + attack;
  return prompt;
}

}  // namespace

MeteredTarget Pipeline::TargetOf(size_t attack, const AttackInputs& inputs,
                                 const ErasedModel* victim) {
  const auto reference = [this](const Prompt& aim, int64_t n) { return Reference(aim, n); };
  if (victim == nullptr) return {lab_, attack, inputs, reference};
  const auto draw = [this, victim](const std::vector<std::optional<Prompt>>& asked) {
    return DrawSearched(*victim, asked);
  };
  return {
      lab_, attack, inputs, reference, VictimModel{&victim->exact, victim->hooks.get(), Sampling()},
      draw};
}

std::vector<SearchedPicture> Pipeline::DrawSearched(
    const ErasedModel& victim, const std::vector<std::optional<Prompt>>& asked) const {
  const bool together = victim.hooks == nullptr || victim.hooks->RowsApart();
  const auto batch = static_cast<int64_t>(together ? asked.size() : 1);
  std::vector<SearchedPicture> pictures(asked.size());
  const auto keep = [](const Drawn& drawn, int64_t row, SearchedPicture* picture) {
    *picture = {drawn.images[row], drawn.Blocked(row), drawn.evaluations_per_image,
                drawn.replacement};
  };
  std::vector<Shot> shots;
  const auto first = std::find_if(asked.begin(), asked.end(),
                                  [](const auto& prompt) { return prompt.has_value(); });
  for (const auto& prompt : asked) shots.push_back({prompt ? *prompt : **first, 0});
  Drawn all;
  if (together) all = Draw(victim.exact, victim.hooks.get(), shots, SearchedNoise(), batch);
  for (size_t i = 0; i < asked.size(); ++i) {
    if (!asked[i]) continue;
    if (together) {
      keep(all, static_cast<int64_t>(i), &pictures[i]);
    } else {
      keep(Draw(victim.exact, victim.hooks.get(), {shots[i]}, SearchedNoise(), 1), 0, &pictures[i]);
    }
  }
  return pictures;
}

Trajectory Pipeline::Craft(size_t attack, size_t method, size_t subject, const Prompt& prompt) {
  method = lab_.VictimOf(attack, method);
  const Entry<Attack>& entry = lab_.attacks[attack];
  const AttackTraits traits = entry.plugin->traits();
  if (traits.per == AttackTraits::Per::kConcept) {
    const Learnt learnt = LearntOf(attack, method, subject);
    Candidate candidate;
    candidate.prompt =
        ForSeed(entry.plugin->Use(learnt, lab_.backbone,
                                  VisibleToAttack(lab_.concepts[subject], traits), prompt),
                prompt, entry.plugin_name);
    candidate.ledger = learnt.ledger;
    CheckForms({candidate}, traits, entry.name);
    return {candidate};
  }
  const Json key = AttackKey(lab_, attack, method, subject, prompt);
  const auto stored =
      Load(key, [&](const Artifact& artifact) { return ReadTrajectory(artifact, prompt); });
  if (stored) return *stored;
  // Another worker may be about it, or about one that is crafted together with it.
  const LanePlace place = PlaceOf(lab_, attack, subject, prompt);
  const std::lock_guard<std::mutex> crafting(Crafting(attack, method, subject, place.group));
  std::vector<std::optional<Prompt>> prompts = PromptsOfGroup(lab_, attack, subject, prompt);
  for (size_t lane = 0; lane < prompts.size(); ++lane) {
    if (!prompts[lane]) continue;
    auto found =
        Load(AttackKey(lab_, attack, method, subject, *prompts[lane]),
             [&](const Artifact& artifact) { return ReadTrajectory(artifact, *prompts[lane]); });
    if (!found) continue;
    prompts[lane].reset();
    if (lane == place.lane) return *std::move(found);
  }
  return CraftLanes(attack, method, subject, prompts)[place.lane];
}

std::mutex& Pipeline::Crafting(size_t attack, size_t method, size_t subject, size_t group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<std::mutex>& slot = crafting_[{attack, method, subject, group}];
  if (!slot) slot = std::make_unique<std::mutex>();
  return *slot;
}

std::vector<Trajectory> Pipeline::CraftLanes(size_t attack, size_t method, size_t subject,
                                             const std::vector<std::optional<Prompt>>& prompts) {
  const Entry<Attack>& entry = lab_.attacks[attack];
  const AttackTraits traits = entry.plugin->traits();
  const std::string name = fmt::format("attack '{}'", entry.name);
  std::shared_ptr<const ErasedModel> victim;
  if (traits.ForEachMethod()) victim = Erase(method, subject);
  const Stopwatch watch;
  std::vector<std::unique_ptr<MeteredTarget>> targets(prompts.size());
  std::vector<MeteredTarget*> lanes(prompts.size(), nullptr);
  std::vector<Prompt> seeds(prompts.size());
  for (size_t lane = 0; lane < prompts.size(); ++lane) {
    if (!prompts[lane]) continue;
    const AttackInputs inputs = InputsOfAttack(lab_, attack, subject, *prompts[lane]);
    targets[lane].reset(new MeteredTarget(TargetOf(attack, inputs, victim.get())));
    lanes[lane] = targets[lane].get();
    seeds[lane] = inputs.prompt;
  }
  MeteredLanes together(lanes);
  const std::vector<Trajectory> found =
      entry.plugin->CraftTogether(together, VisibleToAttack(lab_.concepts[subject], traits), seeds);
  for (size_t lane = 0; lane < prompts.size(); ++lane) {
    if (!prompts[lane]) continue;
    if (found.at(lane).empty()) {
      throw Error(
          fmt::format("{} returned no candidate for prompt '{}'.", name, prompts[lane]->id));
    }
    CheckTrajectory(found[lane], *prompts[lane], name);
    CheckForms(found[lane], traits, entry.name);
    Put(AttackKey(lab_, attack, method, subject, *prompts[lane]),
        {{"trajectory.json", CanonicalJson(TrajectoryToJson(found[lane]))}});
  }
  Spend("attack", watch.Seconds());
  return found;
}

Learnt Pipeline::LearntOf(size_t attack, size_t method, size_t subject) {
  LearntEntry* entry;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LearntEntry>& slot = learnt_[{attack, method, subject}];
    if (!slot) slot = std::make_unique<LearntEntry>();
    entry = slot.get();
  }
  const std::lock_guard<std::mutex> making(entry->making);
  if (entry->problem) std::rethrow_exception(entry->problem);
  if (!entry->learnt) {
    try {
      Learnt learnt = LearnOrLoad(attack, method, subject);
      learnt.text_encoder = learnt.unet = learnt.vae = {};
      entry->learnt = std::move(learnt);
    } catch (...) {
      entry->problem = std::current_exception();
      throw;
    }
  }
  return *entry->learnt;
}

Learnt Pipeline::LearnOrLoad(size_t attack, size_t method, size_t subject) {
  const Json key = LearnKey(lab_, attack, method, subject);
  if (const auto stored = Load(key, ReadLearnt)) return *stored;
  const Entry<Attack>& entry = lab_.attacks[attack];
  const AttackTraits traits = entry.plugin->traits();
  std::shared_ptr<const ErasedModel> victim;
  if (traits.ForEachMethod()) victim = Erase(method, subject);
  const Stopwatch watch;
  const AttackInputs inputs = InputsOfLearning(lab_, attack, subject);
  MeteredTarget target = TargetOf(attack, inputs, victim.get());
  const Learnt learnt = entry.plugin->Learn(target, inputs.subject);
  if (!traits.weights && learnt.text_encoder.size() + learnt.unet.size() + learnt.vae.size() > 0) {
    throw Error(fmt::format(
        "attack '{}' replaces weights, but does not declare it. Let traits().weights say so.",
        entry.name));
  }
  Put(key, {{"tensors.safetensors", TensorBytes(JoinTensors(learnt), store_.root() / ".tmp")},
            {"learnt.json", CanonicalJson(LedgerToJson(learnt.ledger))}});
  Spend("attack", watch.Seconds());
  return learnt;
}

std::shared_ptr<const ErasedModel> Pipeline::ModelOf(const Unit& unit) {
  const std::shared_ptr<const ErasedModel> victim = Erase(unit.method, unit.subject);
  if (!lab_.TraitsOf(unit.attack).weights || !IsCrafted(lab_, unit)) return victim;
  return models_.Get({unit.method, unit.subject, unit.attack}, [&] {
    const Learnt learnt = LearnOrLoad(unit.attack, unit.method, unit.subject);
    Erased replaced;
    replaced.text_encoder = learnt.text_encoder;
    replaced.unet = learnt.unet;
    replaced.vae = learnt.vae;
    ErasedModel changed = *victim;
    changed.model = ApplyErased(victim->model, replaced);
    changed.exact = ApplyErased(victim->exact, replaced);
    changed.only_filters = false;  // it no longer draws what the unmodified model draws
    changed.bytes += BytesOf(replaced);
    return changed;
  });
}

std::vector<Prompt> Pipeline::PromptsToDraw(const Unit& unit) {
  if (!IsCrafted(lab_, unit)) return unit.prompts;
  std::vector<Prompt> prompts;
  for (const Prompt& prompt : unit.prompts) {
    prompts.push_back(Craft(unit.attack, unit.method, unit.subject, prompt).back().prompt);
  }
  return prompts;
}

}  // namespace excise
