// Tensors as PNG files, through libpng. Reading: models/pictures/picture_file.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace excise {

// `image`: uint8 (3, height, width), RGB; written beside, fsynced and renamed. Throws Error naming
// the path.
void WritePng(const std::filesystem::path& path, const at::Tensor& image);

// The same as bytes in memory; `origin` opens every message.
std::string EncodePng(const at::Tensor& image, std::string_view origin);

}  // namespace excise
