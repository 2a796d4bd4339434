// JPEG files in memory. Without tensors, as their decoder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace excise {

// `pixels` RGB, height x width x 3. As Pillow and libjpeg's cjpeg write them: colour at half the
// resolution, standard tables at `quality` (1 to 100).
std::string EncodeJpeg(const std::vector<uint8_t>& pixels, int64_t width, int64_t height,
                       int quality);

}  // namespace excise
