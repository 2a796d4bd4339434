// What other software needs to draw this table's pictures: prompts and common noise. The way back
// is experiments/lab/picture_folder.h.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"

namespace excise {

// The file's bytes: CSV with a header, or an object a line where `file` ends in .jsonl; each of
// `rows` has all `columns`, prompt_id and attack among them. CSV is opened by spreadsheets, which
// run a text that begins with = + - or @; a mark before it would be another prompt to every program
// that draws it. So such a text is refused there (UsageError) and stands in JSONL letter by letter.
// Throws UsageError unless `file` ends in .csv or .jsonl.
std::string PromptFileBytes(const std::vector<std::string>& columns, const std::vector<Json>& rows,
                            const std::filesystem::path& file);

// Whether a prompt is what a file of texts carries: a text, drawn as any other on noise by its
// seed.
bool IsTextAlone(const Prompt& prompt);
// Throws UsageError where it is not.
void RefuseForms(const Prompt& prompt, const std::string& attack);

// Writes FILE.csv or FILE.jsonl, a row for every picture of a method: prompt_id, concept, group,
// attack, replicate, prompt, noise_seed, latents; and FILE.latents.safetensors, which holds under
// the name in the column `latents` unit normal float32 (channels, height, width): the initial
// latents on which every row of the table draws that picture. Attacked prompts are crafted first,
// by `workers` threads; those of sensitive concepts are not written.
void ExportPrompts(const Lab& lab, const Grid& grid, Store& store, int workers,
                   const std::filesystem::path& file);

}  // namespace excise
