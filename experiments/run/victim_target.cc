#include "experiments/run/victim_target.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"

namespace excise {
namespace {

int64_t MaxQueries(const Lab& lab, size_t attack) {
  const auto* plugin = dynamic_cast<const WhiteBoxAttack*>(lab.attacks[attack].plugin.get());
  if (plugin != nullptr) return plugin->max_queries();
  throw Error(fmt::format("attack '{}' is no white-box attack: it may not see the victim.",
                          lab.attacks[attack].name));
}

}  // namespace

MeteredVictim::MeteredVictim(const Lab& lab, size_t attack, const Concept& subject,
                             VictimModel victim, MeteredTarget::DrawReference reference,
                             DrawVictim draw)
    : base_(lab, attack, std::move(reference)),
      judges_(*lab.judges),
      subject_(subject),
      victim_(std::move(victim)),
      draw_(std::move(draw)),
      queries_left_(MaxQueries(lab, attack)) {
  if (queries_left_ > 0) judges_.oracle();  // said before the search, not after half of it
}

std::optional<Answer> MeteredVictim::Query(const Prompt& prompt) {
  if (queries_left_ <= 0) return std::nullopt;
  --queries_left_;
  const SearchedPicture picture = draw_(prompt);
  ++ledger().victim_queries;
  ledger().unet_evaluations += picture.unet_evaluations;
  const OracleAnswer answer = judges_.AskOracle(picture.image.unsqueeze(0), subject_).front();
  // Who is blocked sees no picture, and so no target in it.
  if (picture.blocked) return Answer{true, false, 0};
  return Answer{false, answer.success, answer.target_probability};
}

}  // namespace excise
