// The settings that the tuning tries.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/params.h"

namespace excise {

// Settings in the space.
int64_t SizeOf(const SearchSpace& space);

// At most `count` different settings of `plugin`; of a space that is no larger all. First the
// paper's own values of the fields in the space, where `presets` has them, then settings of the
// space, drawn by Philox keyed by `seed` and `name`. Fields outside the space stay as they are.
// Throws UsageError when the space names an unknown field or value.
std::vector<Json> DrawTrials(Parameterised& plugin, const std::map<std::string, Json>& presets,
                             const std::string& name, const SearchSpace& space, size_t count,
                             uint64_t seed);

}  // namespace excise
