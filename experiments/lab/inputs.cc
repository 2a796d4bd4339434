#include "experiments/lab/inputs.h"

#include <fmt/format.h>

#include <tuple>

#include "core/error.h"
#include "experiments/lab/lab.h"
#include "experiments/lab/removals.h"

namespace excise {
namespace {

PromptTexts TextsOf(const Dataset& dataset, const Concept& subject, const std::string& group,
                    int64_t limit) {
  PromptTexts read;
  try {
    for (const Prompt& prompt : dataset.Prompts(subject, group, Split::kErase, limit).prompts) {
      read.texts.push_back(prompt.text);
    }
  } catch (const std::exception& error) {
    // Said when the method asks: it costs this removal, not the run.
    read.problem = error.what();
  }
  return read;
}

void ReadSeeds(Lab* lab) {
  lab->seeds.clear();
  for (size_t attack = 0; attack < lab->attacks.size(); ++attack) {
    const int64_t most = lab->TraitsOf(attack).seeds;
    std::vector<std::vector<Prompt>> seeds(lab->concepts.size());
    for (size_t subject = 0; most > 0 && subject < seeds.size(); ++subject) {
      seeds[subject] =
          lab->dataset.plugin->Prompts(lab->concepts[subject], "target", Split::kAttackSeed, most)
              .prompts;
      if (!seeds[subject].empty()) continue;
      throw UsageError(fmt::format(
          "attack '{}' learns from prompts of the split attack_seed, and data set '{}' has none of "
          "concept '{}'. Add some, or leave the attack out with --attacks.",
          lab->attacks[attack].name, lab->dataset.name, lab->concepts[subject].name));
    }
    lab->seeds.push_back(std::move(seeds));
  }
}

}  // namespace

void ReadInputs(Lab* lab) {
  ReadSeeds(lab);
  // Methods ask for the same lists.
  std::map<std::tuple<std::vector<size_t>, size_t, std::string, int64_t>, PromptTexts> read;
  lab->removals.clear();
  for (size_t method = 0; method < lab->methods.size(); ++method) {
    const MethodTraits traits = lab->methods[method].plugin->traits();
    std::vector<RemovalInputs> removals(lab->concepts.size());
    for (size_t subject = 0; subject < removals.size(); ++subject) {
      RemovalInputs& inputs = removals[subject];
      if (traits.base_pictures) inputs.pictures = lab->experiment.sampler;
      if (!traits.reads_concepts) continue;
      const std::vector<size_t> together = RemovedTogether(*lab, method, subject);
      for (const size_t one : together) {
        const Concept whole = RemovedAmong(*lab, one, together);
        inputs.concepts.push_back(VisibleToMethods(whole));
        for (const auto& [group, limit] : traits.prompts) {
          const auto [list, fresh] = read.try_emplace({together, one, group, limit});
          // Prompts are made of the whole concept, of which methods see a part.
          if (fresh) list->second = TextsOf(*lab->dataset.plugin, whole, group, limit);
          inputs.prompts[{whole.name, group}] = list->second;
        }
      }
    }
    lab->removals.push_back(std::move(removals));
  }
  lab->measured.clear();
  for (const Concept& subject : lab->concepts) lab->measured.push_back(VisibleToMetrics(subject));
}

AttackInputs InputsOfAttack(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt) {
  AttackInputs inputs = InputsOfLearning(lab, attack, subject);
  inputs.prompt = prompt;
  inputs.seeds.clear();
  return inputs;
}

AttackInputs InputsOfLearning(const Lab& lab, size_t attack, size_t subject) {
  const AttackTraits traits = lab.TraitsOf(attack);
  AttackInputs inputs{traits, VisibleToAttack(lab.concepts[subject], traits)};
  if (inputs.traits.ReadsBase()) inputs.surrogate = &lab.Surrogate();
  if (inputs.traits.seeds > 0) inputs.seeds = lab.seeds.at(attack).at(subject);
  if (inputs.traits.queries > 0) {
    inputs.judge = lab.JudgeOf(subject).plugin.get();
    inputs.judged = VisibleToMetrics(lab.concepts[subject]);
  }
  return inputs;
}

Concept VisibleToMethods(const Concept& subject) {
  Concept visible = subject;
  visible.title.clear();
  visible.sensitivity.clear();
  visible.held_out.clear();
  visible.implied.clear();
  visible.neighbours = {};
  visible.judge = {};
  return visible;
}

Concept VisibleToAttack(const Concept& subject, const AttackTraits& traits) {
  Concept visible = VisibleToMethods(subject);
  if (traits.held_out_names) visible.held_out = subject.held_out;
  return visible;
}

Concept VisibleToMetrics(const Concept& subject) {
  Concept visible;
  visible.name = subject.name;
  visible.known = subject.known;
  visible.anchor = subject.anchor;
  visible.judge = {subject.judge.kind, subject.judge.target, subject.judge.anchor};
  return visible;
}

}  // namespace excise
