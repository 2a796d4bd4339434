#include "experiments/run/metered_target.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <catch2/catch.hpp>
#include <functional>

#include "core/error.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::unique_ptr<Lab> TinyLab(bool oracle) {
  auto lab = std::make_unique<Lab>();
  lab->judges.push_back(MakeEntry<Judge>("emoji", "emoji", TinyJudge(oracle), &lab->inputs));
  lab->backbone = TinyBackbone();
  lab->own_clip = TinyClip();
  lab->concepts = {TinyConcept()};
  for (const char* name : {"pez", "pez_adaptive", "unlearn_diff_atk"}) {
    lab->attacks.push_back(
        MakeEntry<Attack>(name, name, Registry<Attack>::Get().Make(name), &lab->inputs));
  }
  return lab;
}

AttackInputs Inputs(const Lab& lab, size_t attack) {
  return InputsOfAttack(lab, attack, 0, TinyPrompt());
}
constexpr size_t kPez = 0, kPezAdaptive = 1, kUnlearnDiffAtk = 2;

Drawn NoReference(const Prompt&, int64_t n) {
  Drawn drawn;
  drawn.images = ToUint8(TinyImages(n, 4));
  drawn.evaluations_per_image = 40;
  return drawn;
}

}  // namespace

TEST_CASE("a victim answers as often as the attack may ask, and counts what it draws") {
  const std::unique_ptr<Lab> lab = TinyLab(true);
  DecodeParams(Json{{"timesteps", 2}}, *lab->attacks[kUnlearnDiffAtk].plugin, "test");
  VictimModel model;
  model.model = &lab->backbone;
  model.sampling.steps = 7;
  const at::Tensor pictures = ToUint8(TinyImages(4, 11));
  int64_t drawn = 0;
  MeteredTarget target(*lab, kUnlearnDiffAtk, Inputs(*lab, kUnlearnDiffAtk), NoReference, model,
                       [&](const Prompt&) {
                         return SearchedPicture{pictures[drawn++], drawn == 2, 14};
                       });
  CHECK(&target.Victim() == &lab->backbone);
  CHECK(target.VictimHooks() == nullptr);
  CHECK(target.Sampling().steps == 7);
  for (int64_t i = 0; i < 3; ++i) {  // a try a timestep, and the seed
    const std::optional<Answer> answer = target.Query(TinyPrompt());
    REQUIRE(answer.has_value());
    const OracleAnswer word =
        AskOracle(*lab->JudgeOf(0).plugin, pictures.narrow(0, i, 1), lab->concepts[0]).front();
    // It does not declare that it looks at pictures or at who was blocked.
    CHECK_FALSE(answer->blocked.has_value());
    CHECK_FALSE(answer->picture.defined());
    // What the filter holds back is no success, whatever it shows.
    CHECK(answer->success == (i != 1 && word.success));
    CHECK(answer->target_probability == (i == 1 ? 0 : word.target_probability));
    CHECK(target.ledger().victim_queries == i + 1);
    CHECK(target.ledger().unet_evaluations == 14 * (i + 1));
  }
  CHECK_FALSE(target.Query(TinyPrompt()).has_value());
  CHECK(drawn == 3);
  CHECK(target.ledger().victim_queries == 3);
  // Pictures of the unmodified model are metered as for transfer attacks.
  CHECK(target.ReferenceImages(TinyPrompt(), 2).size(0) == 2);
  CHECK(target.ledger().unet_evaluations == 14 * 3 + 80);
  CHECK_THROWS_WITH(target.ReferenceImages(TinyPrompt("another"), 2), Catch::Contains("'another'"));
}

TEST_CASE("an attack that says that it looks sees what was delivered, and whether it was blocked") {
  const std::unique_ptr<Lab> lab = TinyLab(true);
  AttackInputs inputs = Inputs(*lab, kUnlearnDiffAtk);
  inputs.traits.sees_picture = inputs.traits.sees_blocked = true;
  const at::Tensor pictures = ToUint8(TinyImages(2, 11));
  const at::Tensor black = at::full({3, 64, 64}, 0, at::kByte);
  int64_t drawn = 0;
  MeteredTarget target(*lab, kUnlearnDiffAtk, inputs, NoReference, {&lab->backbone},
                       [&](const Prompt&) {
                         return SearchedPicture{pictures[drawn++], drawn == 2, 14, black};
                       });
  const std::optional<Answer> open = target.Query(TinyPrompt()), held = target.Query(TinyPrompt());
  CHECK(open->blocked == false);
  CHECK(open->picture.equal(pictures[0].to(at::kFloat).div(255.0)));
  CHECK(held->blocked == true);
  CHECK(held->picture.max().item<double>() == 0);
}

TEST_CASE("an adaptive form draws the random numbers of the attack that it adapts") {
  const std::unique_ptr<Lab> lab = TinyLab(true);
  MeteredTarget plain(*lab, kPez, Inputs(*lab, kPez), NoReference);
  MeteredTarget adaptive(*lab, kPezAdaptive, Inputs(*lab, kPezAdaptive), NoReference,
                         {&lab->backbone});
  MeteredTarget other(*lab, kUnlearnDiffAtk, Inputs(*lab, kUnlearnDiffAtk), NoReference,
                      {&lab->backbone});
  const uint64_t drawn = plain.Rng(TinyPrompt(), 3).NextU64();
  CHECK(adaptive.Rng(TinyPrompt(), 3).NextU64() == drawn);
  CHECK(other.Rng(TinyPrompt(), 3).NextU64() != drawn);
  CHECK(plain.Rng(TinyConcept(), 3).NextU64() != drawn);
}

TEST_CASE("who may ask needs an oracle") {
  const std::unique_ptr<Lab> lab = TinyLab(false);
  CHECK_THROWS_WITH(MeteredTarget(*lab, kUnlearnDiffAtk, Inputs(*lab, kUnlearnDiffAtk), NoReference,
                                  {&lab->backbone}),
                    Catch::Contains("judges/oracle"));
  CHECK_NOTHROW(
      MeteredTarget(*lab, kPezAdaptive, Inputs(*lab, kPezAdaptive), NoReference, {&lab->backbone}));
}

TEST_CASE("what an attack does not declare is refused, naming what it would have to say") {
  const std::unique_ptr<Lab> lab = TinyLab(true);
  AttackInputs inputs = Inputs(*lab, kPez);
  inputs.traits = {};
  MeteredTarget target(*lab, kPez, inputs, NoReference, {&lab->backbone});
  const auto refused = [](const std::string& trait, const std::function<void()>& ask) {
    CHECK_THROWS_WITH(ask(), Catch::Contains("'pez'") && Catch::Contains("traits()." + trait));
  };
  refused("surrogate", [&] { target.Surrogate(); });
  refused("unmodified", [&] { target.Unmodified(); });
  refused("unmodified", [&] { target.ReferenceImages(TinyPrompt(), 1); });
  refused("seeds", [&] { target.Seeds(); });
  refused("gradients", [&] { target.Victim(); });
  refused("gradients", [&] { target.VictimHooks(); });
  refused("gradients", [&] { target.Sampling(); });
  refused("queries", [&] { target.Query(TinyPrompt()); });
}

}  // namespace excise
