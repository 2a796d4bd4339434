// Worker threads that own whole units of work, and shards of them. Results do not depend on either.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace excise {

// Runs work(0..n-1) on `workers` threads (1 = this thread). The first exception by lowest index is
// rethrown after all threads have ended; Interrupted stops the hand-out of further units.
void RunUnits(int64_t n, int workers, const std::function<void(int64_t)>& work);

// Shard i of n: unit u belongs to shard u mod n.
struct Shard {
  int64_t index = 0, count = 1;
  bool Owns(int64_t unit) const { return unit % count == index; }
};

// The shard that a program is to do, and why.
struct ShardChoice {
  Shard shard;
  // The launcher that asks for it, "torchrun (RANK=1, WORLD_SIZE=4)", and the variables by which it
  // does; empty where --shard does, or nobody.
  std::string origin;
  std::vector<std::string> variables;
  // What the user must be told of launchers' variables, a line each: which shard they come to, or
  // that some are there without the others and are not heeded.
  std::vector<std::string> notes;
};
// By "i/n" alone; where that is "", by what the launcher set: torchrun, Open MPI or a Slurm step,
// times the place in a Slurm array; else 0/1. Variables count where all are there that their
// launcher sets together, for a few may be left over in a shell. Throws UsageError.
ShardChoice ChooseShard(const std::string& text);

}  // namespace excise
