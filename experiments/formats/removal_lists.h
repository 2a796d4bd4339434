// Which concepts one edit removes together, as an experiment's "removals" says.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

using RemovalLists = std::vector<std::vector<std::string>>;

// As `object` has them: every name is one of `concepts`, and stands in one place. UsageError where
// they are not, naming the place below `origin`.
RemovalLists ParseRemovals(const Json& object, const std::vector<std::string>& concepts,
                           const std::string& origin);

// Of `removals` what is among `concepts`, in their order. One that is left alone needs no list.
RemovalLists RemovalsAmong(const std::vector<std::string>& concepts, const RemovalLists& removals);

}  // namespace excise
