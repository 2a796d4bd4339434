// The contract of an attack, run on each one alone.
#include <algorithm>
#include <fstream>
#include <initializer_list>

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
  explicit AskedTarget(const AttackTraits& traits) {
    queries_left = traits.queries;
    seeds = traits.seeds;
    drawing = traits.drawing;
    red_enough = 2;  // never: the whole budget is spent
  }
  const ClipModel& Surrogate() override {
    asked_surrogate = true;
    return TinyTarget::Surrogate();
  }
  const Backbone& Unmodified() override {
    asked_unmodified = true;
    return TinyTarget::Unmodified();
  }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override {
    asked_unmodified = true;
    return TinyTarget::ReferenceImages(prompt, n);
  }
  const Backbone& Victim() override {
    asked_victim = true;
    return TinyTarget::Victim();
  }
  const Hooks* VictimHooks() override {
    asked_victim = true;
    return TinyTarget::VictimHooks();
  }
  std::optional<Answer> Query(const Prompt& prompt) override {
    const std::optional<Answer> answer = TinyTarget::Query(prompt);
    if (answer) reddest = std::max(reddest, answer->target_probability);
    return answer;
  }
  const SamplerSpec& Sampling() override {
    (drawing ? asked_sampling : asked_victim) = true;
    return TinyTarget::Sampling();
  }
  bool drawing = false;
  bool asked_surrogate = false, asked_unmodified = false, asked_victim = false;
  bool asked_sampling = false;  // by one that chooses how prompts are drawn, which may
  double reddest = 0;           // the highest probability that it answered
};

// What the attack finds for one prompt, whichever kind it is.
Trajectory Attacked(const Attack& attack, Target& target, const Concept& subject,
                    const Prompt& seed) {
  if (attack.traits().per == AttackTraits::Per::kPrompt) return attack.Craft(target, subject, seed);
  const Learnt learnt = attack.Learn(target, subject);
  Candidate candidate;
  candidate.prompt = attack.Use(learnt, TinyBackbone(), subject, seed);
  candidate.prompt.id = seed.id + "+attack";
  candidate.ledger = target.ledger();
  return {candidate};
}

// A victim whose hooks mix what they are given with something else, and see red.
class AlarmedHooks : public Hooks, public ImageFilter {
 public:
  const ImageFilter* Filter() const override { return this; }
  at::Tensor Score(const at::Tensor& images) const override {
    return images.select(1, 0).mean({1, 2});
  }
  double Threshold() const override { return 0.9; }
  at::Tensor TextView(const TextBatch& text) const override { return text.states.mul(0.5); }
  at::Tensor TextMargin(const TextBatch& text) const override { return text.pooled.select(1, 0); }
};

