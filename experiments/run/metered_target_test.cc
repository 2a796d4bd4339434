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

MeteredTarget::DrawVictim OneByOne(const std::function<SearchedPicture(const Prompt&)>& draw) {
  return [draw](const std::vector<std::optional<Prompt>>& prompts) {
    std::vector<SearchedPicture> pictures(prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
      if (prompts[i]) pictures[i] = draw(*prompts[i]);
    }
    return pictures;
  };
}

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
                       OneByOne([&](const Prompt&) {
                         return SearchedPicture{pictures[drawn++], drawn == 2, 14};
                       }));
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
                       OneByOne([&](const Prompt&) {
                         return SearchedPicture{pictures[drawn++], drawn == 2, 14, black};
                       }));
  const std::optional<Answer> open = target.Query(TinyPrompt()), held = target.Query(TinyPrompt());
  CHECK(open->blocked == false);
  CHECK(open->picture.equal(pictures[0].to(at::kFloat).div(255.0)));
  CHECK(held->blocked == true);
  CHECK(held->picture.max().item<double>() == 0);
}

TEST_CASE("victims that are asked together are drawn once, and each pays for itself") {
  const std::unique_ptr<Lab> lab = TinyLab(true);
  DecodeParams(Json{{"timesteps", 1}}, *lab->attacks[kUnlearnDiffAtk].plugin, "test");
  const at::Tensor pictures = ToUint8(TinyImages(3, 11));
  std::vector<std::vector<bool>> passes;  // who was asked
  const auto draw = [&](const std::vector<std::optional<Prompt>>& prompts) {
    std::vector<SearchedPicture> drawn(prompts.size());
    passes.emplace_back();
    for (size_t i = 0; i < prompts.size(); ++i) {
      passes.back().push_back(prompts[i].has_value());
      if (prompts[i]) drawn[i] = {pictures[static_cast<int64_t>(i)], i == 2, 14};
    }
    return drawn;
  };
  std::vector<std::unique_ptr<MeteredTarget>> targets;
  for (const char* id : {"a", "b", "c"}) {
    targets.push_back(std::make_unique<MeteredTarget>(
        *lab, kUnlearnDiffAtk, InputsOfAttack(*lab, kUnlearnDiffAtk, 0, TinyPrompt(id)),
        NoReference, VictimModel{&lab->backbone}, draw));
  }
  MeteredLanes lanes({targets[0].get(), nullptr, targets[2].get()});
  const auto ask = [&](bool first, bool last) {
    std::vector<std::optional<Prompt>> prompts(3);
    if (first) prompts[0] = TinyPrompt("a");
    if (last) prompts[2] = TinyPrompt("c");
    return lanes.Query(prompts);
  };
  const std::vector<std::optional<Answer>> both = ask(true, true);
  REQUIRE((both[0] && both[2]));
  CHECK_FALSE(both[1]);
  const std::vector<OracleAnswer> words =
      AskOracle(*lab->JudgeOf(0).plugin, pictures, lab->concepts[0]);
  CHECK(both[0]->target_probability == Approx(words[0].target_probability).epsilon(1e-6));
  CHECK(both[2]->target_probability == 0);  // blocked
  CHECK(ask(false, true)[2].has_value());
  CHECK(targets[0]->ledger().victim_queries == 1);
  CHECK(targets[2]->ledger().victim_queries == 2);
  CHECK(targets[2]->ledger().unet_evaluations == 28);
  // The last one has asked as often as it may: the first is asked alone, and then nobody.
  const std::vector<std::optional<Answer>> one = ask(true, true);
  CHECK((one[0] && !one[2]));
  CHECK_FALSE(ask(true, true)[0].has_value());
  CHECK(passes == std::vector<std::vector<bool>>{
                      {true, false, true}, {false, false, true}, {true, false, false}});
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
