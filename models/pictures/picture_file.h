// Pictures made by other software: PNG or JPEG of any size.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

namespace excise {

// uint8 (3, height, width), RGB, as viewers show it: turned upright as EXIF says, transparent
// pixels laid on white (in sRGB values) and reported on stderr. What cannot be shown as it is
// meant, a colour profile other than sRGB, is reported there as well; once for each picture. Throws
// Error naming the path: missing, no regular file, larger than kMostPictureBytes, and what
// DecodePicture (models/formats/picture_decoder.h) refuses.
at::Tensor ReadPicture(const std::filesystem::path& path);

// Throws Error where that file would be refused unread: no regular file, or too large. To be asked
// before it is hashed.
void RequirePictureFile(const std::filesystem::path& path);

// The PNG and JPEG files (.png, .jpg, .jpeg) of the folder by name, not those of folders in it.
// Throws Error naming it when it cannot be read.
std::vector<std::filesystem::path> PictureFiles(const std::filesystem::path& folder);

// `image` uint8 (3, h, w) -> (3, side, side): the centred square, resampled (bicubic, antialiased)
// where its size is another.
at::Tensor CentredSquare(const at::Tensor& image, int64_t side);

}  // namespace excise
