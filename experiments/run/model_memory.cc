#include "experiments/run/model_memory.h"

namespace excise {

std::shared_ptr<const ErasedModel> ModelMemory::Get(const Name& name, const Make& make) {
  Entry* entry;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Entry>& slot = entries_[name];
    if (!slot) slot = std::make_unique<Entry>();
    entry = slot.get();
  }
  const std::lock_guard<std::mutex> making(entry->making);
  if (entry->problem) std::rethrow_exception(entry->problem);
  std::shared_ptr<const ErasedModel> model;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    model = entry->model;
  }
  if (model == nullptr) {
    try {
      model = std::make_shared<const ErasedModel>(make());
    } catch (...) {
      entry->problem = std::current_exception();
      throw;
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  entry->model = model;
  entry->used = ++clock_;
  LetGo(*entry);
  return model;
}

void ModelMemory::LetGo(const Entry& last) {
  while (Kept() > limit_) {
    Entry* oldest = nullptr;
    for (const auto& [name, entry] : entries_) {
      if (entry.get() == &last || entry->model == nullptr || entry->model->bytes == 0) continue;
      if (oldest == nullptr || entry->used < oldest->used) oldest = entry.get();
    }
    if (oldest == nullptr) return;
    oldest->model = nullptr;
  }
}

int64_t ModelMemory::Kept() const {
  int64_t bytes = 0;
  for (const auto& [name, entry] : entries_) {
    if (entry->model != nullptr) bytes += entry->model->bytes;
  }
  return bytes;
}

int64_t ModelMemory::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Kept();
}

}  // namespace excise
