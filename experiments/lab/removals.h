// Concepts that one edit removes together ("removals" of an experiment, or of a row): which, what
// methods are handed of them, and which prompts no longer ask for what must stay.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "datasets/formats/concept.h"

namespace excise {

struct Lab;

// The concepts, ascending indices into the lab, that one edit of `method` removes, `subject` among
// them. The unmodified model removes none: its pictures are those of any other experiment.
std::vector<size_t> RemovedTogether(const Lab& lab, size_t method, size_t subject);

// "poodle, weapons", with `between` between them.
std::string NamesOf(const Lab& lab, const std::vector<size_t>& concepts,
                    const std::string& between);

// The concept as one of `together`: names of the others are not to be preserved.
Concept RemovedAmong(const Lab& lab, size_t subject, const std::vector<size_t>& together);

// Of the rows' own lists what is among the lab's concepts. Throws UsageError where they name what
// is no concept, and where a concept is to become what the same edit removes.
void TakeRemovals(Lab* lab);

// Moves prompts of lab->prompts that ask for what is removed together with their concept, and
// groups of what must stay alone, to lab->excluded. No row may be blamed for losing them, and all
// rows are asked for the same: what one of them removes together counts for all.
void LeaveOutRemoved(Lab* lab);

}  // namespace excise
