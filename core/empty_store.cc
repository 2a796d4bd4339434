#include "core/empty_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "core/text.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = ".fresh-store-";

// The folder itself, never one that a link of its name points to.
constexpr int kFolderItself = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// What processes left that ended without a farewell. Only folders that bear our name, belong to
// this user and are locked by nobody.
void RemoveLeftovers(const fs::path& scratch) {
  std::error_code code;
  for (fs::directory_iterator it(scratch, code), end; !code && it != end; it.increment(code)) {
    if (!StartsWith(it->path().filename().string(), kPrefix)) continue;
    const Descriptor folder(it->path(), kFolderItself);
    struct stat status {};
    if (folder.get() < 0 || fstat(folder.get(), &status) != 0) continue;
    if (status.st_uid != geteuid() || flock(folder.get(), LOCK_EX | LOCK_NB) != 0) continue;
    std::error_code ignored;
    fs::remove_all(it->path(), ignored);
  }
}

// Locks a folder that was just made. False where another process took it for a leftover in the
// instant before. A file system without locks keeps no leftover from anybody, and none is removed.
bool Lock(const Descriptor& folder, const fs::path& path) {
  if (flock(folder.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
  struct stat opened {
  }, named{};
  return fstat(folder.get(), &opened) == 0 && stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

}  // namespace

EmptyStore::EmptyStore(const fs::path& scratch) {
  CreateFolders(scratch);
  RemoveLeftovers(scratch);
  for (;;) {
    folder_ = scratch / (kPrefix + UniqueSuffix());
    if (mkdir(folder_.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      FailToWrite(folder_, errno);
    }
    lock_ = std::make_unique<Descriptor>(folder_, kFolderItself);
    if (lock_->get() >= 0 && Lock(*lock_, folder_)) break;
  }
  store_ = std::make_unique<Store>(folder_);
}

EmptyStore::~EmptyStore() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace excise
