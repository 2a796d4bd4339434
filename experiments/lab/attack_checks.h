// Whether the attacks of an experiment fit its rows and prompts, asked before any work.
#pragma once

#include "experiments/lab/lab.h"

namespace excise {

// An attack that is found on one row and used on all: that row, and that the attack can be. Throws
// UsageError.
void CheckFoundOn(const Lab& lab);
// An attack that chooses how prompts are drawn needs a scheduler that can begin anywhere and be
// disturbed at every step. Throws UsageError.
void CheckDrawings(const Lab& lab);
// An attack that fits none of the prompts is a mistake, and its file is read. Throws UsageError.
void CheckAttacks(const Lab& lab);

}  // namespace excise
