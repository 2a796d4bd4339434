#include "experiments/tables/table_findings.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "experiments/results/access.h"
#include "experiments/results/budget_families.h"
#include "experiments/results/comparisons.h"
#include "experiments/tables/table_recovery.h"

namespace excise {
namespace {

class Findings {
 public:
  Findings(const TableView& view, const std::string& metric)
      : view_(view), metric_(metric), attacks_(view.Attacks(metric)) {}

  Text InWords() const {
    Text text;
    text.Words("Below ").Data(view_.methods().front());
    text.Words(" without attack (paired test, 5 % each): ").List(Lower(), "none of them");
    text.Words(". Attacks that raise a method's rate above its own without attack: ");
    text.List(Raised(), "none of them").Words(".");
    const std::vector<std::string> recoveries = RecoveryAttacks(view_, metric_);
    if (!recoveries.empty()) {
      text.Words(" Recovery above zero: ").List(AboveFloor(recoveries), "nowhere").Words(".");
    }
    AddMasking(&text);
    return text;
  }

 private:
  std::vector<std::string> Lower() const {
    std::vector<std::string> lower;
    for (const std::string& method : view_.methods()) {
      if (IsLess("methods", attacks_.front(), method, view_.methods().front())) {
        lower.push_back(method);
      }
    }
    return lower;
  }

  std::vector<std::string> Raised() const {
    std::vector<std::string> raised;
    for (const std::string& method : view_.methods()) {
      for (const std::string& attack : attacks_) {
        if (IsLess("attacks", method, attacks_.front(), attack)) {
          raised.push_back(attack + " on " + method);
        }
      }
    }
    return raised;
  }

  std::vector<std::string> AboveFloor(const std::vector<std::string>& attacks) const {
    std::vector<std::string> above;
    for (const std::string& attack : attacks) {
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, attack, kRecovery);
        const bool counts = record != nullptr && IsAboveFloor(*record);
        if (counts) above.push_back((attack == kUnion ? "worst case" : attack) + " on " + method);
      }
    }
    return above;
  }

  void AddMasking(Text* text) const {
    bool searched = false;
    std::vector<std::string> suspected;
    for (const std::string& method : view_.methods()) {
      for (const Record* white : OnPrompts(method, true)) {
        for (const Record* blind : OnPrompts(method, false)) {
          if (QuestionsOf(*blind) > QuestionsOf(*white)) continue;
          searched = true;
          if (!IsLess("attacks", method, white->attack, blind->attack)) continue;
          suspected.push_back(
              fmt::format("{} above {} on {}", blind->attack, white->attack, method));
        }
      }
    }
    if (!searched) return;
    text->Words(
        " Gradient masking suspected, where prompts that were found without a method's gradients "
        "show the concept more often than a search through them (paired test, 5 % each): ");
    text->List(suspected, "nowhere").Words(".");
  }

  // Attacks on the method's single prompts that read its gradients, or those without access to it
  // but by questions.
  std::vector<const Record*> OnPrompts(const std::string& method, bool gradients) const {
    std::vector<const Record*> records;
    for (const std::string& attack : attacks_) {
      const Record* record = view_.Find(method, kAllConcepts, attack, metric_);
      if (record == nullptr || !IsPerPrompt(*record)) continue;
      const bool full = AccessOf(*record) == Access::kFull;
      if (gradients ? full && GradientStepsOf(*record) > 0 : !full) records.push_back(record);
    }
    return records;
  }

  // Whether `small` is significantly below `big`.
  bool IsLess(const std::string& over, const std::string& given, const std::string& small,
              const std::string& big) const {
    const Comparison* test =
        FindComparison(view_.results().comparisons, metric_, "", over, given, small, big);
    if (test == nullptr || !IsSignificant(*test)) return false;
    return test->first == small ? test->difference < 0 : test->difference > 0;
  }

  const TableView& view_;
  const std::string metric_;
  const std::vector<std::string> attacks_;
};

}  // namespace

Text TableFindings(const TableView& view, const std::string& metric) {
  return Findings(view, metric).InWords();
}

}  // namespace excise
