// "1 concept", "2 concepts".
#pragma once

#include <cstdint>
#include <string>

namespace excise {

// The count and its noun, which is given as for one; `many` where an s does not make the plural.
inline std::string Plural(int64_t n, const std::string& one, const std::string& many = "") {
  return std::to_string(n) + " " + (n == 1 ? one : many.empty() ? one + "s" : many);
}

}  // namespace excise
