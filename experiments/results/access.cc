#include "experiments/results/access.h"

#include "experiments/results/budget_families.h"

namespace excise {

Access AccessOf(const Record& record) {
  const std::string row = record.attack_params.value("found_on", "");
  const bool met = row.empty() ? record.protocol.value("adaptive", false) : row == record.method;
  if (!met) return Access::kNone;
  const bool asked_only = QuestionsOf(record) > 0 && GradientStepsOf(record) == 0;
  return asked_only ? Access::kQuestions : Access::kFull;
}

bool IsPerPrompt(const Record& record) {
  return record.protocol.value(Json::json_pointer("/budget/per"), "") == "prompt";
}

int64_t QuestionsOf(const Record& record) {
  return record.protocol.value(Json::json_pointer("/budget/most/victim_queries"), int64_t{0});
}

}  // namespace excise
