#include "models/pictures/picture_file.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/round.h>
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/text.h"
#include "models/formats/picture_decoder.h"

namespace excise {
namespace {

// Once for each picture: training reads the same ones again and again.
void Tell(const std::string& line) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::lock_guard<std::mutex> lock(mutex);
  if (told.insert(line).second) LogWarning(line);
}

// Channels 0 to 2 of one pixel on white; opaque pixels stay as they are.
void LayOnWhite(const uint8_t* rgba, uint8_t* rgb) {
  const int alpha = rgba[3];
  for (int c = 0; c < 3; ++c) {
    rgb[c] = static_cast<uint8_t>((rgba[c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
}

// (height, width, 3)
at::Tensor Opaque(const DecodedPicture& picture, const std::string& origin) {
  const at::Tensor rows = at::empty({picture.height, picture.width, 3}, at::kByte);
  auto* out = rows.mutable_data_ptr<uint8_t>();
  if (picture.channels == 3) {
    std::copy(picture.pixels.begin(), picture.pixels.end(), out);
    return rows;
  }
  int64_t transparent = 0;
  for (size_t i = 0; i < picture.pixels.size(); i += 4, out += 3) {
    transparent += picture.pixels[i + 3] != 255;
    LayOnWhite(&picture.pixels[i], out);
  }
  if (transparent > 0) {
    Tell(
        fmt::format("{}: {} of its {} pixels are transparent. They are laid on white, as viewers "
                    "do; save the picture without transparency to choose another ground.",
                    origin, transparent, picture.width * picture.height));
  }
  return rows;
}

// `image` (3, height, width) as it was seen, which the file stores as `orientation` says (EXIF, tag
// Orientation).
at::Tensor Upright(const at::Tensor& image, int orientation) {
  const at::Tensor turned = orientation >= 5 ? image.transpose(1, 2) : image;
  const bool mirrored[] = {false, true, true, false, false, true, true, false};
  const bool upside_down[] = {false, false, true, true, false, false, true, true};
  std::vector<int64_t> flipped;
  if (upside_down[orientation - 1]) flipped.push_back(1);
  if (mirrored[orientation - 1]) flipped.push_back(2);
  return flipped.empty() ? turned : turned.flip(flipped);
}

}  // namespace

at::Tensor ReadPicture(const std::filesystem::path& path) {
  const std::string origin = path.string();
  const DecodedPicture picture = DecodePicture(ReadFile(path, kMostPictureBytes), origin);
  if (picture.foreign_profile) {
    Tell(
        fmt::format("{}: its colour profile does not call itself sRGB and is not applied, so its "
                    "colours may differ from a viewer's. Convert the picture to sRGB.",
                    origin));
  }
  return Upright(Opaque(picture, origin).permute({2, 0, 1}), picture.orientation).contiguous();
}

void RequirePictureFile(const std::filesystem::path& path) { RegularFile(path, kMostPictureBytes); }

std::vector<std::filesystem::path> PictureFiles(const std::filesystem::path& folder) {
  std::error_code code;
  std::vector<std::filesystem::path> files;
  std::filesystem::directory_iterator file(folder, code), end;
  for (; !code && file != end; file.increment(code)) {
    const std::string ending = LowerAscii(file->path().extension().string());
    if (IsOneOf(ending, {".png", ".jpg", ".jpeg"})) files.push_back(file->path());
  }
  if (code) {
    throw Error(fmt::format("{}: this folder of pictures cannot be read ({}). Check the path.",
                            folder.string(), code.message()));
  }
  std::sort(files.begin(), files.end());
  return files;
}

at::Tensor CentredSquare(const at::Tensor& image, int64_t side) {
  const int64_t height = image.size(1), width = image.size(2), square = std::min(height, width);
  const at::Tensor centre =
      image.narrow(1, (height - square) / 2, square).narrow(2, (width - square) / 2, square);
  if (square == side) return centre.contiguous();
  const at::Tensor resized = at::_upsample_bicubic2d_aa(centre.unsqueeze(0).to(at::kFloat),
                                                        {side, side}, /*align_corners=*/false);
  return at::round(resized).clamp(0, 255).to(at::kByte)[0];
}

}  // namespace excise
