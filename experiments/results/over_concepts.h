// The interval of a pooled rate that covers more than its prompts: other concepts, other prompts of
// them, and other edits (erase seeds).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// Fills Score::over_concepts of every record over all concepts that is the mean of its samples, a
// fraction, and has several concepts or edits; and Score::parts_over_concepts of its prompt groups.
// BootstrapNested with a fixed stream: a concept's prompts are rows, its edits columns.
void AddIntervalsOverConcepts(std::vector<Record>* records);

// The same of any mean of samples, given by their ids. Nothing where the samples are of one concept
// and one edit.
std::optional<Interval> IntervalOverConcepts(const std::vector<std::string>& sample_ids,
                                             const std::vector<double>& values);

}  // namespace excise
