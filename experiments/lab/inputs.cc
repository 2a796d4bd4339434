#include "experiments/lab/inputs.h"

#include <tuple>

#include "experiments/lab/lab.h"

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

}  // namespace

void ReadInputs(Lab* lab) {
  // Methods ask for the same lists.
  std::map<std::tuple<size_t, std::string, int64_t>, PromptTexts> read;
  lab->removals.clear();
  for (const Entry<Method>& entry : lab->methods) {
    const MethodTraits traits = entry.plugin->traits();
    std::vector<RemovalInputs> removals(lab->concepts.size());
    for (size_t subject = 0; subject < removals.size(); ++subject) {
      RemovalInputs& inputs = removals[subject];
      if (traits.base_pictures) inputs.pictures = lab->experiment.sampler;
      if (!traits.reads_concepts) continue;
      const Concept& whole = lab->concepts[subject];
      inputs.concepts = {VisibleToMethods(whole)};
      for (const auto& [group, limit] : traits.prompts) {
        const auto [list, fresh] = read.try_emplace({subject, group, limit});
        // Prompts are made of the whole concept, of which methods see a part.
        if (fresh) list->second = TextsOf(*lab->dataset.plugin, whole, group, limit);
        inputs.prompts[{whole.name, group}] = list->second;
      }
    }
    lab->removals.push_back(std::move(removals));
  }
  lab->measured.clear();
  for (const Concept& subject : lab->concepts) lab->measured.push_back(VisibleToMetrics(subject));
}

AttackInputs InputsOfAttack(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt) {
  AttackInputs inputs{VisibleToMethods(lab.concepts[subject]), prompt};
  const auto* transfer = dynamic_cast<const TransferAttack*>(lab.attacks[attack].plugin.get());
  if (transfer == nullptr || transfer->uses_surrogate()) inputs.surrogate = &lab.Surrogate();
  if (const WhiteBoxAttack* white_box = lab.WhiteBox(attack)) {
    inputs.queries = white_box->max_queries();
  }
  if (inputs.queries > 0) {
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
  visible.neighbours = {};
  visible.judge = {};
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
