// What attacks share that put tokens before a prompt and ask the oracle what the victim makes of
// it, one try after the other.
#pragma once

#include <cstdint>
#include <string>

#include "attacks/attack.h"

namespace excise {

// "excluded:too_long" where the encoder's context has no room for `prefix_len` tokens before the
// seed's, else "".
std::string ReasonWithoutRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len);

// Asks the oracle about `prompt` and appends it to `trajectory` with the answer, unless the queries
// are spent. Whether the search is over: it has found what it looks for, or may not ask any more.
bool Try(Target& target, Prompt prompt, Trajectory* trajectory);

// For a search that found nothing: what the oracle rated highest is what the attacker would send.
// It becomes the last candidate, with all that was spent. `trajectory` is not empty.
void ChooseBest(Trajectory* trajectory);

}  // namespace excise
