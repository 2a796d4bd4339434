// What other software needs to draw this table's pictures: prompts and common noise. The way back
// is experiments/picture_folder.h.
#pragma once

#include <filesystem>

#include "core/store.h"
#include "experiments/grid.h"
#include "experiments/lab.h"

namespace excise {

// Writes FILE.csv, a row for every picture of a method: prompt_id, concept, group, attack,
// replicate, prompt, noise_seed, latents; and FILE.latents.safetensors, which holds under the name
// in the column `latents` unit normal float32 (channels, height, width): the initial latents on
// which every row of the table draws that picture. Attacked prompts are crafted first, by `workers`
// threads; those of sensitive concepts are not written. Throws UsageError unless FILE ends in .csv.
void ExportPrompts(const Lab& lab, const Grid& grid, Store& store, int workers,
                   const std::filesystem::path& file);

}  // namespace excise
