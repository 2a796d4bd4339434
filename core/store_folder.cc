#include "core/store_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBeside = ".tmp";
constexpr time_t kStaleSeconds = 48 * 3600;
constexpr mode_t kPrivate = 0700;

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

// Null, with errno, where it cannot be opened; ENOTDIR for a link unless it is to be followed.
Folder Open(int at, const fs::path& name, int follow = O_NOFOLLOW) {
  const int fd = openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow);
  if (fd < 0) return nullptr;
  Folder folder(fdopendir(fd));
  if (folder == nullptr) close(fd);
  return folder;
}

// The folder that holds `place`.
Folder OpenParent(const fs::path& root, const fs::path& place) {
  Folder folder = Open(AT_FDCWD, root, /*follow=*/0);
  for (const fs::path& part : place.parent_path()) {
    if (folder != nullptr) folder = Open(dirfd(folder.get()), part);
  }
  return folder;
}

std::vector<std::string> NamesIn(const Folder& folder) {
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

// Of a link the link itself. Returns 0 or errno.
int RemoveIn(int at, const std::string& name) {
  if (unlinkat(at, name.c_str(), 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  const Folder folder = Open(at, name);
  if (folder == nullptr) return errno;
  for (const std::string& inner : NamesIn(folder)) {
    if (const int code = RemoveIn(dirfd(folder.get()), inner)) return code;
  }
  return unlinkat(at, name.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
}

// Whether a name ends as UniqueSuffix writes it: in two numbers, behind something.
bool HasUniqueSuffix(std::string_view name) {
  for (int numbers = 0; numbers < 2; ++numbers) {
    const size_t dot = name.rfind('.');
    if (dot == std::string_view::npos || dot + 1 == name.size()) return false;
    if (name.find_first_not_of("0123456789", dot + 1) != std::string_view::npos) return false;
    name = name.substr(0, dot);
  }
  return !name.empty();
}

// Names that the store and what writes through it (files beside, tensors) give to files in .tmp.
bool IsLeftover(const std::string& name) {
  constexpr const char* kEndings[] = {".artifact", ".probe", ".removed", ".safetensors", ".tmp"};
  const size_t dot = name.rfind('.');
  return dot != std::string::npos && HasUniqueSuffix(std::string_view(name).substr(0, dot)) &&
         std::find(std::begin(kEndings), std::end(kEndings), name.substr(dot)) !=
             std::end(kEndings);
}

[[noreturn]] void ThrowLink(const fs::path& path) {
  throw Error(
      fmt::format("{} is a link. The store follows none below its own folder, for what it keeps "
                  "and removes there would be somewhere else: remove the link.",
                  path.string()));
}

}  // namespace

void CreatePrivateFolders(const fs::path& folder) {
  std::error_code ignored;
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  CreatePrivateFolders(folder.parent_path());
  if (mkdir(folder.c_str(), kPrivate) == 0) return;
  const int code = errno;  // another process may have been first
  if (!fs::is_directory(folder, ignored)) FailToWrite(folder, code == EEXIST ? ENOTDIR : code);
}

StoreFolder::StoreFolder(fs::path root) : root_(std::move(root)) {
  CreatePrivateFolders(root_);
  const fs::path probe = Make(kBeside) / (UniqueSuffix() + ".probe");
  if (const int code = CreateFile(probe, "")) FailToWrite(probe, code);
  struct stat status {};
  const int code = lstat(probe.c_str(), &status) == 0 ? 0 : errno;
  unlink(probe.c_str());
  if (code != 0) FailToWrite(probe, code);
  owner_ = status.st_uid;
}

fs::path StoreFolder::Make(const fs::path& place) const {
  Folder folder = Open(AT_FDCWD, root_, /*follow=*/0);
  if (folder == nullptr) FailToWrite(root_, errno);
  fs::path path = root_;
  for (const fs::path& part : place) {
    path /= part;
    const int at = dirfd(folder.get());
    if (mkdirat(at, part.c_str(), kPrivate) != 0 && errno != EEXIST) FailToWrite(path, errno);
    Folder next = Open(at, part);
    if (next == nullptr) {
      const int code = errno;
      RefuseLinks(place);
      FailToWrite(path, code);
    }
    folder = std::move(next);
  }
  return path;
}

void StoreFolder::RefuseLinks(const fs::path& place) const {
  fs::path path = root_;
  std::error_code ignored;
  for (const fs::path& part : place) {
    path /= part;
    if (fs::is_symlink(fs::symlink_status(path, ignored))) ThrowLink(path);
  }
}

std::string StoreFolder::Remove(const fs::path& place) const {
  const auto gone_or = [](int code) { return code == ENOENT ? "" : std::string(strerror(code)); };
  const Folder parent = OpenParent(root_, place);
  if (parent == nullptr) return gone_or(errno);
  const std::string name = place.filename();
  struct stat status {};
  if (fstatat(dirfd(parent.get()), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return gone_or(errno);
  }
  if (status.st_uid != owner_) {
    return fmt::format("it belongs to another user (uid {})", status.st_uid);
  }
  // Aside first, so that nobody sees it half removed.
  const std::string aside = UniqueSuffix() + ".removed";
  const Folder beside = OpenParent(root_, fs::path(kBeside) / aside);
  const bool moved = beside != nullptr && renameat(dirfd(parent.get()), name.c_str(),
                                                   dirfd(beside.get()), aside.c_str()) == 0;
  const int code =
      moved ? RemoveIn(dirfd(beside.get()), aside) : RemoveIn(dirfd(parent.get()), name);
  return moved || code == 0 ? "" : strerror(code);
}

void StoreFolder::RemoveLeftovers() const {
  const Folder folder = OpenParent(root_, fs::path(kBeside) / "x");
  if (folder == nullptr) return;
  const int at = dirfd(folder.get());
  for (const std::string& name : NamesIn(folder)) {
    struct stat status {};
    if (!IsLeftover(name)) continue;
    if (fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (status.st_uid != owner_ || std::time(nullptr) - status.st_mtim.tv_sec < kStaleSeconds) {
      continue;
    }
    RemoveIn(at, name);
  }
}

}  // namespace excise
