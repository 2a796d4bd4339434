#include "experiments/run/victim_target.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"

namespace excise {
MeteredVictim::MeteredVictim(const Lab& lab, size_t attack, AttackInputs inputs, VictimModel victim,
                             MeteredTarget::DrawReference reference, DrawVictim draw)
    : base_(lab, attack, std::move(inputs), std::move(reference)),
      victim_(std::move(victim)),
      draw_(std::move(draw)),
      queries_left_(base_.inputs().queries) {
  if (lab.WhiteBox(attack) == nullptr) {
    throw Error(fmt::format("attack '{}' is no white-box attack: it may not see the victim.",
                            lab.attacks[attack].name));
  }
  if (queries_left_ > 0)
    base_.inputs().judge->oracle_digest();  // said before the search, not after half of it
}

std::optional<Answer> MeteredVictim::Query(const Prompt& prompt) {
  if (queries_left_ <= 0) return std::nullopt;
  --queries_left_;
  const SearchedPicture picture = draw_(prompt);
  ++ledger().victim_queries;
  ledger().unet_evaluations += picture.unet_evaluations;
  const OracleAnswer answer =
      AskOracle(*base_.inputs().judge, picture.image.unsqueeze(0), base_.inputs().judged).front();
  // Who is blocked sees no picture, and so no target in it.
  if (picture.blocked) return Answer{true, false, 0};
  return Answer{false, answer.success, answer.target_probability};
}

}  // namespace excise
