// How a camera says that it was held.
#pragma once

#include <string_view>

namespace excise {

// The tag Orientation (0x0112) of `tiff`, a TIFF header and what follows, as EXIF has it: 1 to 8,
// where 1 is upright. 1 also where it is not said or cannot be read, as viewers take it.
int ExifOrientation(std::string_view tiff);

}  // namespace excise
