// Reads the data of a safetensors file into tensors: several threads, each block of bytes checked
// and cast while it is in the cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>
#include <vector>

#include "models/formats/safetensors_header.h"

namespace excise {

// The tensors of `header.entries`, in their order, on the CPU; floating-point ones as
// `float_dtype`, if given. `fd` is the open file, `path` is for messages. Throws Error naming file
// and tensor: a dtype that tensors do not have, a value that is not finite, a read that fails.
std::vector<at::Tensor> ReadTensors(int fd, const std::filesystem::path& path,
                                    const SafetensorsHeader& header,
                                    std::optional<at::ScalarType> float_dtype);

// The tensor type that a dtype's name in the file stands for, if there is one; and back.
std::optional<at::ScalarType> SafetensorsScalarType(std::string_view dtype);
const char* SafetensorsDtypeName(at::ScalarType type);  // nullptr if there is none

// No infinity, no NaN. True for integers.
bool AllFinite(const at::Tensor& tensor);

}  // namespace excise
