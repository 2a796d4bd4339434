// Edited models in memory: made once, shared by workers, and the least recently used of them let go
// when they are too many.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "methods/method.h"
#include "metrics/metric.h"

namespace excise {

// The edited model, ready to draw.
struct ErasedModel {
  Backbone model;
  Backbone exact;  // in float32: what white-box attacks compute on
  std::shared_ptr<const Hooks> hooks;
  EraseCost cost;
  bool only_filters = false;  // draws what the unmodified model draws
  int64_t bytes = 0;          // of the tensors that it does not share with the unmodified model
};

class ModelMemory {
 public:
  // Method and concept, and the attack that changed its weights (0: none did).
  using Name = std::tuple<size_t, size_t, size_t>;
  using Make = std::function<ErasedModel()>;

  // Keeps at least the model that was asked for last, and others up to `bytes` in all.
  explicit ModelMemory(int64_t bytes) : limit_(bytes) {}

  // What `make` gives, once for all who ask, until it is let go; then it is made again. Who holds a
  // model keeps it alive. A failure is kept: a method that throws is tried once and not once a
  // unit.
  std::shared_ptr<const ErasedModel> Get(const Name& name, const Make& make);
  // Of the models that are kept.
  int64_t bytes() const;

 private:
  struct Entry {
    std::mutex making;  // held while it is made, so that one makes and the others wait
    std::exception_ptr problem;
    std::shared_ptr<const ErasedModel> model;
    int64_t used = 0;  // when, by clock_
  };
  // All but the last one used, oldest first, until the others fit. With mutex_ held, as the next.
  void LetGo(const Entry& last);
  int64_t Kept() const;

  const int64_t limit_;
  mutable std::mutex mutex_;  // of the map and of each entry's model and use
  int64_t clock_ = 0;
  std::map<Name, std::unique_ptr<Entry>> entries_;
};

}  // namespace excise
