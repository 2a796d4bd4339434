// What a store does to its own folder: it makes folders for their owner alone, and removes what it
// made. Every step below the root is taken from an open folder and follows no link, so that neither
// ever touches what somebody else put elsewhere.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace excise {

// create_directories; those that are missing are made for their owner alone, whatever the umask.
// Throws Error.
void CreatePrivateFolders(const std::filesystem::path& folder);

class StoreFolder {
 public:
  // Makes `root` (which may be a link to a folder) and root/.tmp, and writes there. Throws Error.
  explicit StoreFolder(std::filesystem::path root);
  const std::filesystem::path& root() const { return root_; }

  // All paths below are relative to the root.

  // Makes the folder and those on the way; those that exist keep their mode. Returns root/`place`.
  // Throws Error where one is a link or no folder.
  std::filesystem::path Make(const std::filesystem::path& place) const;

  // Throws Error where `place`, or a folder on the way to it, is a link. Absent is fine.
  void RefuseLinks(const std::filesystem::path& place) const;

  // Takes a folder, file or link away in one step, and then all that is in it. Nothing is done to
  // what belongs to another user. Returns why it is still there, or "".
  std::string Remove(const std::filesystem::path& place) const;

  // What killed runs left in root/.tmp, known by its name, its owner and its age: younger ones may
  // belong to a process on another machine.
  void RemoveLeftovers() const;

 private:
  std::filesystem::path root_;
  uid_t owner_ = 0;  // whom the file system says that our files belong to
};

}  // namespace excise
