#include "core/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
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
  } else if (code == ENXIO) {
    reason += ". Is it a pipe that nobody reads, or a socket? Choose a file";
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

// Behind a link the file it points to is replaced, not the link.
fs::path Target(const fs::path& path) {
  std::error_code code;
  if (!fs::is_symlink(fs::symlink_status(path, code))) return path;
  const fs::path target = fs::weakly_canonical(path, code);
  if (code) FailToWrite(path, code.value());
  return target;
}

// A file that stands beside its place until it is put there.
class Staged {
 public:
  explicit Staged(const fs::path& path) : path_(path), target_(Target(path)) {}
  // What still stands beside, the new file or the one that it replaced, goes.
  ~Staged() {
    if (!beside_.empty()) unlink(beside_.c_str());
  }
  Staged(Staged&& other) noexcept
      : path_(std::move(other.path_)),
        target_(std::move(other.target_)),
        beside_(std::exchange(other.beside_, {})),
        replaces_(other.replaces_),
        device_(other.device_),
        exchanged_(other.exchanged_) {}
  Staged& operator=(Staged&&) = delete;

  bool device() const { return device_; }
  fs::path folder() const {
    return target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  }

  void Write(std::string_view bytes, mode_t mode) {
    struct stat old {};
    replaces_ = stat(target_.c_str(), &old) == 0;
    if (replaces_ && S_ISDIR(old.st_mode)) FailToWrite(path_, EISDIR);
    device_ = replaces_ && !S_ISREG(old.st_mode);
    if (device_) return WriteToDevice(bytes);
    beside_ = folder() /
              fmt::format(".{}.{}.tmp", target_.filename().string().substr(0, 100), UniqueSuffix());
    int error = CreateFile(beside_, bytes, mode);
    if (error == 0 && replaces_ && chmod(beside_.c_str(), old.st_mode & 07777) != 0) error = errno;
    if (error != 0) FailToWrite(path_, error);
  }

  // `may_come_back`: TakeBack may follow, so the old file is kept beside.
  void Place(bool may_come_back) {
    if (device_) return;
    exchanged_ =
        may_come_back && replaces_ &&
        renameat2(AT_FDCWD, beside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0;
    if (exchanged_) return;
    if (rename(beside_.c_str(), target_.c_str()) != 0) FailToWrite(path_, errno);
    beside_.clear();
  }

  void TakeBack() {
    if (!exchanged_) {
      if (!replaces_) unlink(target_.c_str());
    } else if (renameat2(AT_FDCWD, beside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE)) {
      beside_.clear();  // the old file is not lost at least
    }
  }

 private:
  // A pipe or device has nothing to rename over.
  void WriteToDevice(std::string_view bytes) const {
    // A pipe that nobody reads is an error now, not a wait that no signal ends.
    Descriptor device(target_, O_WRONLY | O_NONBLOCK);
    if (device.get() < 0 || fcntl(device.get(), F_SETFL, 0) != 0) FailToWrite(path_, errno);
    if (const int error = WriteAll(device.get(), bytes)) FailToWrite(path_, error);
    if (const int error = device.Close()) FailToWrite(path_, error);
  }

  fs::path path_, target_;
  fs::path beside_;        // "" once nothing stands there
  bool replaces_ = false;  // there was a file
  bool device_ = false;    // a device or pipe, which is written to at once
  bool exchanged_ = false;
};

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

int CreateFile(const fs::path& path, std::string_view bytes, mode_t mode) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL, mode);
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

void WriteFileAtomically(const fs::path& path, std::string_view bytes, mode_t mode) {
  WriteFilesTogether({{path, bytes}}, mode);
}

void WriteFilesTogether(const std::vector<std::pair<fs::path, std::string_view>>& files,
                        mode_t mode) {
  std::vector<Staged> staged;
  for (const auto& [path, bytes] : files) staged.emplace_back(path).Write(bytes, mode);
  size_t placed = 0;
  try {
    for (; placed < staged.size(); ++placed) staged[placed].Place(placed + 1 < staged.size());
  } catch (const Error&) {
    while (placed > 0) staged[--placed].TakeBack();
    throw;
  }
  std::set<fs::path> folders;
  for (const Staged& file : staged) {
    if (!file.device()) folders.insert(file.folder());
  }
  for (const fs::path& folder : folders) SyncFolder(folder);
}

}  // namespace excise
