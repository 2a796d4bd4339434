// Regular files that are read: opened without waiting, checked before the first byte.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/files.h"
#include "core/progress.h"

namespace excise {

// A larger file of text is the wrong file.
inline constexpr uint64_t kMostTextBytes = uint64_t{256} << 20;

// An open regular file. A pipe or device is refused, because it may never begin or never end. Long
// reads show their progress.
class RegularFile {
 public:
  // Throws Error naming the path: missing, unreadable, no regular file, above `most_bytes`.
  explicit RegularFile(const std::filesystem::path& path, uint64_t most_bytes = UINT64_MAX);
  int fd() const { return file_.get(); }
  uint64_t size() const { return size_; }  // when it was opened
  // Up to `size` bytes after those of the last call; 0 at the end. Throws Error (disk), and
  // Interrupted where much has been read and a signal asks to leave.
  size_t Read(void* data, size_t size);
  // These very bytes. Throws Error where the file ends before.
  std::string ReadAt(uint64_t offset, size_t size) const;

 private:
  size_t ReadSome(void* data, size_t size, uint64_t offset) const;

  std::filesystem::path path_;
  Descriptor file_;
  uint64_t size_ = 0, done_ = 0;
  std::optional<Progress> progress_;
};

// All bytes of a regular file. Throws as RegularFile does, also where the file grows above
// `most_bytes` meanwhile.
std::string ReadFile(const std::filesystem::path& path, uint64_t most_bytes = kMostTextBytes);

}  // namespace excise
