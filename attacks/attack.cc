#include "attacks/attack.h"

#include <fmt/format.h>

#include "core/error.h"

namespace excise {

Trajectory Attack::Craft(Target&, const Concept&, const Prompt&) const {
  throw Error("this attack is made for a whole concept (Learn, Use), not for one prompt.");
}

Learnt Attack::Learn(Target&, const Concept&) const {
  throw Error("this attack is made for one prompt (Craft), not for a whole concept.");
}

Prompt Attack::Use(const Learnt&, const Backbone&, const Concept&, const Prompt& seed) const {
  return seed;
}

Prompt AdversarialPrompt(const Prompt& seed, std::string_view attack, int64_t index,
                         std::string text) {
  Prompt prompt = seed;
  prompt.root_id = seed.root_id.empty() ? seed.id : seed.root_id;
  prompt.id = fmt::format("{}+{}", prompt.root_id, attack);
  if (index > 0) prompt.id += fmt::format("@{}", index);
  prompt.text = std::move(text);
  prompt.token_ids.clear();
  prompt.round_trip = true;
  return prompt;
}

}  // namespace excise
