// PNG files as tensors, through libpng.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace excise {

// `image`: uint8 (3, height, width), RGB; written beside, fsynced and renamed. Throws Error naming
// the path.
void WritePng(const std::filesystem::path& path, const at::Tensor& image);

// uint8 (3, height, width), RGB. Grey, palette and 16-bit pictures are converted as libpng does it;
// transparency is laid on white. Throws Error naming the path (missing, no PNG, damaged, above
// 16384 pixels a side).
at::Tensor ReadPng(const std::filesystem::path& path);

// The same from and to bytes in memory; `origin` opens every message.
std::string EncodePng(const at::Tensor& image, std::string_view origin);
at::Tensor DecodePng(std::string_view bytes, std::string_view origin);

}  // namespace excise
