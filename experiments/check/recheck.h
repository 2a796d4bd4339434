// What of a results file follows from the rest of it: intervals, worst cases, comparisons and the
// tables for people. Recomputed, whoever wrote the file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/results/record.h"

namespace excise {

// The file's results as the program holds them, without rows. Throws Error where samples and their
// names differ in number.
Results ResultsFromJson(const Json& results, const Lab& lab);

// Whether comparisons (p with them) and worst cases over the attacks follow from the
// records' own samples: the lines that do not.
std::vector<std::string> DerivedProblems(const Json& results, const Results& read);

// Whether value, error and interval of the records that `replayed` has follow from the file's own
// samples by the rule by which the replay's follow from its: the lines that do not. Metrics with
// a rule of their own are passed over.
std::vector<std::string> IntervalProblems(const Json& results, const Results& replayed);

// Whether the samples of the rate of pictures that show the target are what the rows say of the
// same pictures: a line for each record in which one is not.
std::vector<std::string> RowProblems(const Json& results, const std::vector<Json>& rows,
                                     const Lab& lab);

// The tables beside FILE.json that are not what its records render to, and those that nobody
// compares: what a reader must not believe on the word of this check.
std::vector<std::string> UnverifiedDocuments(const Results& read,
                                             const std::filesystem::path& file);

}  // namespace excise
