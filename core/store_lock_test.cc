#include "core/store_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/progress.h"
#include "core/store.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

mode_t ModeOf(const fs::path& path) {
  return static_cast<mode_t>(fs::symlink_status(path).permissions());
}

// A process beside the test, with stderr in `log`. It exits with what `body` returns, or, where a
// signal asked it to leave, as a program does.
pid_t Beside(const fs::path& log, const std::function<int()>& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  int code = 99;
  try {
    InstallInterruptHandlers();
    if (freopen(log.c_str(), "w", stderr) != nullptr) code = body();
  } catch (const Interrupted&) {
    code = InterruptExitCode();
  } catch (...) {
  }
  _exit(code);
}

int ExitOf(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Whether `file` holds `text`, within a time that is long for any machine.
bool ComesToSay(const fs::path& file, const std::string& text) {
  for (int i = 0; i < 1200; ++i) {
    if (Slurp(file).find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

}  // namespace

TEST_CASE("a lock held by another is reported with its holder, and signals end the wait") {
  const fs::path folder = TestFolder("held"), lock = folder / ".lock";
  const pid_t holder = Beside(folder / "holder", [&] {
    const StoreLock held(lock);
    while (!InterruptRequested()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return 0;
  });
  const std::string name = "process " + std::to_string(holder) + " on ";
  REQUIRE(ComesToSay(lock, name));
  const auto store = [&] {
    Store(folder).Put({{"stage", "erase"}}, {{"weights", "w"}});
    return 0;
  };
  const pid_t first = Beside(folder / "first", store), second = Beside(folder / "second", store),
              third = Beside(folder / "third", store);
  for (const char* log : {"first", "second", "third"}) {
    CHECK(ComesToSay(folder / log, "waiting for " + lock.string()));
    CHECK_THAT(Slurp(folder / log), Contains(name) && Contains("--cache=DIR"));
  }
  kill(first, SIGTERM);
  kill(second, SIGINT);
  CHECK(ExitOf(first) == 143);
  CHECK(ExitOf(second) == 130);
  kill(holder, SIGTERM);
  CHECK(ExitOf(holder) == 0);
  CHECK(ExitOf(third) == 0);  // it was only late
  CHECK(Slurp(lock).empty());
}

TEST_CASE("another program's lock is reported, too") {
  const fs::path folder = TestFolder("foreign"), lock = folder / ".lock";
  const Descriptor file(lock, O_RDWR | O_CREAT, 0600);
  REQUIRE(flock(file.get(), LOCK_EX) == 0);
  const pid_t child = Beside(folder / "log", [&] {
    const StoreLock waits(lock);
    return 0;
  });
  CHECK(ComesToSay(folder / "log", "another program holds it"));
  kill(child, SIGTERM);
  CHECK(ExitOf(child) == 143);
}

TEST_CASE("who may not write the lock cannot hold it") {
  const fs::path folder = TestFolder("readers");
  fs::permissions(folder, fs::perms(0755));
  const std::pair<int, int> modes[] = {{0644, 0600}, {0600, 0600}, {0664, 0660}, {0666, 0666}};
  for (const auto& [mode, kept] : modes) {
    const fs::path lock = folder / std::to_string(mode);
    std::ofstream(lock) << "";
    fs::permissions(lock, fs::perms(mode));
    const StoreLock held(lock);
    CHECK(ModeOf(lock) == static_cast<mode_t>(kept));
  }
  const mode_t before = umask(0);
  const StoreLock made(folder / "made");
  umask(before);
  CHECK(ModeOf(folder / "made") == 0600);
  if (geteuid() != 0) {
    WARN("SKIPPED: only root can become another user; a reader's lock was not tried.");
    return;
  }
  const pid_t reader = Beside(folder / "log", [&] {
    if (setgid(65534) != 0 || setuid(65534) != 0) return 1;
    const Descriptor file(folder / "made", O_RDONLY);
    return file.get() < 0 && errno == EACCES ? 0 : 2;
  });
  CHECK(ExitOf(reader) == 0);
}

TEST_CASE("a link or a pipe is no lock") {
  const fs::path folder = TestFolder("odd");
  std::ofstream(folder / "file") << "x";
  fs::create_symlink("file", folder / "link");
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  for (const char* name : {"link", "pipe"}) {
    CHECK_THROWS_WITH(StoreLock(folder / name), Contains((folder / name).string()));
  }
  fs::create_symlink("file", folder / ".lock");
  CHECK_THROWS_AS(Store(folder), UsageError);
}

}  // namespace excise
