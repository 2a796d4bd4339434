#include "experiments/page/looks.h"

namespace excise {
namespace {

constexpr size_t kColours = 6, kShapes = 4;

}  // namespace

std::string ClassesOf(const Look& look) {
  return look.reference ? "ref" : "k" + std::to_string(look.number % kColours);
}

// Neighbours differ in their shape too.
size_t ShapeOf(const Look& look) { return (look.number + look.number / kColours) % kShapes; }

Looks::Looks(const TableView& view) {
  size_t references = 0, others = 0;
  for (const std::string& method : view.methods()) {
    const bool reference = view.IsReference(method);
    looks_[method] = {reference ? references++ : others++, reference};
  }
}

const Look* Looks::Find(const std::string& method) const {
  const auto found = looks_.find(method);
  return found == looks_.end() ? nullptr : &found->second;
}

Look Looks::Of(const std::string& method) const {
  const Look* look = Find(method);
  return look == nullptr ? Look{} : *look;
}

}  // namespace excise
