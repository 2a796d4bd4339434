// Files that are whole or absent: written beside, brought to the disk, renamed.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace excise {

// A path as the user typed it: `bazel run` starts programs elsewhere and says in
// BUILD_WORKING_DIRECTORY where the user stands.
std::filesystem::path UserPath(const std::string& path);

// Writes beside, fsyncs, renames; keeps an old file's mode (a new one has `mode` under the umask),
// follows a link, and writes straight to a device or pipe. Throws Error (full disk included); the
// old file stays if it fails.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes,
                         mode_t mode = 0666);

// The same of several files: all or none. Every file is written beside its place and brought to the
// disk; only when all are, they are renamed, in this order. Throws Error, and then every old file
// is as it was and no new one is there. What cannot be undone is a kill between two renames (then
// the last files are still the old ones, each file whole: put last what others are read by), and,
// on a file system that cannot exchange two names (NFS), a rename that fails after the first.
void WriteFilesTogether(
    const std::vector<std::pair<std::filesystem::path, std::string_view>>& files,
    mode_t mode = 0666);

// A file descriptor (get() < 0: not opened, see errno) that is closed on every way out.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0666);
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  // Network file systems report a full disk only here. Returns 0 or errno.
  int Close();

 private:
  int fd_;
};

// Creates `path`, which must not exist, and brings its bytes to the disk. Returns 0 or errno.
int CreateFile(const std::filesystem::path& path, std::string_view bytes, mode_t mode = 0666);

// Makes renames and new names in `folder` last. Throws Error.
void SyncFolder(const std::filesystem::path& folder);

// create_directories with an Error that says what to do.
void CreateFolders(const std::filesystem::path& folder);

// Part of a file name, distinct among the threads of a process and the processes and machines that
// share a folder.
std::string UniqueSuffix();

// "PATH cannot be written: No space left on device. Free some space, ..." as an Error.
[[noreturn]] void FailToWrite(const std::filesystem::path& path, int code);

}  // namespace excise
