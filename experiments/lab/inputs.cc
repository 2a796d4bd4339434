#include "experiments/lab/inputs.h"

#include <tuple>

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

}  // namespace

void ReadInputs(Lab* lab) {
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
  AttackInputs inputs{VisibleToMethods(lab.concepts[subject]), prompt};
  const auto* transfer = dynamic_cast<const TransferAttack*>(lab.attacks[attack].plugin.get());
  if (transfer == nullptr || transfer->uses_surrogate()) inputs.surrogate = &lab.Surrogate();
  if (const WhiteBoxAttack* white_box = lab.WhiteBox(attack)) {
    inputs.queries = white_box->max_queries();
  }
  if (inputs.queries > 0) inputs.judged = VisibleToMetrics(lab.concepts[subject]);
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
  visible.judge = subject.judge;
  return visible;
}

}  // namespace excise
