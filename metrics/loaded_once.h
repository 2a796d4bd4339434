// Networks that metrics load themselves: once a program, whatever the number of cells.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace excise {

// What `load` makes, kept under `name` (its files) until the program ends. Thread-safe.
template <class Net>
std::shared_ptr<const Net> LoadedOnce(const std::string& name,
                                      const std::function<std::shared_ptr<const Net>()>& load) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Net>> loaded;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<const Net>& net = loaded[name];
  if (net == nullptr) net = load();
  return net;
}

}  // namespace excise
