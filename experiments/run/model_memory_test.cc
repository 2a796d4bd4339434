#include "experiments/run/model_memory.h"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "core/error.h"

namespace excise {
namespace {

ErasedModel Of(int64_t bytes) {
  ErasedModel model;
  model.bytes = bytes;
  return model;
}

}  // namespace

TEST_CASE("the least recently used model is let go first, and made again when it is asked for") {
  ModelMemory memory(25);
  int made = 0;
  const auto get = [&](size_t method, int64_t bytes = 10) {
    return memory.Get({method, 0, 0}, [&] {
      ++made;
      return Of(bytes);
    });
  };
  get(1);
  get(2);
  get(1);  // now 2 is the oldest
  CHECK(made == 2);
  get(3);
  CHECK(memory.bytes() == 20);
  get(1);
  get(3);
  CHECK(made == 3);  // both are there
  get(2);
  CHECK(made == 4);
  CHECK(memory.bytes() == 20);
}

TEST_CASE("one model stays however large it is, and who holds a model keeps it") {
  ModelMemory memory(5);
  const auto held = memory.Get({1, 0, 0}, [] { return Of(10); });
  CHECK(memory.bytes() == 10);
  memory.Get({2, 0, 0}, [] { return Of(20); });
  CHECK(memory.bytes() == 20);
  CHECK(held->bytes == 10);
  // What shares all its tensors costs nothing and stays.
  memory.Get({3, 0, 0}, [] { return Of(0); });
  memory.Get({4, 0, 0}, [] { return Of(30); });
  CHECK(memory.bytes() == 30);
  CHECK_NOTHROW(memory.Get({3, 0, 0}, []() -> ErasedModel { throw Error("made again"); }));
}

TEST_CASE("a model is made once for all who wait for it, and a failure is kept") {
  ModelMemory memory(100);
  std::atomic<int> made{0};
  std::vector<std::thread> workers;
  std::vector<const ErasedModel*> seen(4);
  for (size_t i = 0; i < seen.size(); ++i) {
    workers.emplace_back([&, i] {
      seen[i] = memory
                    .Get({1, 2, 0},
                         [&] {
                           ++made;
                           std::this_thread::sleep_for(std::chrono::milliseconds(20));
                           return Of(10);
                         })
                    .get();
    });
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(made == 1);
  for (const ErasedModel* model : seen) CHECK(model == seen[0]);

  int tried = 0;
  const auto fail = [&]() -> ErasedModel {
    ++tried;
    throw Error("it diverged");
  };
  CHECK_THROWS_WITH(memory.Get({5, 0, 0}, fail), "it diverged");
  CHECK_THROWS_WITH(memory.Get({5, 0, 0}, fail), "it diverged");
  CHECK(tried == 1);
}

}  // namespace excise
