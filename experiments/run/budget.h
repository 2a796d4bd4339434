// What attacks may spend and what they spent, for records.
#pragma once

#include <vector>

#include "attacks/attack.h"
#include "core/json.h"

namespace excise {

// `spent`: what was spent on each prompt, by concept. One budget a concept, then one over all; null
// where nothing was crafted: {"per": "prompt" | "concept", "most": {what: the most that the attack
// may spend, where it tells}, "spent": {what: the mean over the prompts, or over the concepts,
// until the candidate that is used was found}}. What is spent nowhere is left out.
Json BudgetsByConcept(const AttackTraits& traits, const std::vector<std::vector<Ledger>>& spent);

}  // namespace excise
