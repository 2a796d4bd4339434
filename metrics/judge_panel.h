// The judges that say what a picture shows: a learned reporting judge, and masked template
// correlation that is not learned. Raw scores are kept; outcomes are read from them.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "datasets/concept.h"
#include "models/judge_net.h"

namespace excise {

// What the reporting judge says of one picture.
struct Verdict {
  std::string class_id;  // best class, or "" for garbage (the reject class)
  std::string style;     // plain | sepia | line
  double class_probability = 0, style_probability = 0;
};

enum class Outcome { kTarget, kAnchor, kOtherValid, kGarbage, kBlocked, kError };
std::string OutcomeName(Outcome outcome);

// A broken model must not look like perfect removal: garbage is its own outcome.
Outcome OutcomeOf(const Verdict& verdict, const Concept& subject);

class JudgePanel {
 public:
  // FOLDER/{reporting,oracle}.
  static std::shared_ptr<const JudgePanel> Load(const std::filesystem::path& folder);
  // images uint8 (batch, 3, 64, 64).
  std::vector<Verdict> Report(const at::Tensor& images) const;
  const Judge& reporting() const { return reporting_; }
  std::string digest() const { return reporting_.digest; }

 private:
  Judge reporting_;
};

}  // namespace excise
