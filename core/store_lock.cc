#include "core/store_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/progress.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{2};   // before the first word
constexpr seconds kNextWord{30};  // between two
constexpr milliseconds kLongestNap{50};

std::mutex& Threads() {
  static std::mutex mutex;
  return mutex;
}

// A reader's open file is enough to hold a lock: who may not write shall not read, either. Older
// versions made the file for all to read.
void CloseToReaders(int fd, mode_t mode) {
  mode_t kept = mode & 0700;
  for (const mode_t who : {070, 07}) {
    if ((mode & who & 022) != 0) kept |= mode & who;
  }
  if (kept != (mode & 0777)) (void)!fchmod(fd, kept);  // another user's file stays as it is
}

// Who holds the lock writes itself in, for those who wait.
void Sign(int fd) {
  char host[65] = {};
  gethostname(host, sizeof(host) - 1);
  const std::string line = fmt::format("process {} on {}\n", getpid(), host);
  (void)!pwrite(fd, line.data(), line.size(), 0);
}

std::string HolderOf(int fd) {
  char text[200];
  const ssize_t n = pread(fd, text, sizeof(text), 0);
  const std::string line(text, static_cast<size_t>(std::max<ssize_t>(n, 0)));
  return line.empty() ? "another program" : line.substr(0, line.find('\n'));
}

}  // namespace

StoreLock::StoreLock(const fs::path& file)
    : threads_(Threads()), file_(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600) {
  struct stat status {};
  const bool opened = file_.get() >= 0 && fstat(file_.get(), &status) == 0;
  if ((!opened && errno == ELOOP) || (opened && !S_ISREG(status.st_mode))) {
    throw Error(fmt::format("{} is a link or no plain file. It is the store's lock: remove it.",
                            file.string()));
  }
  if (!opened) return;
  CloseToReaders(file_.get(), status.st_mode);
  held_ = Wait(file);
  if (held_) Sign(file_.get());
}

StoreLock::~StoreLock() {
  if (held_) (void)!ftruncate(file_.get(), 0);
}

// Returns whether there is a lock to hold.
bool StoreLock::Wait(const fs::path& file) {
  const auto start = std::chrono::steady_clock::now();
  milliseconds nap{1};
  auto next_word = kPatience;
  while (flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    if (InterruptRequested()) throw Interrupted{};
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited >= next_word) {
      LogWarning(
          fmt::format("waiting for {} since {} s: {} holds it. It is held for moments only, so if "
                      "this goes on, "
                      "end that program, or use another store with --cache=DIR.",
                      file.string(), std::chrono::duration_cast<seconds>(waited).count(),
                      HolderOf(file_.get())));
      next_word += kNextWord;
    }
    std::this_thread::sleep_for(nap);
    nap = std::min(2 * nap, kLongestNap);
  }
  return true;
}

}  // namespace excise
