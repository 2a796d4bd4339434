#include "experiments/tables/table_view.h"

#include <algorithm>
#include <cmath>

#include "core/text.h"
#include "experiments/results/comparisons.h"

namespace excise {
namespace {

void AddOnce(std::vector<std::string>* list, const std::string& item) {
  if (!IsOneOf(item, *list)) list->push_back(item);
}

}  // namespace

bool HasPart(const Record& record, const std::string& part) {
  if (record.status != "ok") return false;
  if (part.empty()) return true;
  const auto n = record.score.parts.find(part + "_n");
  return n != record.score.parts.end() && n->second > 0;
}

bool LeavesOutBlocked(const Record& record) {
  const auto blocked = record.score.parts.find("blocked");
  return record.traits.blocked == BlockedPictures::kLeftOut &&
         blocked != record.score.parts.end() && blocked->second > 0;
}

double ValueOf(const Record& record, const std::string& part) {
  return part.empty() ? record.score.value : record.score.parts.at(part);
}

TableView::TableView(const Results& results) : results_(results) {
  if (results.experiment.contains("reference_rows")) {
    references_ = results.experiment.at("reference_rows").get<std::vector<std::string>>();
  }
  std::vector<std::string> ranked;
  for (const Record& record : results.records) {
    AddOnce(IsReference(record.method) ? &methods_ : &ranked, record.method);
    if (record.subject != kAllConcepts) AddOnce(&concepts_, record.subject);
  }
  methods_.insert(methods_.end(), ranked.begin(), ranked.end());
}

bool TableView::IsReference(const std::string& method) const {
  return IsOneOf(method, references_);
}

std::vector<const Record*> TableView::Metrics(const std::string& group) const {
  std::vector<const Record*> metrics;
  std::vector<std::string> seen;
  for (const Record& record : results_.records) {
    if (record.traits.group != group || IsOneOf(record.metric, seen)) continue;
    seen.push_back(record.metric);
    metrics.push_back(&record);
  }
  return metrics;
}

std::vector<std::string> TableView::Attacks(const std::string& metric) const {
  std::vector<std::string> attacks;
  bool has_union = false;
  for (const Record& record : results_.records) {
    if (record.metric != metric) continue;
    has_union = has_union || record.attack == kUnion;
    if (record.attack != kUnion) AddOnce(&attacks, record.attack);
  }
  if (has_union) attacks.push_back(kUnion);
  return attacks;
}

const Record* TableView::Find(const std::string& method, const std::string& subject,
                              const std::string& attack, const std::string& metric) const {
  for (const Record& record : results_.records) {
    if (record.method == method && record.subject == subject && record.attack == attack &&
        record.metric == metric) {
      return &record;
    }
  }
  return nullptr;
}

TableView::Mark TableView::Against(const Record& best, const Record& other,
                                   const std::string& part) const {
  if (ValueOf(best, part) == ValueOf(other, part)) return Mark::kBest;
  const Comparison* test = FindComparison(results_.comparisons, best.metric, part, "methods",
                                          best.attack, best.method, other.method);
  if (test != nullptr) {
    if (IsEquivalent(*test)) return Mark::kEquivalent;
    return IsSignificant(*test) ? Mark::kNone : Mark::kOpen;
  }
  // No single samples to pair: two standard errors of the difference.
  const double variance =
      best.score.stderr_ * best.score.stderr_ + other.score.stderr_ * other.score.stderr_;
  const double distance = std::fabs(ValueOf(best, part) - ValueOf(other, part));
  return distance <= 1.959964 * std::sqrt(variance) ? Mark::kOpen : Mark::kNone;
}

std::map<std::string, TableView::Mark> TableView::Marks(const std::string& metric,
                                                        const std::string& part,
                                                        const std::string& attack) const {
  std::vector<const Record*> ranked;
  for (const std::string& method : methods_) {
    const Record* record = Find(method, kAllConcepts, attack, metric);
    if (IsReference(method) || record == nullptr || !HasPart(*record, part)) continue;
    if (MissingOf(*record) > 0 || LeavesOutBlocked(*record)) continue;
    ranked.push_back(record);
  }
  std::map<std::string, Mark> marks;
  if (ranked.size() < 2) return marks;
  const bool higher = ranked.front()->traits.higher_is_better;
  const auto better = [&](const Record* a, const Record* b) {
    return higher ? ValueOf(*a, part) > ValueOf(*b, part) : ValueOf(*a, part) < ValueOf(*b, part);
  };
  const Record* best = *std::min_element(ranked.begin(), ranked.end(), better);
  for (const Record* record : ranked) {
    const Mark mark = Against(*best, *record, part);
    if (mark != Mark::kNone) marks[record->method] = mark;
  }
  return marks;
}

}  // namespace excise
