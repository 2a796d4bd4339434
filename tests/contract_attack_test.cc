// The contract of an attack, run on each one alone.
#include <algorithm>
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

// Notes what an attack asks for. Base: TinyTarget or TinyVictim.
template <class Base>
class Asked : public Base {
 public:
  const ClipModel& Surrogate() override {
    asked_surrogate = true;
    return Base::Surrogate();
  }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override {
    reference_images += n;
    return Base::ReferenceImages(prompt, n);
  }
  bool asked_surrogate = false;
  int64_t reference_images = 0;
};
using AskedTarget = Asked<TinyTarget>;

// A victim whose hooks mix what they are given with something else, and see red.
class AlarmedHooks : public Hooks, public ImageFilter {
 public:
  const ImageFilter* Filter() const override { return this; }
  at::Tensor Score(const at::Tensor& images) const override {
    return images.select(1, 0).mean({1, 2});
  }
  double Threshold() const override { return 0.9; }
  at::Tensor TextView(const at::Tensor& states) const override { return states.mul(0.5); }
  at::Tensor TextMargin(const at::Tensor&, const at::Tensor& embeds) const override {
    return embeds.select(1, 0);
  }
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
    CHECK(a[i].success == b[i].success);
    CheckSame(a[i].ledger, b[i].ledger);
  }
}

// No more is spent at any candidate than at the next one, and `all` in the end.
void CheckLedgers(const Trajectory& trajectory, const Ledger& all) {
  Ledger last;
  for (size_t i = 0; i <= trajectory.size(); ++i) {
    INFO("candidate " << i);
    const Ledger& next = i < trajectory.size() ? trajectory[i].ledger : all;
    CHECK(next.victim_queries >= last.victim_queries);
    CHECK(next.candidate_evaluations >= last.candidate_evaluations);
    CHECK(next.gradient_steps >= last.gradient_steps);
    CHECK(next.text_evaluations >= last.text_evaluations);
    CHECK(next.unet_evaluations >= last.unet_evaluations);
    last = next;
  }
}

void CheckPrompts(const Trajectory& trajectory, const Prompt& seed) {
  for (const Candidate& candidate : trajectory) {
    INFO(candidate.prompt.text);
    CHECK(candidate.prompt.root_id == seed.root_id);
    CHECK((candidate.prompt.text != seed.text) == (candidate.prompt.id != seed.id));
    CHECK(candidate.prompt.expected_class == seed.expected_class);
    CHECK(candidate.prompt.expected_style == seed.expected_style);
    CHECK_FALSE(candidate.prompt.text.empty());
    CHECK_NOTHROW(Json(candidate.prompt.text).dump());  // valid UTF-8
  }
}

// What is declared before the work is what was counted after it, where no success ended it early.
void CheckWork(const Attack& attack, Acts victim, const Ledger& counted) {
  double gradients = 0;
  for (const Passes& passes : attack.work(victim)) {
    CHECK(passes.calls > 0);
    CHECK(passes.rows > 0);
    const bool gradient = passes.pass == Pass::kUNetGradient || passes.pass == Pass::kTextGradient;
    if (gradient) gradients = std::max(gradients, passes.calls);
  }
  CHECK(gradients == Approx(counted.gradient_steps).epsilon(0.5));
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
  const bool white_box = dynamic_cast<const WhiteBoxAttack*>(attack.get()) != nullptr;
  CHECK(transfer == (attack->access() == Access::kTransfer));
  CHECK(white_box == (attack->access() == Access::kWhiteBox));
  // An adaptive form sees the victim; what it adapts to is what hooks can offer.
  if (!attack->adaptive_form_of().empty()) CHECK(white_box);
  if (!white_box) return;
  for (const std::string& offer : dynamic_cast<const WhiteBoxAttack&>(*attack).adapts_to()) {
    INFO(offer);
    CHECK((offer == "text_encoder" || offer == "text_view" || offer == "text_margin"));
  }
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
  CheckPrompts(first, seed);
  // A candidate carries what was spent until it was found, and pictures are never for free.
  CheckLedgers(first, first_target.ledger());
  CheckWork(*attack, Acts::kByWeights, first_target.ledger());
  const Ledger& last = first.back().ledger;
  CHECK(last.victim_queries == 0);  // transfer: the victim is never asked
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

TEST_CASE("a white-box attack repeats itself, harms nothing and asks no more than it said") {
  const std::unique_ptr<Attack> made = Smoke();
  const auto* attack = dynamic_cast<const WhiteBoxAttack*>(made.get());
  if (!attack) return;
  const Concept subject = TinyConcept();
  const Prompt seed = TinyPrompt();
  const AlarmedHooks alarmed;
  for (const Hooks* hooks :
       {static_cast<const Hooks*>(nullptr), static_cast<const Hooks*>(&alarmed)}) {
    INFO("with hooks: " << (hooks != nullptr));
    Asked<TinyVictim> first_target, second_target;
    for (TinyVictim* target :
         {static_cast<TinyVictim*>(&first_target), static_cast<TinyVictim*>(&second_target)}) {
      target->Defend(hooks);
      target->red_enough = 2;  // never: the whole budget is spent
      target->queries_left = attack->max_queries();
    }
    const std::string encoder = DigestOf(first_target.victim.text_encoder);
    const std::string unet = DigestOf(first_target.victim.unet);
    const Trajectory first = attack->Craft(first_target, subject, seed);
    REQUIRE_FALSE(first.empty());
    CheckSame(first, attack->Craft(second_target, subject, seed));
    CHECK(DigestOf(first_target.victim.text_encoder) == encoder);
    CHECK(DigestOf(first_target.victim.unet) == unet);
    CheckPrompts(first, seed);
    CheckLedgers(first, first_target.ledger());
    const Acts victim = hooks == nullptr ? Acts::kByWeights : Acts::kWhileDrawing;
    CheckWork(*attack, victim, first_target.ledger());
    const auto asked = static_cast<int64_t>(first_target.asked.size());
    CHECK(first_target.ledger().victim_queries == asked);
    CHECK(asked <= attack->max_queries());
    CHECK((attack->max_queries() > 0) == (asked > 0));
    // Who asked knows; who did not claims nothing.
    for (const Candidate& candidate : first) {
      CHECK(candidate.success.has_value() == (attack->max_queries() > 0));
    }
    if (attack->max_queries() == 0) continue;
    // Pre-attack success: the seed itself comes first, and a search that worked ends there.
    CHECK(first_target.asked.front() == seed.text);
    Asked<TinyVictim> open;
    open.Defend(hooks);
    open.red_enough = -1;
    const Trajectory at_once = attack->Craft(open, subject, seed);
    REQUIRE(at_once.size() == 1);
    CHECK(at_once[0].success == true);
    CHECK(at_once[0].ledger.victim_queries == 1);
    CHECK(at_once[0].ledger.gradient_steps == 0);
  }
}

}  // namespace excise
