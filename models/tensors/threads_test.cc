#include "models/tensors/threads.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

// Processor time so far of each thread of this process, in clock ticks, by thread id.
std::map<std::string, int64_t> TicksOfThreads() {
  std::map<std::string, int64_t> ticks;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(thread.path() / "stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field behind.
    std::istringstream fields(stat.substr(stat.rfind(')') + 1));
    std::string skipped;
    int64_t user = 0, system = 0;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    fields >> user >> system;
    ticks[thread.path().filename()] = user + system;
  }
  return ticks;
}

// How many threads do a good part of the work of products of large matrices.
int ThreadsOfProducts() {
  const at::Tensor matrix = at::full({768, 768}, .5f);
  const std::map<std::string, int64_t> before = TicksOfThreads();
  // By processor time, so that a busy machine only takes longer.
  int64_t all = 0, wanted = sysconf(_SC_CLK_TCK) / 2;
  std::vector<int64_t> spent;
  while (all < wanted) {
    for (int i = 0; i < 5; ++i) at::mm(matrix, matrix);
    all = 0;
    spent.clear();
    for (const auto& [thread, ticks] : TicksOfThreads()) {
      const auto found = before.find(thread);
      spent.push_back(ticks - (found == before.end() ? 0 : found->second));
      all += spent.back();
    }
  }
  return static_cast<int>(
      std::count_if(spent.begin(), spent.end(), [all](int64_t t) { return 5 * t >= all; }));
}

}  // namespace

TEST_CASE(
    "the count of threads holds after weights were loaded: a large product takes two threads' "
    "time") {
  if (std::thread::hardware_concurrency() < 2) {
    WARN("skipped: this machine has one core");
    return;
  }
  const int before = at::get_num_threads();
  for (const at::ScalarType type : {at::kFloat, at::kHalf}) {  // as they are; and cast
    // Large enough to be read by several threads.
    const std::filesystem::path file = TestFolder("threads") / "x.safetensors";
    StateDict weights;
    weights.Set("values", at::full({8 << 20}, 1.5, type));
    SaveSafetensors(file, weights);
    int count = 0, two = 0, one = 0;
    // A thread that has computed nothing yet, as a program's is.
    std::thread([&] {
      UseThreads(2);
      LoadSafetensors(file);
      count = at::get_num_threads();
      two = ThreadsOfProducts();
      UseThreads(1);
      one = ThreadsOfProducts();
    }).join();
    INFO(c10::toString(type));
    CHECK(count == 2);
    CHECK(two == 2);
    CHECK(one == 1);
  }
  at::set_num_threads(before);
}

TEST_CASE("a count of threads below 0 is refused") { CHECK_THROWS_AS(UseThreads(-1), UsageError); }

// core/program.cc knows the want of memory by these words.
TEST_CASE("LibTorch says that it cannot allocate memory") {
  CHECK_THROWS_WITH(at::full({int64_t{1} << 58}, 1.0), Catch::Contains("can't allocate memory"));
}

}  // namespace excise
