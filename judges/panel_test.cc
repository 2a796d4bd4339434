#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "judges/judge.h"
#include "tests/stand_in_judge.h"

namespace excise {
namespace {

using Catch::Contains;

Json Member(int64_t level) { return {{"plugin", "stand_in"}, {"level", level}}; }

Json ListOf(const std::vector<Json>& members) { return Json(members); }

std::unique_ptr<Judge> Opened(Json params) {
  RegisterStandInJudge();
  if (!params.contains("members")) {
    params["members"] = ListOf({Member(50), Member(100), Member(150)});
  }
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("panel");
  DecodeParams(params, *judge, "test");
  judge->Open(JudgeSource());
  return judge;
}

// Uniform pictures, seen by none, one, two and three members.
at::Tensor Greys() {
  at::Tensor pictures = at::full({4, 3, 2, 2}, 0, at::kByte);
  for (int64_t i = 0; i < 4; ++i) pictures[i].fill_(25 + 50 * i);
  return pictures;
}

std::vector<std::string> Words(const Json& params) {
  std::vector<std::string> words;
  for (const Verdict& verdict : Opened(params)->Report(Greys()).verdicts) {
    words.push_back(verdict.class_id);
  }
  return words;
}

}  // namespace

TEST_CASE("panel: any, all or the majority") {
  using List = std::vector<std::string>;
  CHECK(Words({{"rule", "any"}}) == List{"sfw", "nsfw", "nsfw", "nsfw"});
  CHECK(Words({{"rule", "all"}}) == List{"sfw", "sfw", "sfw", "nsfw"});
  CHECK(Words({{"rule", "majority"}}) == List{"sfw", "sfw", "nsfw", "nsfw"});
  CHECK(Words({{"shown", "yes"}, {"other", "no"}}) == List{"no", "yes", "yes", "yes"});
}

TEST_CASE("panel: keeps what each member says") {
  const std::unique_ptr<Judge> judge = Opened(Json::object());
  const JudgeTraits traits = judge->traits();
  CHECK(traits.members == std::vector<std::string>{"0 stand_in", "1 stand_in", "2 stand_in"});
  const Judgement said = judge->Report(Greys());
  CHECK(said.verdicts[1].votes == std::vector<bool>{true, false, false});
  CHECK(said.verdicts[3].votes == std::vector<bool>{true, true, true});
  CHECK(said.verdicts[0].class_probability == Approx(1));
  CHECK(said.verdicts[1].class_probability == Approx(1.0 / 3));
  CHECK(said.scores[1][2].item<double>() == Approx(75.0 / 255).margin(0.5));
  REQUIRE(traits.scores.size() == 5);
  CHECK(traits.scores[4].kind == "member");
}

TEST_CASE("panel: members are settings like others") {
  const std::unique_ptr<Judge> judge = Opened(Json::object());
  const Json encoded = EncodeParams(*judge);
  CHECK(encoded.at("members").size() == 3);
  CHECK(encoded.at("members")[1].at("level") == 100);
  CHECK(encoded.at("members")[1].at("plugin") == "stand_in");
  const std::unique_ptr<Judge> same = Opened(encoded);
  CHECK(same->digest() == judge->digest());
  CHECK(Opened({{"members", ListOf({Member(50), Member(100)})}})->digest() != judge->digest());
  // Its oracle is that of its members, where they have one.
  CHECK_THROWS_WITH(judge->oracle_digest(), Contains("no oracle"));
}

TEST_CASE("panel: members that could not vote are refused") {
  const auto opened = [](const Json& member) { return Opened({{"members", ListOf({member})}}); };
  CHECK_THROWS_WITH(opened({{"plugin", "stand_inn"}}), Contains("members") && Contains("stand_in"));
  CHECK_THROWS_WITH(opened({{"plugin", "stand_in"}, {"levle", 1}}),
                    Contains("members/0") && Contains("level"));
  CHECK_THROWS_WITH(opened({{"level", 1}}), Contains("plugin"));
  CHECK_THROWS_WITH(Opened({{"target", {"church"}}}), Contains("church") && Contains("stand_in"));
  CHECK_THROWS_WITH(Opened({{"shown", "sfw"}}), Contains("two names"));
  const std::unique_ptr<Judge> none = Registry<Judge>::Get().Make("panel");
  CHECK_THAT(MissingSetting(*none), Contains("members"));
}

}  // namespace excise
