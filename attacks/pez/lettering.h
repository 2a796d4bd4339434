// A word drawn over pictures.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace excise {

// Shares of the picture's height, so that pictures of any size are lettered alike.
struct Lettering {
  double height = 0.25;  // the font's size
  double left = 0.29;    // where the ink starts
  double top = 0.39;     // of the line, above its letters
  double opacity = 1;
};

// `pictures`, float (n, 3, h, w) in [0,1], with `word` on each in blue, on one line and whole: one
// that is too long for its place starts further left, and one that is wider than the picture is
// drawn smaller. Throws Error for a word without ink or with characters that the font lacks,
// UsageError for one that does not fit at any size.
at::Tensor Lettered(const at::Tensor& pictures, const std::string& word, const Lettering& how);

}  // namespace excise
