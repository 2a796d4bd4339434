#include "experiments/tables/table_recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/text.h"
#include "experiments/results/budget_families.h"

namespace excise {
namespace {

constexpr size_t kMostOfFamily = 3;
constexpr double kLevel = 0.05;

// Entries for which a larger one of their family stands.
std::vector<std::string> StoodFor(const TableView& view, const std::string& metric) {
  std::vector<std::string> attacks;
  for (const BudgetFamily& family : BudgetFamilies(view.results().records, metric)) {
    if (family.entries.size() <= kMostOfFamily) continue;
    for (const BudgetFamily::Entry& entry : family.entries) {
      if (entry.attack != family.entries.back().attack) attacks.push_back(entry.attack);
    }
  }
  return attacks;
}

// The floor of a recovery that has a number: a row, or a control on the same method.
struct Floor {
  std::string name;
  bool control = false;
};
Floor FloorIn(const Record& recovery) {
  const Json& floor = recovery.protocol.at("floor");
  const bool control = floor.at("method") == recovery.method;
  return {floor.at(control ? "attack" : "method"), control};
}

// The mean over the rows of what `attack` spent, by kind; and what it may spend.
struct Spending {
  Json most = Json::object();
  std::map<std::string, double> sums;
  int64_t rows = 0;
  std::string per;
};

Spending SpendingOf(const TableView& view, const std::string& metric, const std::string& attack) {
  Spending spending;
  for (const std::string& method : view.methods()) {
    const Record* record = view.Find(method, kAllConcepts, attack, metric);
    if (record == nullptr || !record->protocol.contains("budget")) continue;
    const Json& budget = record->protocol.at("budget");
    spending.per = budget.at("per");
    spending.most.update(budget.at("most"));
    for (const auto& [kind, spent] : budget.at("spent").items()) {
      spending.sums[kind] += spent.get<double>();
    }
    ++spending.rows;
  }
  return spending;
}

// "200 (143) gradient steps, 11 (8.1) queries a prompt"; "" where nothing was spent.
std::string InWords(const Spending& spending) {
  constexpr std::pair<const char*, const char*> kKinds[] = {
      {"gradient_steps", "gradient steps"},
      {"victim_queries", "queries"},
      {"candidate_evaluations", "candidates"}};
  std::string text;
  for (const auto& [kind, name] : kKinds) {
    const auto sum = spending.sums.find(kind), steps = spending.sums.find(kKinds[0].first);
    if (sum == spending.sums.end()) continue;
    // One candidate a step is said once.
    const bool again = sum != steps && steps != spending.sums.end() && steps->second == sum->second;
    if (again) continue;
    std::string said = fmt::format("{:.3g}", sum->second / static_cast<double>(spending.rows));
    const auto most = spending.most.find(kind);
    if (most != spending.most.end()) said = fmt::format("{} ({})", most->dump(), said);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", said, name);
  }
  return text.empty() ? "" : text + " a " + spending.per;
}

}  // namespace

std::vector<std::string> ShownAttacks(const TableView& view, const std::string& metric) {
  std::vector<std::string> shown;
  const std::vector<std::string> attacks = view.Attacks(metric), left_out = StoodFor(view, metric);
  for (const std::string& attack : attacks) {
    // The worst of one column is that column.
    if (attack == kUnion && attacks.size() == 2) continue;
    if (!IsOneOf(attack, left_out)) shown.push_back(attack);
  }
  return shown;
}

std::vector<std::string> RecoveryAttacks(const TableView& view, const std::string& metric) {
  std::vector<std::string> attacks;
  for (const std::string& attack : ShownAttacks(view, metric)) {
    const std::vector<std::string>& methods = view.methods();
    const bool any = std::any_of(methods.begin(), methods.end(), [&](const std::string& method) {
      const Record* record = view.Find(method, kAllConcepts, attack, kRecovery);
      return record != nullptr && record->status == "ok";
    });
    if (any) attacks.push_back(attack);
  }
  return attacks;
}

bool IsAboveFloor(const Record& record) {
  return record.status == "ok" && record.score.value > 0 && record.score.parts.at("p") < kLevel;
}

Text RecoveryIntro(const TableView& view, const std::string& metric) {
  std::vector<std::string> rows;
  std::vector<std::pair<std::string, std::string>> controls;  // attack, its control
  for (const std::string& attack : RecoveryAttacks(view, metric)) {
    for (const std::string& method : view.methods()) {
      const Record* record = view.Find(method, kAllConcepts, attack, kRecovery);
      if (record == nullptr || record->status != "ok") continue;
      const Floor floor = FloorIn(*record);
      const std::pair<std::string, std::string> control = {attack, floor.name};
      if (!floor.control && !IsOneOf(floor.name, rows)) rows.push_back(floor.name);
      if (floor.control && std::count(controls.begin(), controls.end(), control) == 0) {
        controls.push_back(control);
      }
    }
  }
  Text text;
  text.Words(
      "Without attack: % of pictures that show it. Under an attack, recovery in points: of "
      "the prompts that neither the row nor the floor shows without attack, the share that "
      "the row shows under it, less the floor's. ");
  text.Code(">").Words(": above zero (paired test, 5 %).");
  if (!rows.empty()) text.Words(" Floor: ").List(rows, "").Words(" under the same attack.");
  for (const auto& [attack, control] : controls) {
    text.Words(" Floor of ").Data(attack).Words(": ").Data(control);
    text.Words(", its control, on the same row.");
  }
  return text;
}

void AddBudgets(const TableView& view, const std::string& metric, Text* text) {
  bool first = true;
  for (const std::string& attack : ShownAttacks(view, metric)) {
    const std::string words = InWords(SpendingOf(view, metric, attack));
    if (words.empty()) continue;
    text->Words(first ? " Budgets, at most (spent on average): " : "; ").Data(attack);
    text->Words(" " + words);
    first = false;
  }
  if (!first) text->Words(".");
}

}  // namespace excise
