// What of a results file follows from the rest of it: intervals, worst cases, comparisons and the
// tables for people. Recomputed, whoever wrote the file. `read` is what the file says
// (experiments/results/read_results.h).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// Whether comparisons (p with them), worst cases over the attacks and intervals over concepts
// follow from the records' own samples: the lines that do not.
std::vector<std::string> DerivedProblems(const Results& read);

// Whether value, error and interval of the records that `replayed` has follow from the file's own
// samples by the rule by which the replay's follow from its: the lines that do not. Metrics with
// a rule of their own are passed over.
std::vector<std::string> IntervalProblems(const Results& read, const Results& replayed);

// Whether the samples of the rate of pictures that show the target are what the rows say of the
// same pictures: a line for each record in which one is not.
std::vector<std::string> RowProblems(const Results& read, const std::vector<Json>& rows);

// The tables beside FILE.json that are not what its records render to, and those that nobody
// compares: what a reader must not believe on the word of this check.
std::vector<std::string> UnverifiedDocuments(const Results& read,
                                             const std::filesystem::path& file);

}  // namespace excise
