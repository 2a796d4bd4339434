#include "models/tensors/same_tensors.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

namespace excise {

bool SameTensors(const StateDict& a, const StateDict& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first &&
                  (x.second.is_same(y.second) ||
                   (x.second.sizes() == y.second.sizes() && x.second.equal(y.second)));
         });
}

}  // namespace excise
