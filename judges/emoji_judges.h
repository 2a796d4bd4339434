// The learned judges of the emoji world: one that reports, and the oracle that searches ask.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "judges/judge.h"
#include "models/nets/judge_net.h"

namespace excise {

// One without weights knows the styles and no class.
class EmojiJudges {
 public:
  // FOLDER/reporting, and FOLDER/oracle where it is there. Throws Error naming what does not fit,
  // also when the oracle's weights are the reporting judge's.
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

  // Throw Error when there is none.
  const JudgeNet& oracle() const;
  Judgement ConsultOracle(const at::Tensor& images) const;

 private:
  JudgeNet reporting_;
  std::optional<JudgeNet> oracle_;
};

}  // namespace excise
