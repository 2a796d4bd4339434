#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <fstream>

namespace excise::fuzz {
namespace {

namespace fs = std::filesystem;

// Removed when the process ends without a crash.
struct Folder {
  fs::path path;
  Folder() {
    const fs::path base = fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
    path = base / ("excise_fuzz_" + std::to_string(getpid()));
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

MemoryFile::MemoryFile(std::string_view bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
  Require(fd_ >= 0, "memfd_create works");
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    Require(n > 0, "a file in memory can be written");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

MemoryFile::~MemoryFile() { close(fd_); }

fs::path MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(fd_); }

fs::path EmptyFolder() {
  static const Folder folder;
  if (fs::exists(folder.path)) {
    for (const auto& entry : fs::directory_iterator(folder.path)) fs::remove_all(entry.path());
  } else {
    fs::create_directories(folder.path);
  }
  return folder.path;
}

void WriteFile(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<long>(bytes.size()));
}

}  // namespace excise::fuzz
