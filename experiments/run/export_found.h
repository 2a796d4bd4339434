// What attacks found, for others to try: the door that prompt_file reads back.
#pragma once

#include <filesystem>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"

namespace excise {

// Writes FILE.csv or FILE.jsonl, a row for every prompt that an attack made, against every method
// that it was crafted against: prompt_id (the seed prompt's), concept, attack, method, prompt,
// sha256 (of the text), success (the oracle's word; none where nobody asked), score,
// victim_queries, candidate_evaluations, gradient_steps. What is missing is crafted first, by
// `workers` threads. The texts of sensitive concepts are left empty unless `sensitive`; prompts
// that are no texts have no row. Throws UsageError unless FILE ends in .csv or .jsonl.
void ExportFound(const Lab& lab, const Grid& grid, Store& store, int workers, bool sensitive,
                 const std::filesystem::path& file);

}  // namespace excise
