#include "core/workers.h"

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

namespace excise {
namespace {

using Catch::Matchers::Contains;

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
    const Shard shard = ParseShard(std::to_string(i) + "/3");
    CHECK(shard.index == i);
    CHECK(shard.count == 3);
    for (int64_t unit = 0; unit < 10; ++unit) {
      if (shard.Owns(unit)) seen.insert(unit);
    }
  }
  CHECK(seen == std::multiset<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

// Sets the launcher's variables for one check and takes them away again.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const char* name : kNames) unsetenv(name);
  }

 private:
  static constexpr const char* kNames[] = {"RANK",
                                           "WORLD_SIZE",
                                           "SLURM_PROCID",
                                           "SLURM_NTASKS",
                                           "SLURM_STEP_NUM_TASKS",
                                           "SLURM_ARRAY_TASK_ID",
                                           "SLURM_ARRAY_TASK_COUNT",
                                           "SLURM_ARRAY_TASK_MIN",
                                           "SLURM_ARRAY_TASK_STEP",
                                           "OMPI_COMM_WORLD_RANK",
                                           "OMPI_COMM_WORLD_SIZE"};
};

std::string ShardUnder(const std::map<std::string, std::string>& variables) {
  const Environment environment(variables);
  const Shard shard = ParseShard("");
  return std::to_string(shard.index) + "/" + std::to_string(shard.count);
}

TEST_CASE("launchers set the shard", "[workers]") {
  CHECK(ShardUnder({}) == "0/1");
  CHECK(ShardUnder({{"RANK", "2"}, {"WORLD_SIZE", "4"}}) == "2/4");
  CHECK(ShardUnder({{"RANK", "2"}}) == "0/1");
  CHECK(ShardUnder({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "3"}}) == "1/3");
  CHECK(ShardUnder({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}) == "1/2");
  // sbatch --array=10-20:5
  const std::map<std::string, std::string> array = {{"SLURM_ARRAY_TASK_ID", "20"},
                                                    {"SLURM_ARRAY_TASK_COUNT", "3"},
                                                    {"SLURM_ARRAY_TASK_MIN", "10"},
                                                    {"SLURM_ARRAY_TASK_STEP", "5"}};
  CHECK(ShardUnder(array) == "2/3");
  auto both = array;  // and two tasks in each element
  both["SLURM_PROCID"] = "1";
  both["SLURM_NTASKS"] = "2";
  CHECK(ShardUnder(both) == "5/6");
  both["SLURM_PROCID"] = "0";
  both["SLURM_NTASKS"] = "1";  // what a plain array element sets
  CHECK(ShardUnder(both) == "2/3");
  both["RANK"] = "0";
  both["WORLD_SIZE"] = "2";
  CHECK(ShardUnder(both) == "0/2");
}

TEST_CASE("wrong shards are usage errors", "[workers]") {
  const Environment clean({});
  for (const char* text : {"1", "1/", "/2", "a/2", "2/2", "-1/2", "0/0", "0/2x", "1/2/3", " 0/2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParseShard(text), UsageError);
  }
  CHECK_THROWS_AS(ShardUnder({{"RANK", "4"}, {"WORLD_SIZE", "4"}}), UsageError);
  CHECK_THROWS_WITH(ShardUnder({{"RANK", "x"}, {"WORLD_SIZE", "4"}}), Contains("RANK"));
  CHECK_THROWS_AS(ShardUnder({{"SLURM_ARRAY_TASK_ID", "7"},
                              {"SLURM_ARRAY_TASK_COUNT", "2"},
                              {"SLURM_ARRAY_TASK_MIN", "0"}}),
                  UsageError);
}

}  // namespace
}  // namespace excise
