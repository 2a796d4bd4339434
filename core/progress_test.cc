#include "core/progress.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "core/workers.h"

namespace excise {
namespace {

using Catch::Contains;

struct Outcome {
  std::string err;
  int status = 0;
};

// Runs `body` in a child whose stderr is a pipe or the slave end of a terminal.
Outcome RunChild(bool terminal, const std::function<int()>& body) {
  int ends[2] = {-1, -1};
  if (terminal) {
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(ends[0] >= 0);
    REQUIRE(grantpt(ends[0]) == 0);
    REQUIRE(unlockpt(ends[0]) == 0);
    ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY);
  } else {
    REQUIRE(pipe(ends) == 0);
  }
  REQUIRE(ends[1] >= 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    setenv("TERM", "xterm", 1);
    _exit(body());
  }
  close(ends[1]);
  Outcome outcome;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) outcome.err.append(buffer, n);
  close(ends[0]);
  REQUIRE(waitpid(child, &outcome.status, 0) == child);
  return outcome;
}

TEST_CASE("the progress line shows share, rate and time left", "[progress]") {
  CHECK(ProgressLine("generate", 5, 20, "images", 2.0, "esd") ==
        "generate: [#####...............] 5/20 images, 2.5/s, 6s left, esd");
  CHECK(ProgressLine("train", 0, 20, "steps", 0.0, "") ==
        "train: [....................] 0/20 steps");
  CHECK(ProgressLine("train", 10, 1000, "steps", 100.0, "") ==
        "train: [....................] 10/1000 steps, 10.0 s each, 2h45m left");
  CHECK(ProgressLine("train", 20, 20, "steps", 90.0, "") ==
        "train: [####################] 20/20 steps, 4.5 s each, 1m30s in all");
  CHECK(ProgressLine("scan", 7, 0, "files", 2.0, "") == "scan: 7 files, 3.5/s");
  CHECK(ProgressLine("craft", 1, 2, "prompts", 1.0, "\x1b[2J") ==
        "craft: [##########..........] 1/2 prompts, 1.0/s, 1s left, \\x1b[2J");
  CHECK_NOTHROW(ProgressLine("over", 30, 20, "steps", 1.0, ""));
}

TEST_CASE("a bar only on a terminal, whole lines elsewhere", "[progress]") {
  const auto body = [] {
    Progress progress("work", 4, "units");
    for (int i = 0; i < 4; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      progress.Advance(1, "n" + std::to_string(i));
      if (i == 2) LogWarning("mind \x1b[31mthis");
    }
    return 0;
  };
  const Outcome bar = RunChild(true, body);
  CHECK_THAT(bar.err, Contains("\r\x1b[Kwork: [##########..........] 2/4 units") &&
                          Contains("\r\x1b[KWarning: mind \\x1b[31mthis\r\n") &&
                          Contains("4/4 units") && Catch::EndsWith("\r\n"));
  const Outcome lines = RunChild(false, body);  // over within a second: nothing but the warning
  CHECK(lines.err == "Warning: mind \\x1b[31mthis\n");
}

TEST_CASE("threads may advance one bar together", "[progress]") {
  const Outcome outcome = RunChild(true, [] {
    Progress progress("work", 2000, "units");
    RunUnits(2000, 2, [&](int64_t i) {
      if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      progress.Advance();
    });
    return 0;
  });
  CHECK_THAT(outcome.err, Contains("2000/2000 units"));
}

TEST_CASE("the first signal asks, the second ends", "[progress]") {
  for (int signal_number : {SIGINT, SIGTERM}) {
    const auto first = RunChild(false, [&] {
      InstallInterruptHandlers();
      if (InterruptRequested() || InterruptExitCode() != 0) return 1;
      raise(signal_number);
      if (!InterruptRequested()) return 2;
      // Work that is handed out after the signal does not start.
      bool started = false, interrupted = false;
      try {
        RunUnits(3, 1, [&](int64_t) { started = true; });
      } catch (const Interrupted&) {
        interrupted = true;
      }
      if (started || !interrupted) return 3;
      return InterruptExitCode();
    });
    REQUIRE(WIFEXITED(first.status));
    CHECK(WEXITSTATUS(first.status) == 128 + signal_number);
    CHECK_THAT(first.err, Contains("Interrupted"));
    const auto second = RunChild(false, [&] {
      InstallInterruptHandlers();
      raise(SIGINT);
      raise(signal_number);
      return 0;  // not reached
    });
    REQUIRE(WIFEXITED(second.status));
    CHECK(WEXITSTATUS(second.status) == 128 + signal_number);
  }
}

TEST_CASE("a closed stderr does not end the run", "[progress]") {
  const Outcome outcome = RunChild(false, [] {
    close(STDERR_FILENO);
    LogInfo("nobody hears this");
    return 7;
  });
  CHECK(WEXITSTATUS(outcome.status) == 7);
}

}  // namespace
}  // namespace excise
