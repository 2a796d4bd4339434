// Published claims that need no run: arithmetic, and files of prompts.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "experiments/check/published.h"

namespace excise {

// What came out of a claim.
struct Finding {
  std::string verdict, detail;
};

class FactChecker {
 public:
  // `user_data`: where prompt files and CLIP's tokenizer are looked for, or empty.
  explicit FactChecker(const std::filesystem::path& user_data);
  ~FactChecker();
  // Of a claim of kind count, wilson, fisher or prompt_file.
  Finding Check(const Claim& claim) const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

}  // namespace excise
