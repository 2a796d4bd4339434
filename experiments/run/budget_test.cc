#include "experiments/run/budget.h"

#include <catch2/catch.hpp>

namespace excise {
namespace {

Ledger Spent(int64_t steps, int64_t queries) {
  Ledger ledger;
  ledger.gradient_steps = steps;
  ledger.victim_queries = queries;
  return ledger;
}

}  // namespace

TEST_CASE("a budget is what may be spent on a prompt, and the mean of what was") {
  AttackTraits traits;
  traits.queries = 11;
  traits.most.gradient_steps = 200;
  const Json budgets =
      BudgetsByConcept(traits, {{Spent(200, 11), Spent(20, 2)}, {Spent(0, 1)}, {}});
  REQUIRE(budgets.size() == 4);
  const Json most = {{"gradient_steps", 200}, {"victim_queries", 11}};
  CHECK(budgets[0] == Json({{"per", "prompt"},
                            {"most", most},
                            {"spent", {{"gradient_steps", 110.0}, {"victim_queries", 6.5}}}}));
  CHECK(budgets[1].at("spent") == Json({{"victim_queries", 1.0}}));
  CHECK(budgets[2].is_null());
  // Over all prompts, not over concepts.
  CHECK(budgets[3].at("spent").at("gradient_steps").get<double>() == Approx(220.0 / 3));
}

TEST_CASE("what is learnt once for a concept is spent once, however many prompts use it") {
  AttackTraits traits;
  traits.per = AttackTraits::Per::kConcept;
  const Json budgets =
      BudgetsByConcept(traits, {{Spent(10, 0), Spent(10, 0), Spent(10, 0)}, {Spent(40, 0)}});
  CHECK(
      budgets.back() ==
      Json({{"per", "concept"}, {"most", Json::object()}, {"spent", {{"gradient_steps", 25.0}}}}));
}

}  // namespace excise
