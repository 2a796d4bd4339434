// A store in which nothing was before: what it gives was computed by this program.
#pragma once

#include <filesystem>
#include <memory>

#include "core/files.h"
#include "core/store.h"

namespace excise {

class EmptyStore {
 public:
  // A folder of its own below `scratch`, removed at the end. A killed process cannot remove its
  // own, so what such ones left below `scratch` is removed here: the folder of a living one is
  // locked. Throws Error where the folder cannot be made.
  explicit EmptyStore(const std::filesystem::path& scratch);
  ~EmptyStore();
  EmptyStore(const EmptyStore&) = delete;
  EmptyStore& operator=(const EmptyStore&) = delete;
  Store& store() { return *store_; }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<Descriptor> lock_;  // on the folder itself
  std::unique_ptr<Store> store_;
};

}  // namespace excise
