// The styles that judges distinguish.
#pragma once

#include <string>
#include <vector>

namespace excise {

const std::vector<std::string>& JudgeStyles();  // plain, sepia, line

}  // namespace excise
