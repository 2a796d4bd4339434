// Whether a results file that was computed with other numerics may be believed to be.
#pragma once

#include <string>

#include "core/json.h"

namespace excise {

// Limits this process to the instruction sets that the results name, as far as this CPU has them,
// so that their bytes may come again: golden ones and those of other runs. Call before the first
// tensor operation. Returns whether this CPU was narrowed: then it is none that its name tells.
bool PinAsIn(const Json& results);

// Why the results' fingerprint, which is not that of `here` (Numerics of this process, after
// PinAsIn), is no other machine's: "" where it may be. A golden profile computes the same on every
// CPU; so does everybody with the same instruction sets on a CPU of the same name, which is `cpu`
// ("": it was narrowed).
std::string NumericsDoubt(const Json& results, const Json& here, const std::string& cpu);

// "AVX512, oneDNN AVX512_CORE_AMX, MKL unpinned, LibTorch 2.11.0-..., a CPU".
std::string NumericsInWords(const Json& numerics, const std::string& cpu);

}  // namespace excise
