#include "core/read_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kShown = 64 * kMiB;  // larger files show their progress
// Whoever leaves on a signal may still read small files on the way.
constexpr uint64_t kPatience = 16 * kMiB;

[[noreturn]] void Fail(const fs::path& path, int code) {
  if (code == ENOENT) {
    throw Error(fmt::format("{} does not exist. Check the path.", path.string()));
  }
  throw Error(fmt::format("{} cannot be read: {}. Check the path and its permissions.",
                          path.string(), std::strerror(code)));
}

[[noreturn]] void FailTooLarge(const fs::path& path, const std::string& size, uint64_t most) {
  throw Error(fmt::format("{}: {} bytes; at most {} are read. Is this the right file?",
                          path.string(), size, most));
}

void RequireRegular(const fs::path& path, mode_t mode) {
  if (S_ISREG(mode)) return;
  if (S_ISDIR(mode)) {
    throw Error(fmt::format("{} is a folder; a file is expected.", path.string()));
  }
  const char* kind = S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
  throw Error(fmt::format(
      "{} is {}; only regular files are read, for this may never begin or end. Write its content "
      "to a file and name that.",
      path.string(), kind));
}

// Asked by name first: only to open some devices has effects.
const fs::path& Regular(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) Fail(path, errno);
  RequireRegular(path, status.st_mode);
  return path;
}

}  // namespace

// O_NONBLOCK, for the name may stand for a pipe by now.
RegularFile::RegularFile(const fs::path& path, uint64_t most_bytes)
    : path_(path), file_(Regular(path), O_RDONLY | O_NONBLOCK) {
  struct stat status {};
  if (file_.get() < 0 || fstat(file_.get(), &status) != 0) Fail(path, errno);
  RequireRegular(path, status.st_mode);
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ > most_bytes) FailTooLarge(path, std::to_string(size_), most_bytes);
  if (size_ >= kShown) {
    progress_.emplace("read " + path.filename().string(), static_cast<int64_t>(size_ / kMiB),
                      "MiB");
  }
}

size_t RegularFile::ReadSome(void* data, size_t size, uint64_t offset) const {
  for (;;) {
    const ssize_t n = pread(file_.get(), data, size, static_cast<off_t>(offset));
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) Fail(path_, errno);
  }
}

size_t RegularFile::Read(void* data, size_t size) {
  if (done_ >= kPatience && InterruptRequested()) throw Interrupted{};
  const size_t n = ReadSome(data, size, done_);
  if (progress_) {
    progress_->Advance(static_cast<int64_t>((done_ + n) / kMiB - done_ / kMiB));
  }
  done_ += n;
  return n;
}

std::string RegularFile::ReadAt(uint64_t offset, size_t size) const {
  std::string bytes(size, '\0');
  for (size_t done = 0; done < size;) {
    const size_t n = ReadSome(bytes.data() + done, size - done, offset + done);
    if (n == 0) {
      throw Error(fmt::format("{}: {} bytes at {} cannot be read: the file became shorter.",
                              path_.string(), size, offset));
    }
    done += n;
  }
  return bytes;
}

std::string ReadFile(const fs::path& path, uint64_t most_bytes) {
  RegularFile file(path, most_bytes);
  // A byte more than it has, so that the end is found; some files of the system say 0.
  std::string bytes(std::max<size_t>(file.size() + 1, 4096), '\0');
  size_t done = 0;
  while (const size_t n =
             file.Read(bytes.data() + done, std::min(bytes.size() - done, size_t{kMiB}))) {
    done += n;
    if (done > most_bytes)
      FailTooLarge(path, "more than " + std::to_string(most_bytes), most_bytes);
    if (done == bytes.size()) bytes.resize(2 * bytes.size());
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace excise
