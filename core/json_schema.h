// The part of JSON Schema (draft 2020-12) that results/schema.json uses.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

// What breaks `schema`, a line each with its JSON pointer; empty when `value` is valid. Knows type,
// enum, const, required, properties, additionalProperties, items, minItems, maxItems, minimum,
// maximum, minLength, pattern, $ref to "#/$defs/...", if/then. Any other keyword is an Error: a
// schema must not seem to ask for more than is checked.
std::vector<std::string> SchemaProblems(const Json& value, const Json& schema);

}  // namespace excise
