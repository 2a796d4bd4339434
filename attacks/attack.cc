#include "attacks/attack.h"

#include <fmt/format.h>

namespace excise {

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
