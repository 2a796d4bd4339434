// The learned judges of the emoji world: one that reports, and the oracle that searches ask.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "judges/judge.h"
#include "models/nets/judge_net.h"

namespace excise {

// How the oracle's networks vote. A search over prompts finds the pictures on which one network
// errs; what most of several see, each of them also in the picture moved, is harder to feign.
struct OracleRule {
  static constexpr int64_t kShift = 2;      // pixels, down-right and up-left
  static constexpr double kThreshold = .5;  // of the mean probability
};

// One without weights knows the styles and no class.
class EmojiJudges {
 public:
  // FOLDER/reporting, and the oracle where it is there: networks in FOLDER/oracle/<name>, or one in
  // FOLDER/oracle itself. Throws Error naming what does not fit, also when the weights of one of
  // the oracle's networks are the reporting judge's.
  static std::shared_ptr<const EmojiJudges> Load(const std::filesystem::path& folder);
  // Probabilities of the classes, of the reject class and of the styles. images uint8
  // (batch, 3, 64, 64).
  Judgement Report(const at::Tensor& images) const;
  // The names of Report's scores.
  std::vector<ScoreName> names() const;
  // (batch, width): the reporting judge's pooled features.
  at::Tensor Features(const at::Tensor& images) const;
  const JudgeNet& reporting() const { return reporting_; }
  std::string digest() const { return reporting_.digest; }

  // The oracle. A score is the mean of the probabilities that its networks give in all views of the
  // picture: as it is, and moved by OracleRule::kShift either way, its border repeated. A class or
  // style is seen whose score reaches OracleRule::kThreshold; where none does, the picture shows
  // none. All but has_oracle throw Error when there is none.
  bool has_oracle() const { return !oracle_.empty(); }
  const std::vector<JudgeNet>& oracle() const;
  std::string oracle_digest() const;  // of all networks and the rule
  Judgement ConsultOracle(const at::Tensor& images) const;

 private:
  JudgeNet reporting_;
  // In the order of their folders' names; they know the same classes.
  std::vector<JudgeNet> oracle_;
};

}  // namespace excise
