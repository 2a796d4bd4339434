// The lock of a store.
#pragma once

#include <filesystem>
#include <mutex>

#include "core/files.h"

namespace excise {

// Held while an artifact's folder is put in place or taken away, against other threads, processes
// and (where the file system has locks) machines. Without locks the store still works; only the
// repair of a damaged artifact by two processes at once may then cost a recomputation. Whoever may
// not write the lock's file cannot open it, and so cannot hold it.
class StoreLock {
 public:
  // Waits for the lock; when that takes long, stderr says so and who holds it, if that is known.
  // Throws Interrupted when a signal asks to leave meanwhile, Error when `file` is a link or no
  // plain file.
  explicit StoreLock(const std::filesystem::path& file);
  ~StoreLock();

 private:
  bool Wait(const std::filesystem::path& file);

  // One thread of the process asks for the file's lock at a time.
  const std::unique_lock<std::mutex> threads_;
  const Descriptor file_;  // closing it ends the lock
  bool held_ = false;
};

}  // namespace excise
