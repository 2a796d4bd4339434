// The styles that judges tell apart.
#pragma once

#include <string>
#include <vector>

namespace excise {

const std::vector<std::string>& JudgeStyles();  // plain, sepia, line

}  // namespace excise
