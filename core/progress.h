// Progress and log lines on stderr (stdout belongs to tables). A bar with rate and time left on a
// terminal, plain lines at most every few seconds elsewhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace excise {

class Progress {
 public:
  // `total` units of `unit` ("images", "steps"). total 0 = unknown.
  Progress(std::string label, int64_t total, std::string unit = "steps");
  ~Progress();
  void Advance(int64_t n = 1, std::string_view note = "");  // thread-safe

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The line a bar shows: "generate: [#####...............] 5/20 images, 2.5/s, 6s left, esd".
// Escaped for a terminal.
std::string ProgressLine(std::string_view label, int64_t done, int64_t total, std::string_view unit,
                         double seconds, std::string_view note);

// Set by SIGINT/SIGTERM handlers; long loops check it, checkpoint and leave by throwing
// Interrupted.
bool InterruptRequested();
// 130 for SIGINT, 143 for SIGTERM, 0 for none.
int InterruptExitCode();
// The first signal asks long loops to leave; the second ends the process at once.
void InstallInterruptHandlers();
struct Interrupted {};

// One line each, escaped for a terminal; a bar on the last line is redrawn below them.
void LogInfo(std::string_view line);
void LogWarning(std::string_view line);

}  // namespace excise
