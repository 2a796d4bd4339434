// What the bars' report (JSON) looks like to people: tables, and the model card of the snapshot.
#pragma once

#include <string>

#include "core/json.h"

namespace excise {

// The bars, one a row: as aligned text, or as a Markdown table.
std::string RenderBars(const Json& report, bool markdown);
// The tables behind them: concepts, classes, garbage. Empty where nothing was measured.
std::string RenderDetails(const Json& report, bool markdown);
// README.md of the snapshot folder: front matter, what it is, recipe, inputs, bars, use, limits,
// licences. Needs "snapshot" in the report (see DescribeSnapshot).
std::string RenderModelCard(const Json& report);

// Number of bars whose status is `status`: met, missed or not_there.
int CountBars(const Json& report, const std::string& status);

}  // namespace excise
