// Worker threads that own whole units of work, and shards of them. Results do not depend on either.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace excise {

// Runs work(0..n-1) on `workers` threads (1 = this thread). The first exception by lowest index is
// rethrown after all threads have ended; Interrupted stops the hand-out of further units.
void RunUnits(int64_t n, int workers, const std::function<void(int64_t)>& work);

// Shard i of n: unit u belongs to shard u mod n.
struct Shard {
  int64_t index = 0, count = 1;
  bool Owns(int64_t unit) const { return unit % count == index; }
};
// "i/n", or "" for what the launcher set: torchrun (RANK, WORLD_SIZE), Slurm step (SLURM_PROCID,
// SLURM_NTASKS), Slurm array ((ID - MIN) / STEP of COUNT), Open MPI; else 0/1. Throws UsageError.
Shard ParseShard(const std::string& text);

}  // namespace excise
