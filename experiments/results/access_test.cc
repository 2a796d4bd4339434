#include "experiments/results/access.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

Record Attacked(bool adaptive, const Json& most, const Json& params = Json::object()) {
  Record record = MadeUpRecord("uce", "some_attack", "asr", MadeUpRate(20, 4));
  record.attack_params = params;
  record.protocol["adaptive"] = adaptive;
  record.protocol["budget"] = {{"per", "prompt"}, {"most", most}, {"spent", Json::object()}};
  return record;
}

}  // namespace

TEST_CASE("an attack has full access, asks, or never met the method") {
  const Json search = {{"gradient_steps", 100}, {"victim_queries", 11}};
  const Json blind = {{"victim_queries", 11}};
  CHECK(AccessOf(Attacked(true, search)) == Access::kFull);
  CHECK(AccessOf(Attacked(true, blind)) == Access::kQuestions);
  // It reads the method's encoder and asks nobody.
  CHECK(AccessOf(Attacked(true, Json::object())) == Access::kFull);
  // Gradients of another model.
  CHECK(AccessOf(Attacked(false, {{"gradient_steps", 100}})) == Access::kNone);
  CHECK(AccessOf(MadeUpRecord("uce", "none", "asr", MadeUpRate(20, 4))) == Access::kNone);
  CHECK(QuestionsOf(Attacked(true, blind)) == 11);
  CHECK(QuestionsOf(Attacked(false, {{"gradient_steps", 100}})) == 0);
}

TEST_CASE("prompts that were found on a row had access to that row alone") {
  const Json search = {{"gradient_steps", 100}, {"victim_queries", 11}};
  CHECK(AccessOf(Attacked(false, search, {{"found_on", "uce"}})) == Access::kFull);
  CHECK(AccessOf(Attacked(false, search, {{"found_on", "esd"}})) == Access::kNone);
}

TEST_CASE("what is learnt once for a concept is not on single prompts") {
  Record concept_wide = Attacked(true, {{"gradient_steps", 300}});
  CHECK(IsPerPrompt(concept_wide));
  concept_wide.protocol["budget"]["per"] = "concept";
  CHECK_FALSE(IsPerPrompt(concept_wide));
  CHECK_FALSE(IsPerPrompt(MadeUpRecord("uce", "none", "asr", MadeUpRate(20, 4))));
}

}  // namespace excise
