#include "models/tensors/threads.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/error.h"

namespace excise {

void UseThreads(int threads) {
  if (threads < 0) {
    throw UsageError(fmt::format("--threads={}: 1 or more, or 0 for all cores.", threads));
  }
  if (threads > 0) at::set_num_threads(threads);
}

}  // namespace excise
