// What an attacker pays for a margin of a defence's hooks or filter.
#pragma once

#include <ATen/core/Tensor.h>

namespace excise {

// (margin + 0.02)+ of each element, the hinge of Carlini & Wagner (IEEE S&P 2017, arXiv
// 1608.04644). Nothing is to be gained behind the boundary, where a smooth loss would go on trading
// the concept for distance; the little more is for what one step cannot see.
at::Tensor Alarm(const at::Tensor& margin);

}  // namespace excise
