#include "core/empty_store.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> In(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
  return found;
}

// A process that made its store, put something there and was killed.
void KilledIn(const fs::path& scratch) {
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    EmptyStore store(scratch);
    store.store().Put({{"stage", "erase"}}, {{"a.txt", "a"}});
    (void)!write(ready[1], "r", 1);
    for (;;) pause();
  }
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  close(ready[0]);
  close(ready[1]);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

}  // namespace

TEST_CASE("a store is gone with its owner, and one whose owner was killed with the next run") {
  const fs::path scratch = TestFolder("empty_store") / "scratch";
  { EmptyStore store(scratch); }
  CHECK(In(scratch).empty());
  KilledIn(scratch);
  KilledIn(scratch);
  CHECK(In(scratch).size() == 1);  // the second removed the first's
  { EmptyStore store(scratch); }
  CHECK(In(scratch).empty());
}

TEST_CASE("the store of a living process, links and what others made stay") {
  const fs::path scratch = TestFolder("empty_store_others") / "scratch";
  const fs::path elsewhere = TestFolder("empty_store_elsewhere") / "mine";
  fs::create_directories(elsewhere);
  std::optional<EmptyStore> living(std::in_place, scratch);
  const fs::path own = living->store().root();
  fs::create_directories(scratch / "empty-handed");
  fs::create_directory_symlink(elsewhere, scratch / ".fresh-store-link.1.0");
  { EmptyStore another(scratch); }
  CHECK(fs::is_directory(own));
  CHECK(fs::is_directory(scratch / "empty-handed"));
  CHECK(fs::is_symlink(scratch / ".fresh-store-link.1.0"));
  CHECK(fs::is_directory(elsewhere));
  living.reset();
  CHECK_FALSE(fs::exists(own));
}

}  // namespace excise
