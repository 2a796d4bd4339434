// safetensors files as tensors. The parser of the header (models/safetensors_header.h) knows
// nothing of tensors, so that it can be fuzzed alone.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "models/state_dict.h"

namespace excise {

// Loads one .safetensors file. `upcast`: half and bfloat16 become float32. Throws Error naming file
// and tensor: truncated, overlapping or out-of-range entries, wrong sizes, duplicates, non-finite.
StateDict LoadSafetensors(const std::filesystem::path& path, bool upcast = true);

// Loads FOLDER/STEM.safetensors, or the shards that FOLDER/STEM.safetensors.index.json names.
StateDict LoadSafetensorsFolder(const std::filesystem::path& folder, std::string_view stem,
                                bool upcast = true);

// Writes beside, fsyncs and renames. Throws Error (full disk included); never leaves half a file.
void SaveSafetensors(const std::filesystem::path& path, const StateDict& tensors,
                     const std::map<std::string, std::string>& metadata = {});

}  // namespace excise
