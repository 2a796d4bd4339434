// Whether the judge sees the concepts at all.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// Where the unmodified model, not attacked, does not show a concept, low rates of other rows are no
// removal: the judge knows other classes or other pictures than the model draws, or the model draws
// garbage. So it is when significantly less than half of the concept's prompts show it: Wilson's
// 95 % interval, over prompts, by the first rate of erasure, ends below 1/2 (0 of 3 does not, 0 of
// 4 and 5 of 20 do). Prompts that name the concept and prompts that describe it are each judged by
// their own. All records of erasure of that concept on such prompts, and those over all concepts,
// then lose their score and have the status kUnfitJudge; the unmodified model's own without attack
// stay. `base_of`: the row of the unmodified model that a row is compared with.
void RefuseUnfit(const std::map<std::string, std::string>& base_of, std::vector<Record>* records);

}  // namespace excise