// One that leaves drawing alone and only looks at what came out.
class FilterAlone : public AlarmedHooks {
 public:
  bool OnlyFilters() const override { return true; }
  at::Tensor TextView(const TextBatch&) const override { return {}; }
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
    CHECK(a[i].prompt.latents.values == b[i].prompt.latents.values);
    CHECK(a[i].prompt.drawing == b[i].prompt.drawing);
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

void CheckPrompts(const Trajectory& trajectory, const Prompt& seed, const AttackTraits& traits) {
  for (const Candidate& candidate : trajectory) {
    INFO(candidate.prompt.text);
    CHECK(candidate.prompt.root_id == seed.root_id);
    if (traits.per == AttackTraits::Per::kPrompt) {
      const bool changed = candidate.prompt.text != seed.text ||
                           !candidate.prompt.latents.values.empty() ||
                           !candidate.prompt.drawing.plain();
      CHECK(changed == (candidate.prompt.id != seed.id));
    }
    CHECK(candidate.prompt.form() == traits.form);
    CHECK((traits.latents || candidate.prompt.latents.values.empty()));
    CHECK((traits.drawing || candidate.prompt.drawing.plain()));
    // Steps are skipped of a drawing that begins with a picture.
    if (candidate.prompt.drawing.first_step > 0)
      CHECK_FALSE(candidate.prompt.latents.values.empty());
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

TEST_CASE("traits fit together") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make(TheOnlyPlugin<Attack>());
  const AttackTraits traits = attack->traits();
  // An adaptive form sees the victim; what it adapts to is what a model can offer.
  if (!attack->adaptive_form_of().empty()) CHECK(traits.gradients);
  CHECK(traits.most.victim_queries == 0);  // `queries` says it
  for (const std::string& offer : traits.adapts_to) {
    INFO(offer);
    CHECK((offer == "text_encoder" || offer == "text_view" || offer == "text_margin"));
  }
  CHECK(traits.queries >= 0);
  if (!traits.ForEachMethod()) CHECK(traits.adapts_to.empty());
  if (traits.sees_picture || traits.sees_blocked) CHECK(traits.queries > 0);
  // Weights are of a model and not of a prompt; only an attack on a concept has seeds.
  if (traits.weights || traits.seeds > 0) CHECK(traits.per == AttackTraits::Per::kConcept);
  CHECK(traits.lanes >= 1);
  if (traits.lanes > 1) CHECK(traits.per == AttackTraits::Per::kPrompt);
  if (traits.drawing) CHECK(traits.lanes == 1);
}

TEST_CASE("an attack repeats itself, harms nothing, asks for what it declares and meters it") {
  const std::unique_ptr<Attack> attack = Smoke();
  const AttackTraits traits = attack->traits();
  const Concept subject = TinyConcept();
  const Prompt seed = TinyPrompt();
  const AlarmedHooks alarmed;
  const FilterAlone filter;
  bool asked_surrogate = false, asked_unmodified = false, asked_victim = false;
  for (const Hooks* hooks : std::initializer_list<const Hooks*>{nullptr, &alarmed, &filter}) {
    INFO("with hooks: " << (hooks != nullptr) << ", only a filter: " << (hooks == &filter));
    AskedTarget first_target(traits), second_target(traits);
    first_target.Defend(hooks);
    second_target.Defend(hooks);
    const std::string surrogate = DigestOf(first_target.TinyTarget::Surrogate().weights);
    const std::string encoder = DigestOf(first_target.victim.text_encoder);
    const std::string unet = DigestOf(first_target.victim.unet);
    const Trajectory first = Attacked(*attack, first_target, subject, seed);
    REQUIRE_FALSE(first.empty());
    CheckSame(first, Attacked(*attack, second_target, subject, seed));
    CHECK(DigestOf(first_target.TinyTarget::Surrogate().weights) == surrogate);
    CHECK(DigestOf(first_target.victim.text_encoder) == encoder);
    CHECK(DigestOf(first_target.victim.unet) == unet);
    CheckPrompts(first, seed, traits);
    // A candidate carries what was spent until it was found.
    CheckLedgers(first, first_target.ledger());
    CheckWork(*attack, hooks == nullptr ? Acts::kByWeights : Acts::kWhileDrawing,
              first_target.ledger());
    asked_surrogate = asked_surrogate || first_target.asked_surrogate;
    asked_unmodified = asked_unmodified || first_target.asked_unmodified;
    asked_victim = asked_victim || first_target.asked_victim;
    if (first_target.asked_sampling) CHECK(traits.queries > 0);
    const Ledger& last = first.back().ledger;
    CHECK((last.text_evaluations + last.unet_evaluations > 0) ==
          (traits.ReadsBase() || traits.ForEachMethod()));
    const auto asked = static_cast<int64_t>(first_target.asked.size());
    CHECK(last.victim_queries == asked);
    CHECK(asked <= traits.queries);
    CHECK((traits.queries > 0) == (asked > 0));
    if (traits.most.gradient_steps > 0) {
      CHECK(first_target.ledger().gradient_steps <= traits.most.gradient_steps);
    }
    // Who asked knows; who did not claims nothing.
    for (const Candidate& candidate : first) {
      CHECK(candidate.success.has_value() == (traits.queries > 0));
    }
  }
  // Who declares more than it asks for, of any victim, has keys that move for nothing.
  CHECK(asked_surrogate == traits.surrogate);
  CHECK(asked_unmodified == traits.unmodified);
  CHECK(asked_victim == (traits.gradients || traits.weights));
}

TEST_CASE("an attack that does not declare held-out names does not depend on them") {
  const std::unique_ptr<Attack> attack = Smoke();
  if (attack->traits().held_out_names) return;
  Concept subject = TinyConcept(), other = subject;
  other.held_out = {"picture", "Caniche"};
  AskedTarget one(attack->traits()), two(attack->traits());
  CheckSame(Attacked(*attack, one, subject, TinyPrompt()),
            Attacked(*attack, two, other, TinyPrompt()));
}

TEST_CASE("what an attack makes of a prompt does not depend on the prompts before it") {
  const std::unique_ptr<Attack> attack = Smoke();
  if (attack->traits().per == AttackTraits::Per::kConcept) return;
  const Concept subject = TinyConcept();
  AskedTarget fresh(attack->traits()), used(attack->traits());
  used.queries_left = 1000;
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

TEST_CASE("what an attack makes of a prompt does not depend on who is crafted with it") {
  const std::unique_ptr<Attack> attack = Smoke();
  const AttackTraits traits = attack->traits();
  if (traits.per == AttackTraits::Per::kConcept) return;
  constexpr size_t kLanes = 3;
  const std::vector<Prompt> seeds = {TinyPrompt(), TinyPrompt(TinyPrompt().id, "a poodle"),
                                     TinyPrompt()};
  // The lanes that `there` says, each with a target of its own.
  const auto craft = [&](const std::vector<bool>& there) {
    std::vector<std::unique_ptr<AskedTarget>> targets;
    std::vector<Target*> lanes;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      targets.push_back(std::make_unique<AskedTarget>(traits));
      lanes.push_back(there[lane] ? targets.back().get() : nullptr);
    }
    Lanes together(lanes);
    std::vector<Trajectory> found = attack->CraftTogether(together, TinyConcept(), seeds);
    REQUIRE(found.size() == kLanes);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      INFO("lane " << lane);
      CHECK(found[lane].empty() != there[lane]);
      CheckLedgers(found[lane], targets[lane]->ledger());
    }
    return found;
  };
  const std::vector<Trajectory> all = craft({true, true, true});
  CheckSame(craft({true, false, false})[0], all[0]);
  CheckSame(craft({false, true, false})[1], all[1]);
  CheckSame(craft({false, true, true})[2], all[2]);
}

TEST_CASE("an attack that asks takes the seed first and ends with a success") {
  const std::unique_ptr<Attack> attack = Smoke();
  const AttackTraits traits = attack->traits();
  if (traits.queries == 0 || traits.per == AttackTraits::Per::kConcept) return;
  // Pre-attack success: the seed itself comes first, and a search that worked ends there.
  AskedTarget open(traits);
  open.red_enough = -1;
  const Prompt seed = TinyPrompt();
  const Trajectory at_once = attack->Craft(open, TinyConcept(), seed);
  REQUIRE(at_once.size() == 1);
  CHECK(open.asked.front() == seed.text);
  CHECK(at_once[0].success == true);
  CHECK(at_once[0].ledger.victim_queries == 1);
  CHECK(at_once[0].ledger.gradient_steps == 0);
}

TEST_CASE("more questions never lose a success") {
  const std::unique_ptr<Attack> attack = Smoke();
  const AttackTraits traits = attack->traits();
  if (traits.queries == 0 || traits.per == AttackTraits::Per::kConcept) return;
  AskedTarget never(traits);
  attack->Craft(never, TinyConcept(), TinyPrompt());
  // Whether the reddest of all pictures is found by as many questions.
  const auto succeeds = [&](int64_t questions) {
    AskedTarget target(traits);
    target.queries_left = questions;
    target.red_enough = never.reddest;
    const Trajectory found = attack->Craft(target, TinyConcept(), TinyPrompt());
    return std::any_of(found.begin(), found.end(),
                       [](const Candidate& candidate) { return candidate.success == true; });
  };
  const auto asked = static_cast<int64_t>(never.asked.size());
  bool before = false;
  for (int64_t questions = 1; questions <= asked; ++questions) {
    INFO(questions << " of " << asked << " questions");
    const bool now = succeeds(questions);
    CHECK((now || !before));
    before = now;
  }
  CHECK(before);  // the whole budget finds it
}

TEST_CASE("an attack on a prompt is none on a concept, and says so") {
  const std::unique_ptr<Attack> attack = Smoke();
  AskedTarget target(attack->traits());
  if (attack->traits().per == AttackTraits::Per::kPrompt) {
    CHECK_THROWS_WITH(attack->Learn(target, TinyConcept()), Catch::Contains("Craft"));
  } else {
    CHECK_THROWS_WITH(attack->Craft(target, TinyConcept(), TinyPrompt()), Catch::Contains("Learn"));
  }
}

}  // namespace excise
