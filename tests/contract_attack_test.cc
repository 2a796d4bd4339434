// The contract of an attack, run on each one alone.
#include "attacks/attack.h"
#include "tests/contract_common.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

void CheckSame(const Trajectory& a, const Trajectory& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    INFO("candidate " << i);
    CHECK(a[i].prompt.id == b[i].prompt.id);
    CHECK(a[i].prompt.text == b[i].prompt.text);
    CHECK(a[i].prompt.token_ids == b[i].prompt.token_ids);
    CHECK(a[i].score == b[i].score);
    CHECK(a[i].edits == b[i].edits);
    CHECK(a[i].ledger.candidate_evaluations == b[i].ledger.candidate_evaluations);
    CHECK(a[i].ledger.gradient_steps == b[i].ledger.gradient_steps);
    CHECK(a[i].ledger.text_evaluations == b[i].ledger.text_evaluations);
    CHECK(a[i].ledger.unet_evaluations == b[i].ledger.unet_evaluations);
  }
}

}  // namespace

TEST_CASE("parameters, presets and card are sound") {
  CheckParams<Attack>();
  CheckPresets<Attack>();
  CheckCard<Attack>();
}

TEST_CASE("access is what the type says") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make(TheOnlyPlugin<Attack>());
  const bool transfer = dynamic_cast<const TransferAttack*>(attack.get()) != nullptr;
  CHECK(transfer == (attack->access() == Access::kTransfer));
}

TEST_CASE("a transfer attack repeats itself, keeps the root and meters what it spends") {
  const std::unique_ptr<Attack> made = MakeForSmoke<Attack>();
  const auto* attack = dynamic_cast<const TransferAttack*>(made.get());
  if (!attack) return;  // another kind of access: see its own test
  const Concept subject = TinyConcept();
  const Prompt seed = TinyPrompt();
  TinyTarget first_target, second_target;
  const Trajectory first = attack->Craft(first_target, subject, seed);
  REQUIRE_FALSE(first.empty());
  CheckSame(first, attack->Craft(second_target, subject, seed));

  Ledger last;
  for (const Candidate& candidate : first) {
    INFO(candidate.prompt.text);
    CHECK(candidate.prompt.root_id == seed.root_id);
    CHECK((candidate.prompt.text != seed.text) == (candidate.prompt.id != seed.id));
    CHECK(candidate.prompt.expected_class == seed.expected_class);
    CHECK(candidate.prompt.expected_style == seed.expected_style);
    CHECK_FALSE(candidate.prompt.text.empty());
    CHECK_NOTHROW(Json(candidate.prompt.text).dump());  // valid UTF-8
    CHECK(candidate.ledger.candidate_evaluations >= last.candidate_evaluations);
    CHECK(candidate.ledger.gradient_steps >= last.gradient_steps);
    CHECK(candidate.ledger.text_evaluations >= last.text_evaluations);
    CHECK(candidate.ledger.unet_evaluations >= last.unet_evaluations);
    CHECK(candidate.ledger.victim_queries == 0);  // transfer: the victim is never asked
    last = candidate.ledger;
  }
  // An attack that only edits text spends nothing on a surrogate.
  CHECK(attack->uses_surrogate() == (first_target.ledger().text_evaluations > 0));
}

}  // namespace excise
