#include "core/progress.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/escape.h"
#include "core/text.h"

namespace excise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTerminalInterval = 0.1;  // seconds between two drawings of a bar
constexpr double kLogInterval = 5.0;       // and between two lines of a log file

std::atomic<int> interrupt_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not lock");

extern "C" void OnInterrupt(int signal) {
  const int saved_errno = errno;
  int none = 0;
  if (!interrupt_signal.compare_exchange_strong(none, signal)) _exit(128 + signal);
  constexpr char kNote[] =
      "\nInterrupted: saving a checkpoint and leaving. A second interrupt ends at once.\n";
  (void)!write(STDERR_FILENO, kNote, sizeof(kNote) - 1);
  errno = saved_errno;
}

// One lock for everything that is written to stderr, and whether a bar stands on its last line.
std::mutex& OutputMutex() {
  static std::mutex mutex;
  return mutex;
}
bool bar_drawn = false;  // under OutputMutex

// Whole lines in single writes, so that lines of several processes do not mix. A closed or full
// stderr is no reason to end a run.
void Write(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

bool IsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && !(term != nullptr && std::strcmp(term, "dumb") == 0);
}

size_t TerminalWidth() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

// At most `width` bytes, cut between characters: a bar that wraps cannot be redrawn in place.
std::string Cut(std::string line, size_t width) {
  if (line.size() <= width) return line;
  while (width > 0 && ContinuesCharacter(line[width])) --width;
  line.resize(width);
  return line;
}

void WriteLine(std::string_view prefix, std::string_view line) {
  const std::lock_guard<std::mutex> lock(OutputMutex());
  std::string text = bar_drawn ? "\r\x1b[K" : "";
  bar_drawn = false;
  text += prefix;
  text += EscapeLines(line, Layout::kMessage);
  text += '\n';
  Write(text);
}

std::string Duration(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

}  // namespace

std::string ProgressLine(std::string_view label, int64_t done, int64_t total, std::string_view unit,
                         double seconds, std::string_view note) {
  std::string line = std::string(label) + ": ";
  if (total > 0) {
    constexpr int64_t kCells = 20;
    const int64_t filled = std::clamp<int64_t>(done * kCells / total, 0, kCells);
    line += fmt::format("[{}{}] {}/{} {}", std::string(filled, '#'),
                        std::string(kCells - filled, '.'), done, total, unit);
  } else {
    line += fmt::format("{} {}", done, unit);
  }
  if (done > 0 && seconds > 0) {
    const double rate = static_cast<double>(done) / seconds;
    line += rate >= 1 ? fmt::format(", {:.1f}/s", rate) : fmt::format(", {:.1f} s each", 1 / rate);
    if (total > done) line += fmt::format(", {} left", Duration((total - done) / rate));
  }
  if (total > 0 && done >= total) line += fmt::format(", {} in all", Duration(seconds));
  if (!note.empty()) line += fmt::format(", {}", note);
  return Escape(line, Format::kTerminal);
}

struct Progress::State {
  std::string label, unit, note;
  int64_t total = 0, done = 0;
  bool terminal = false, shown = false;
  Clock::time_point start = Clock::now(), last = start;

  // Under OutputMutex.
  void Show(Clock::time_point now, bool end) {
    const double seconds = std::chrono::duration<double>(now - start).count();
    const std::string line = ProgressLine(label, done, total, unit, seconds, note);
    if (terminal) {
      Write("\r\x1b[K" + Cut(line, TerminalWidth() - 1) + (end ? "\n" : ""));
      bar_drawn = !end;
    } else {
      Write(line + "\n");
    }
    shown = true;
    last = now;
  }
};

Progress::Progress(std::string label, int64_t total, std::string unit)
    : state_(std::make_unique<State>()) {
  state_->label = std::move(label);
  state_->unit = std::move(unit);
  state_->total = total;
  state_->terminal = IsTerminal();
}

Progress::~Progress() {
  const std::lock_guard<std::mutex> lock(OutputMutex());
  // What was over before it was ever shown leaves no line.
  if (state_->shown) state_->Show(Clock::now(), /*end=*/true);
}

void Progress::Advance(int64_t n, std::string_view note) {
  const std::lock_guard<std::mutex> lock(OutputMutex());
  state_->done += n;
  if (!note.empty()) state_->note = note;
  const Clock::time_point now = Clock::now();
  const double interval = state_->terminal ? kTerminalInterval : kLogInterval;
  if (std::chrono::duration<double>(now - state_->last).count() >= interval) {
    state_->Show(now, /*end=*/false);
  }
}

bool InterruptRequested() { return interrupt_signal != 0; }

int InterruptExitCode() {
  const int signal = interrupt_signal;
  return signal == 0 ? 0 : 128 + signal;
}

void InstallInterruptHandlers() {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = SA_RESTART;  // file reads and writes under way are not cut short
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A file-size limit then shows as a write error with a message, as a full disk does.
  signal(SIGXFSZ, SIG_IGN);
}

void LogInfo(std::string_view line) { WriteLine("", line); }

void LogWarning(std::string_view line) { WriteLine("Warning: ", line); }

}  // namespace excise
