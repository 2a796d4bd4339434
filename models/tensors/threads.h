// How many threads an operation of LibTorch uses.
#pragma once

namespace excise {

// Sets LibTorch's intra-op threads; 0 keeps its own choice. Throws UsageError below 0.
void UseThreads(int threads);

}  // namespace excise
