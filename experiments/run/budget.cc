#include "experiments/run/budget.h"

#include <utility>

namespace excise {
namespace {

constexpr std::pair<const char*, int64_t Ledger::*> kKinds[] = {
    {"gradient_steps", &Ledger::gradient_steps},
    {"victim_queries", &Ledger::victim_queries},
    {"candidate_evaluations", &Ledger::candidate_evaluations},
    {"unet_evaluations", &Ledger::unet_evaluations}};

Json Budget(const AttackTraits& traits, const std::vector<Ledger>& spent) {
  if (spent.empty()) return nullptr;
  Ledger most = traits.most;
  most.victim_queries = traits.queries;
  Json allowed = Json::object(), mean = Json::object();
  for (const auto& [name, kind] : kKinds) {
    if (most.*kind > 0) allowed[name] = most.*kind;
    double sum = 0;
    for (const Ledger& ledger : spent) sum += static_cast<double>(ledger.*kind);
    if (sum > 0) mean[name] = sum / static_cast<double>(spent.size());
  }
  const bool prompt = traits.per == AttackTraits::Per::kPrompt;
  return {{"per", prompt ? "prompt" : "concept"}, {"most", allowed}, {"spent", mean}};
}

}  // namespace

Json BudgetsByConcept(const AttackTraits& traits, const std::vector<std::vector<Ledger>>& spent) {
  Json budgets = Json::array();
  std::vector<Ledger> all;
  for (const std::vector<Ledger>& prompts : spent) {
    std::vector<Ledger> own = prompts;
    // All prompts of a concept use what was learnt once.
    if (traits.per == AttackTraits::Per::kConcept && own.size() > 1) own.resize(1);
    budgets.push_back(Budget(traits, own));
    all.insert(all.end(), own.begin(), own.end());
  }
  budgets.push_back(Budget(traits, all));
  return budgets;
}

}  // namespace excise
