// Files that results depend on: what is read of them must be what their digests were taken of.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace excise {

// What the file system says of a file or folder. It changes with every change of the bytes, unless
// two changes fall into one tick of the file system's clock.
struct FileIdentity {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t modified_ns = 0, changed_ns = 0;  // since 1970; the second one cannot be set back

  bool operator==(const FileIdentity& other) const;
  // Whether a change from `now_ns` on would show. File systems tick as slowly as every 2 s.
  bool Settled(int64_t now_ns) const;
};

int64_t NowInNanoseconds();

// A file or folder as it was when the object was made, links followed: made before it is read,
// asked afterwards.
class InputFile {
 public:
  // Throws Error naming the path, and a link's target, when there is nothing.
  explicit InputFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const FileIdentity& identity() const { return identity_; }
  bool IsFile() const { return S_ISREG(mode_); }
  bool IsFolder() const { return S_ISDIR(mode_); }
  // Throws Error naming the path when it was changed, replaced or removed.
  void RequireUnchanged() const;

 private:
  std::filesystem::path path_;
  FileIdentity identity_;
  mode_t mode_ = 0;
};

// Hashes a file that was read: throws the same Error when its digest is not `sha256`.
void RequireSha256(const std::filesystem::path& path, const std::string& sha256);

// `path` under the name "", and of a folder everything below it under its name from there
// ("unet/config.json"). Links are followed, as readers do. Throws Error naming the path: what
// cannot be read, a link to nothing, a folder that contains itself by a link, more than 1,000
// linked folders, what is neither file nor folder.
std::map<std::string, InputFile> FilesOf(const std::filesystem::path& path);

// Files and folders that were hashed and are read later. Thread-safe.
class InputFiles {
 public:
  // SHA-256 as Sha256HexOfPath says. From now on Check looks at the file, or at the folder with all
  // that is below it. Throws Error naming what cannot be read.
  std::string Add(const std::filesystem::path& path);

  // Throws Error naming a file or folder that is not what was hashed. Costs a stat a file.
  void Check() const;

 private:
  struct Input {
    std::filesystem::path path;
    std::string sha256;
    std::map<std::string, InputFile> files;
    bool settled = false;  // its files' identities tell any change since it was hashed
  };

  mutable std::mutex mutex_;
  mutable std::vector<Input> inputs_;
};

}  // namespace excise
