// Whether a run printed what the repository's committed run of the same experiment printed.
#pragma once

#include <string>

#include "core/json.h"

namespace excise {

// "table1/table1.json", "table1/table1_full.json": where below results/ the committed results of a
// table and profile are.
std::string CommittedName(const std::string& table, const std::string& profile);

// One line for who compares the printed table with the committed one, of the file `name`: whether
// other numerics explain it, whose, how many values are printed otherwise, and by how much at most.
// "" where none is, or the two did not compute the same thing: another experiment, other inputs,
// plug-ins or parameters.
std::string AgainstCommitted(const Json& results, const Json& committed, const std::string& name);

}  // namespace excise
