// The contract of an attack, run on each one alone.
#include <fstream>

#include "attacks/attack.h"
#include "core/csv.h"
#include "tests/contract_common.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

// An attack that takes the user's prompts gets two for TinyPrompt.
std::unique_ptr<Attack> Smoke() {
  const std::filesystem::path file = TestFolder("attack_files") / "prompts.csv";
  std::ofstream(file) << CsvLine({"prompt_id", "prompt"}) << CsvLine({TinyPrompt().id, "a poodel"})
                      << CsvLine({TinyPrompt().id, "a p00dle, curly"});
  return MakeForSmoke<Attack>({{"file", file.string()}});
}

// Notes what an attack asks for.
class AskedTarget : public TinyTarget {
 public:
  const ClipModel& Surrogate() override {
    asked_surrogate = true;
    return TinyTarget::Surrogate();
  }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override {
    reference_images += n;
    return TinyTarget::ReferenceImages(prompt, n);
  }
  bool asked_surrogate = false;
  int64_t reference_images = 0;
};

void CheckSame(const Ledger& a, const Ledger& b) {
  CHECK(a.victim_queries == b.victim_queries);
  CHECK(a.candidate_evaluations == b.candidate_evaluations);
  CHECK(a.gradient_steps == b.gradient_steps);
  CHECK(a.text_evaluations == b.text_evaluations);
  CHECK(a.unet_evaluations == b.unet_evaluations);
}

void CheckSame(const Trajectory& a, const Trajectory& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    INFO("candidate " << i);
    CHECK(a[i].prompt.id == b[i].prompt.id);
    CHECK(a[i].prompt.text == b[i].prompt.text);
    CHECK(a[i].prompt.token_ids == b[i].prompt.token_ids);
    CHECK(a[i].score == b[i].score);
    CHECK(a[i].edits == b[i].edits);
    CheckSame(a[i].ledger, b[i].ledger);
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
  const std::unique_ptr<Attack> made = Smoke();
  const auto* attack = dynamic_cast<const TransferAttack*>(made.get());
  if (!attack) return;  // another kind of access: see its own test
  const Concept subject = TinyConcept();
  const Prompt seed = TinyPrompt();
  AskedTarget first_target, second_target;
  const std::string before = DigestOf(first_target.TinyTarget::Surrogate().weights);
  const Trajectory first = attack->Craft(first_target, subject, seed);
  CHECK(DigestOf(first_target.TinyTarget::Surrogate().weights) == before);
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
  // A candidate carries what was spent until it was found, and pictures are never for free.
  const Ledger& all = first_target.ledger();
  CHECK(last.candidate_evaluations <= all.candidate_evaluations);
  CHECK(last.gradient_steps <= all.gradient_steps);
  CHECK(last.text_evaluations <= all.text_evaluations);
  CHECK(last.unet_evaluations <= all.unet_evaluations);
  CHECK((first_target.reference_images > 0) == (last.unet_evaluations > 0));
  // An attack that only edits text asks for no surrogate and spends nothing on one.
  const bool asked = first_target.asked_surrogate || first_target.reference_images > 0;
  CHECK(attack->uses_surrogate() == asked);
  CHECK(attack->uses_surrogate() == (last.text_evaluations + last.unet_evaluations > 0));
}

TEST_CASE("what a transfer attack makes of a prompt does not depend on the prompts before it") {
  const std::unique_ptr<Attack> made = Smoke();
  const auto* attack = dynamic_cast<const TransferAttack*>(made.get());
  if (!attack) return;
  const Concept subject = TinyConcept();
  TinyTarget fresh, used;
  const Trajectory alone = attack->Craft(fresh, subject, TinyPrompt());
  attack->Craft(used, subject, TinyPrompt("tiny@00000000/1", "a poodle on a red background"));
  const Trajectory after = attack->Craft(used, subject, TinyPrompt());
  REQUIRE(alone.size() == after.size());
  for (size_t i = 0; i < alone.size(); ++i) {
    CHECK(alone[i].prompt.id == after[i].prompt.id);
    CHECK(alone[i].prompt.text == after[i].prompt.text);
    CHECK(alone[i].prompt.token_ids == after[i].prompt.token_ids);
    CHECK(alone[i].score == after[i].score);
  }
}

}  // namespace excise
