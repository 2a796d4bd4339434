#include "core/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::string Reason(int code) {
  std::string reason = std::strerror(code);
  if (code == ENOSPC || code == EDQUOT) {
    reason += ". Free some space, or choose another folder with --cache or --out";
  } else if (code == EFBIG) {
    reason += ". The file-size limit (ulimit -f) is too low";
  } else if (code == EACCES || code == EROFS) {
    reason += ". Choose a folder that you may write to";
  }
  return reason;
}

// Returns 0 or errno.
int WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (n == 0) return ENOSPC;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

}  // namespace

fs::path UserPath(const std::string& path) {
  const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
  return directory == nullptr ? fs::path(path) : fs::path(directory) / path;
}

std::string UniqueSuffix() {
  static std::atomic<int64_t> next{0};
  char host[65] = {};
  gethostname(host, sizeof(host) - 1);
  return fmt::format("{}.{}.{}", host, getpid(), next++);
}

void FailToWrite(const fs::path& path, int code) {
  throw Error(fmt::format("{} cannot be written: {}.", path.string(), Reason(code)));
}

Descriptor::Descriptor(const fs::path& path, int flags, mode_t mode)
    : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

int Descriptor::Close() {
  const int fd = std::exchange(fd_, -1);
  return close(fd) == 0 ? 0 : errno;
}

int CreateFile(const fs::path& path, std::string_view bytes) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL);
  if (file.get() < 0) return errno;
  if (const int code = WriteAll(file.get(), bytes)) return code;
  if (fsync(file.get()) != 0) return errno;
  return file.Close();
}

// Some file systems refuse to sync a folder (EINVAL);
// their names last without it.
void SyncFolder(const fs::path& folder) {
  Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor.get() < 0) FailToWrite(folder, errno);
  if (fsync(descriptor.get()) != 0 && errno != EINVAL) FailToWrite(folder, errno);
}

void CreateFolders(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) FailToWrite(folder, code.value());
}

void WriteFileAtomically(const fs::path& path, std::string_view bytes) {
  fs::path target = path;
  std::error_code code;
  // Behind a link the file it points to is replaced, not the link.
  if (fs::is_symlink(fs::symlink_status(path, code))) {
    target = fs::weakly_canonical(path, code);
    if (code) FailToWrite(path, code.value());
  }
  struct stat old {};
  const bool exists = stat(target.c_str(), &old) == 0;
  if (exists && S_ISDIR(old.st_mode)) FailToWrite(path, EISDIR);
  if (exists && !S_ISREG(old.st_mode)) {  // a pipe or device has nothing to rename over
    Descriptor device(target, O_WRONLY);
    if (device.get() < 0) FailToWrite(path, errno);
    if (const int error = WriteAll(device.get(), bytes)) FailToWrite(path, error);
    if (const int error = device.Close()) FailToWrite(path, error);
    return;
  }
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  const fs::path beside =
      folder / fmt::format(".{}.{}.tmp", target.filename().string().substr(0, 100), UniqueSuffix());
  int error = CreateFile(beside, bytes);
  if (error == 0 && exists && chmod(beside.c_str(), old.st_mode & 07777) != 0) error = errno;
  if (error == 0 && rename(beside.c_str(), target.c_str()) != 0) error = errno;
  if (error != 0) {
    unlink(beside.c_str());
    FailToWrite(path, error);
  }
  SyncFolder(folder);
}

}  // namespace excise
