// A store in which nothing was before: what it gives was computed by this program.
#pragma once

#include <filesystem>
#include <string>

#include "core/files.h"
#include "core/store.h"

namespace excise {

class EmptyStore {
 public:
  // A folder of its own below `scratch`, removed at the end.
  explicit EmptyStore(const std::filesystem::path& scratch)
      : folder_(scratch / ("empty-" + UniqueSuffix())), store_(folder_) {}
  ~EmptyStore() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EmptyStore(const EmptyStore&) = delete;
  EmptyStore& operator=(const EmptyStore&) = delete;
  Store& store() { return store_; }

 private:
  std::filesystem::path folder_;
  Store store_;
};

}  // namespace excise
