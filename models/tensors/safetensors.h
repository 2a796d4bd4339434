// safetensors files as tensors. The parser of the header (models/formats/safetensors_header.h)
// knows nothing of tensors, so that it can be fuzzed alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "models/tensors/state_dict.h"

namespace excise {

// Loads one .safetensors file. `upcast`: floating-point tensors become float32. Throws Error naming
// file and tensor: truncated, overlapping or out-of-range entries, wrong sizes, duplicates,
// non-finite.
StateDict LoadSafetensors(const std::filesystem::path& path, bool upcast = true);

// Which tensors to read, by name; null: all.
using TensorChoice = std::function<bool(const std::string& name)>;

// Loads FOLDER/STEM.safetensors, or the shards that FOLDER/STEM.safetensors.index.json names,
// floating-point tensors as `float_dtype`: they are cast while they are read. Files of more than
// `most_elements` are refused before anything is allocated for their tensors: a header of a hundred
// bytes (and a sparse file) can ask for terabytes. What `wanted` leaves out is not read.
StateDict LoadSafetensorsFolder(const std::filesystem::path& folder, std::string_view stem,
                                at::ScalarType float_dtype = at::kFloat,
                                int64_t most_elements = INT64_MAX,
                                const TensorChoice& wanted = nullptr);

// Writes beside, fsyncs and renames. Throws Error (full disk included); never leaves half a file.
void SaveSafetensors(const std::filesystem::path& path, const StateDict& tensors,
                     const std::map<std::string, std::string>& metadata = {});

}  // namespace excise
