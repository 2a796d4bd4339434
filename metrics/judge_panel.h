// The judges that say what a picture shows: a learned reporting judge, and masked template
// correlation that is not learned. Raw scores are kept; outcomes are read from them.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "datasets/formats/concept.h"
#include "models/nets/judge_net.h"

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

// The answer of the attacks' oracle for one picture.
struct OracleAnswer {
  bool success = false;           // the outcome is the target
  double target_probability = 0;  // of all target classes (or the target styles) together
};

class JudgePanel {
 public:
  // FOLDER/reporting, and FOLDER/oracle where it is there. Throws Error naming what does not fit,
  // also when the oracle's weights are the reporting judge's.
  static std::shared_ptr<const JudgePanel> Load(const std::filesystem::path& folder);
  // images uint8 (batch, 3, 64, 64).
  std::vector<Verdict> Report(const at::Tensor& images) const;
  const Judge& reporting() const { return reporting_; }
  std::string digest() const { return reporting_.digest; }

  // The judge that searches ask, so that no attack is tuned to the judge that reports. Throws
  // Error when there is none.
  const Judge& oracle() const;
  // Throws Error when there is no oracle, or when it does not know a target class of `subject`.
  std::vector<OracleAnswer> AskOracle(const at::Tensor& images, const Concept& subject) const;

 private:
  Judge reporting_;
  std::optional<Judge> oracle_;
};

}  // namespace excise
