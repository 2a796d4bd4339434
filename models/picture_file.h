// Pictures made by other software: PNG or JPEG of any size.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string_view>

namespace excise {

// More pixels than a picture may have are refused before anything is allocated for them: a file of
// some kilobytes can ask for gigabytes.
inline constexpr int64_t kMostPixels = int64_t{1} << 26;  // 8192 x 8192

// uint8 (3, height, width), RGB; the kind is read from the first bytes, not from the name. Throws
// Error naming the path: missing, neither PNG nor JPEG, damaged or cut off, above kMostPixels or
// 16384 a side, larger than 256 MB on disk, CMYK.
at::Tensor ReadPicture(const std::filesystem::path& path);
at::Tensor DecodeJpeg(std::string_view bytes, std::string_view origin);

// `image` uint8 (3, h, w) -> (3, side, side): the centred square, resampled (bicubic, antialiased)
// where its size is another.
at::Tensor CentredSquare(const at::Tensor& image, int64_t side);

}  // namespace excise
