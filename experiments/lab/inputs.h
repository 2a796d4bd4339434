// What a stage may read, as an object: its key is made of it, and the plug-in is handed a view of
// it, so that nothing can be read that no key names.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attacks/attack.h"
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
  // As methods may see them, several where one edit removes them together
  // (experiments/lab/removals.h); none where the method reads no concept.
  std::vector<Concept> concepts;
  // By concept and group, for the groups that the method declares.
  std::map<std::pair<std::string, std::string>, PromptTexts> prompts;
  // How pictures of the unmodified model are drawn, where the method may ask for some.
  std::optional<SamplerSettings> pictures;
};

// Of an attack on one prompt or on a concept: beside its parameters, its seed and, for one that is
// crafted against every method, the edited model.
struct AttackInputs {
  AttackTraits traits;
  Concept subject;                       // as attacks may see it
  Prompt prompt = {};                    // of an attack on a prompt
  std::vector<Prompt> seeds = {};        // of one on a concept
  const ClipModel* surrogate = nullptr;  // null: it reads neither that nor the unmodified model
  // Where there are queries: whose oracle is asked, and about what, which the attack does not see.
  const Judge* judge = nullptr;
  Concept judged = {};
};

// Fills lab->removals, lab->measured and lab->seeds, of what the rest of the lab says by now.
// Throws Error where an attack asks for seeds and the data set has none.
void ReadInputs(Lab* lab);
AttackInputs InputsOfAttack(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt);
// Of an attack on the whole concept.
AttackInputs InputsOfLearning(const Lab& lab, size_t attack, size_t subject);

// The concept as methods and attacks may see it: nothing that is for evaluation only.
Concept VisibleToMethods(const Concept& subject);
// Likewise, with its held-out names for an attack that declares that it reads them.
Concept VisibleToAttack(const Concept& subject, const AttackTraits& traits);
// As metrics and the oracle see it: what it is called, what stands for it, what the judge looks
// for. Which judge that is stands in the keys of its verdicts.
Concept VisibleToMetrics(const Concept& subject);

}  // namespace excise
