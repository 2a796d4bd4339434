// What a stage may read, as an object: its key is made of it, and the plug-in is handed a view of
// it, so that nothing can be read that no key names.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "experiments/formats/experiment.h"
#include "judges/judge.h"
#include "models/snapshots/backbone.h"

namespace excise {

struct Lab;

// Texts of the erase split.
struct PromptTexts {
  std::vector<std::string> texts;
  std::string problem;  // why the data set gives none, or ""
};

// Of a removal: beside the backbone, the method's parameters and its seed.
struct RemovalInputs {
  // As methods may see them; none where the method reads no concept.
  std::vector<Concept> concepts;
  // By concept and group, for the groups that the method declares.
  std::map<std::pair<std::string, std::string>, PromptTexts> prompts;
  // How pictures of the unmodified model are drawn, where the method may ask for some.
  std::optional<SamplerSettings> pictures;
};

// Of an attack on one prompt: beside its parameters, its seed and, for a white-box attack, the
// edited model.
struct AttackInputs {
  Concept subject;  // as attacks may see it
  Prompt prompt;
  // Null: it declares that it reads no surrogate and no pictures of the unmodified model.
  const ClipModel* surrogate = nullptr;
  // How often it may ask the oracle of which judge, and about what: its classes, which it does not
  // see.
  int64_t queries = 0;
  const Judge* judge = nullptr;
  Concept judged = {};
};

// Fills lab->removals and lab->measured, of what the rest of the lab says by now.
void ReadInputs(Lab* lab);
AttackInputs InputsOfAttack(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt);

// The concept as methods and attacks may see it: nothing that is for evaluation only.
Concept VisibleToMethods(const Concept& subject);
// As metrics and the oracle see it: what it is called, what stands for it, what the judge looks
// for. Which judge that is stands in the keys of its verdicts.
Concept VisibleToMetrics(const Concept& subject);

}  // namespace excise
