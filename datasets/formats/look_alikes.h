// What a text looks like to a reader who skims it: for filters that spelling must not pass.
#pragma once

#include <string>
#include <string_view>

namespace excise {

// Stands where a reader sees a seam without a space ("littleGirl" before the G) and for signs that
// look like nothing in ASCII.
inline constexpr char kSeam = '\x1f';

struct Appearance {
  // Lower-case ASCII: letters and digits of any script, width and style are the ASCII ones they
  // look like (a sign that may be i or l is '1'); accents, invisible characters and controls are
  // gone; white space of any kind is one of " \t\n\v\f\r".
  std::string ascii;
  // UTF-8 for scripts of their own, empty for an ASCII text: NFKC and case folded; and the same
  // without marks on letters.
  std::string folded, bare;
};

// Of any bytes; those that are no UTF-8 become seams. Throws Error where ICU lacks its data.
Appearance Look(std::string_view text);

}  // namespace excise
