// How strong a LoRA's layers are where no tensor says it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/json.h"

namespace excise {

// By keys of peft's LoraConfig: lora_alpha, alpha_pattern, use_rslora. Patterns are matched in
// bounded time. Throws Error naming `origin`: an adapter of a kind that is not read, a pattern or a
// number that is none.
class LoraStrength {
 public:
  LoraStrength(Json config, std::string origin);
  ~LoraStrength();
  // What the product of the two factors of rank `rank` is multiplied by. `alpha`: what a tensor
  // says.
  double Scale(const std::string& layer, int64_t rank, std::optional<double> alpha) const;

 private:
  struct Patterns;

  bool Truth(const char* key) const;
  std::string Text(const char* key, const std::string& otherwise) const;
  double Number(const Json& value) const;
  void ReadPatterns();

  Json config_;
  std::string origin_;
  std::unique_ptr<Patterns> patterns_;
};

}  // namespace excise
