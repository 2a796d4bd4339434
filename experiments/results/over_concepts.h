// The interval of a pooled rate that covers more than its prompts: other concepts, other prompts of
// them, and other edits (erase seeds).
#pragma once

#include <vector>

#include "experiments/results/record.h"

namespace excise {

// Fills Score::over_concepts of every record over all concepts that is the mean of its samples, a
// fraction, and has several concepts or edits; and Score::parts_over_concepts of its prompt groups.
// BootstrapNested with a fixed stream: a concept's prompts are rows, its edits columns.
void AddIntervalsOverConcepts(std::vector<Record>* records);

}  // namespace excise
