#include "core/workers.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/progress.h"
#include "core/text.h"

namespace excise {
namespace {

using Catch::Contains;

TEST_CASE("every unit runs once, on as many threads as asked for", "[workers]") {
  for (int workers : {1, 2, 5}) {
    std::vector<std::atomic<int>> runs(100);
    RunUnits(100, workers, [&](int64_t i) { ++runs[i]; });
    CAPTURE(workers);
    CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
  }
  RunUnits(0, 3, [](int64_t) { throw std::runtime_error("no unit"); });
  CHECK_THROWS_AS(RunUnits(1, 0, [](int64_t) {}), UsageError);
}

TEST_CASE("one worker is this thread; two run at the same time", "[workers]") {
  RunUnits(3, 1, [&, id = std::this_thread::get_id()](int64_t) {
    CHECK(std::this_thread::get_id() == id);
  });
  // Each unit waits for the other: one thread alone would never end both.
  std::atomic<int> arrived{0};
  std::atomic<bool> together{false};
  RunUnits(2, 2, [&](int64_t) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (arrived == 2) together = true;
  });
  CHECK(together);
}

TEST_CASE("the failure with the lowest index is thrown after all units have ended", "[workers]") {
  for (int workers : {1, 2, 4}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::atomic<int> ended{0};
      std::string message;
      try {
        RunUnits(50, workers, [&](int64_t i) {
          if (i == 7) std::this_thread::sleep_for(std::chrono::microseconds(200));
          ++ended;
          if (i % 10 == 7) throw std::runtime_error("unit " + std::to_string(i));
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      CHECK(message == "unit 7");
      CHECK(ended == 50);
    }
  }
}

TEST_CASE("Interrupted stops the hand-out", "[workers]") {
  for (int workers : {1, 2}) {
    std::atomic<int> ran{0};
    CHECK_THROWS_AS(RunUnits(1000, workers,
                             [&](int64_t i) {
                               ++ran;
                               if (i == 5) throw Interrupted{};
                               std::this_thread::sleep_for(std::chrono::milliseconds(1));
                             }),
                    Interrupted);
    CHECK(ran >= 6);
    CHECK(ran < 100);
  }
}

TEST_CASE("shards partition the units", "[workers]") {
  std::multiset<int64_t> seen;
  for (int64_t i = 0; i < 3; ++i) {
    const Shard shard = ChooseShard(std::to_string(i) + "/3").shard;
    CHECK(shard.index == i);
    CHECK(shard.count == 3);
    for (int64_t unit = 0; unit < 10; ++unit) {
      if (shard.Owns(unit)) seen.insert(unit);
    }
  }
  CHECK(seen == std::multiset<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

using Variables = std::map<std::string, std::string>;

// Sets a launcher's variables for one check and takes them away again.
class Environment {
 public:
  explicit Environment(const Variables& variables) {
    Clear();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() { Clear(); }

 private:
  static void Clear() {
    std::vector<std::string> names;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string name = std::string(*entry).substr(0, std::string(*entry).find('='));
      for (const char* launcher :
           {"RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "SLURM_", "OMPI_"}) {
        if (StartsWith(name, launcher)) names.push_back(name);
      }
    }
    for (const std::string& name : names) unsetenv(name.c_str());
  }
};

ShardChoice ChoiceUnder(const Variables& variables, const std::string& flag = "") {
  const Environment environment(variables);
  return ChooseShard(flag);
}

std::string ShardUnder(const Variables& variables, const std::string& flag = "") {
  const Shard shard = ChoiceUnder(variables, flag).shard;
  return std::to_string(shard.index) + "/" + std::to_string(shard.count);
}

Variables Both(Variables first, const Variables& second) {
  first.insert(second.begin(), second.end());
  return first;
}

// What the launchers set, as their manuals have it.
Variables Torchrun(const std::string& rank, const std::string& size) {
  return {{"RANK", rank},
          {"WORLD_SIZE", size},
          {"LOCAL_RANK", rank},
          {"LOCAL_WORLD_SIZE", size},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", "29500"},
          {"TORCHELASTIC_RUN_ID", "none"}};
}
Variables OpenMpi(const std::string& rank, const std::string& size) {
  return {{"OMPI_COMM_WORLD_RANK", rank},
          {"OMPI_COMM_WORLD_SIZE", size},
          {"OMPI_COMM_WORLD_LOCAL_RANK", rank},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", size}};
}
Variables SlurmStep(const std::string& task, const std::string& tasks) {
  return {{"SLURM_JOB_ID", "77"},
          {"SLURM_STEP_ID", "0"},
          {"SLURM_PROCID", task},
          {"SLURM_NTASKS", tasks},
          {"SLURM_STEP_NUM_TASKS", tasks}};
}
// sbatch --array=10-20:5
Variables SlurmArray(const std::string& id) {
  return {{"SLURM_JOB_ID", "77"},         {"SLURM_ARRAY_JOB_ID", "75"},
          {"SLURM_ARRAY_TASK_ID", id},    {"SLURM_ARRAY_TASK_COUNT", "3"},
          {"SLURM_ARRAY_TASK_MIN", "10"}, {"SLURM_ARRAY_TASK_MAX", "20"},
          {"SLURM_ARRAY_TASK_STEP", "5"}};
}

TEST_CASE("launchers set the shard, and say so", "[workers]") {
  CHECK(ShardUnder({}) == "0/1");
  CHECK(ChoiceUnder({}).notes.empty());
  CHECK(ShardUnder(Torchrun("2", "4")) == "2/4");
  CHECK(ShardUnder(OpenMpi("1", "2")) == "1/2");
  CHECK(ShardUnder(SlurmStep("1", "3")) == "1/3");
  CHECK(ShardUnder(SlurmArray("20")) == "2/3");
  // Two tasks in each element; and one, which a plain element has.
  CHECK(ShardUnder(Both(SlurmArray("20"), SlurmStep("1", "2"))) == "5/6");
  CHECK(ShardUnder(Both(SlurmArray("20"), SlurmStep("0", "1"))) == "2/3");
  CHECK(ShardUnder(Both(SlurmArray("20"), Torchrun("1", "2"))) == "5/6");
  // Started by Slurm once a node, they start the processes themselves.
  CHECK(ShardUnder(Both(SlurmStep("0", "2"), Torchrun("1", "4"))) == "1/4");
  CHECK(ShardUnder(Both(SlurmStep("0", "2"), OpenMpi("3", "4"))) == "3/4");

  const ShardChoice choice = ChoiceUnder(Both(SlurmArray("20"), OpenMpi("1", "2")));
  CHECK(choice.origin ==
        "a Slurm array (SLURM_ARRAY_TASK_ID=20, SLURM_ARRAY_TASK_COUNT=3) and Open MPI "
        "(OMPI_COMM_WORLD_RANK=1, OMPI_COMM_WORLD_SIZE=2)");
  CHECK(choice.variables.size() == 4);
  REQUIRE(choice.notes.size() == 1);
  CHECK_THAT(choice.notes[0],
             Contains("part 5 of 6") && Contains(choice.origin) && Contains("--shard=0/1"));
}

TEST_CASE("variables that were left over make no shard, and this is reported", "[workers]") {
  const ShardChoice left = ChoiceUnder({{"RANK", "1"}, {"WORLD_SIZE", "4"}});
  CHECK(left.shard.count == 1);
  CHECK(left.origin.empty());
  REQUIRE(left.notes.size() == 1);
  CHECK_THAT(left.notes[0], Contains("RANK=1 and WORLD_SIZE=4 are not heeded") &&
                                Contains("LOCAL_RANK") && Contains("--shard=i/n"));
  // Not even where they are no numbers.
  CHECK(ShardUnder({{"RANK", "x"}, {"WORLD_SIZE", "4"}}) == "0/1");
  CHECK(ShardUnder({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}}) == "0/1");
  CHECK(ChoiceUnder({{"RANK", "2"}}).notes.empty());
  // The shell of salloc, and a batch script outside of its srun.
  const Variables batch = {{"SLURM_JOB_ID", "77"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}};
  CHECK(ShardUnder(batch) == "0/1");
  CHECK(ChoiceUnder(batch).notes.empty());
  // Any one of them that is missing.
  for (const Variables& whole : {Torchrun("1", "4"), OpenMpi("1", "4"), SlurmArray("15")}) {
    CHECK(ShardUnder(whole) != "0/1");
    for (const auto& [name, value] : whole) {
      if (name == "SLURM_ARRAY_TASK_MAX") continue;
      CAPTURE(name);
      Variables part = whole;
      part.erase(name);
      CHECK(ShardUnder(part) == "0/1");
    }
  }
}

TEST_CASE("--shard is heeded before any launcher", "[workers]") {
  for (const Variables& all : {Torchrun("2", "4"), OpenMpi("2", "4"), SlurmStep("2", "4"),
                               SlurmArray("20"), Torchrun("x", "4")}) {
    CHECK(ShardUnder(all, "0/1") == "0/1");
    CHECK(ShardUnder(all, "1/3") == "1/3");
    CHECK(ChoiceUnder(all, "0/1").notes.empty());
    CHECK(ChoiceUnder(all, "1/3").origin.empty());
  }
}

TEST_CASE("wrong shards are usage errors", "[workers]") {
  const Environment clean({});
  for (const char* text : {"1", "1/", "/2", "a/2", "2/2", "-1/2", "0/0", "0/2x", "1/2/3", " 0/2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ChooseShard(text), UsageError);
  }
  CHECK_THROWS_AS(ChooseShard("0/1000001"), UsageError);
  CHECK_THROWS_WITH(ShardUnder(Torchrun("4", "4")), Contains("RANK") && Contains("shard 4 of 4"));
  CHECK_THROWS_WITH(ShardUnder(Torchrun("x", "4")), Contains("RANK='x' is not an integer"));
  CHECK_THROWS_WITH(ShardUnder(SlurmArray("12")), Contains("SLURM_ARRAY_TASK_ID=12"));
}

}  // namespace
}  // namespace excise
