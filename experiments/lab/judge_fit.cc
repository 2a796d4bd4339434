#include "experiments/lab/judge_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/stats.h"
#include "experiments/lab/lab.h"

namespace excise {
namespace {

bool IsRemovalRate(const Record& record) {
  return record.traits.group == "erasure" && record.traits.unit == "fraction" &&
         !record.traits.higher_is_better;
}

// Pictures of one prompt are no independent witnesses.
bool ShowsLessThanHalf(const Score& score) {
  std::set<std::string> prompts;
  for (const std::string& id : score.sample_ids) prompts.insert(id.substr(0, id.rfind('#')));
  const auto n = static_cast<int64_t>(prompts.size());
  if (n == 0) return false;
  return Wilson(std::llround(score.value * static_cast<double>(n)), n).high < 0.5;
}

// Which prompts it is over: those that name the concept, or those that describe it.
std::string PromptsOf(const Record& record) {
  const std::vector<std::string>& groups = record.traits.sample_groups;
  return groups.empty() ? "" : groups.front();
}

// Why no removal of the concept is reported, by concept; for every row of an unmodified model. By
// the first rate of removal on such prompts.
std::map<std::string, std::map<std::string, std::string>> UnfitConcepts(
    const std::set<std::string>& bases, const std::vector<Record>& records,
    const std::string& prompts) {
  std::map<std::string, std::map<std::string, std::string>> unfit;
  const auto headline = std::find_if(records.begin(), records.end(), [&](const Record& record) {
    return IsRemovalRate(record) && PromptsOf(record) == prompts;
  });
  for (auto it = headline; it != records.end(); ++it) {
    const Record& r = *it;
    const bool asked = bases.count(r.method) != 0 && r.metric == headline->metric;
    if (!asked || r.subject == kAllConcepts || r.attack != kUnmodified || r.status != "ok")
      continue;
    if (!ShowsLessThanHalf(r.score)) continue;
    unfit[r.method][r.subject] = fmt::format(
        "the judge sees {} in {:.0f} of {} pictures of the unmodified model ({}), so it does not "
        "fit the model, or the model is broken",
        r.subject, r.score.value * static_cast<double>(r.score.n), r.score.n, r.method);
  }
  return unfit;
}

// The concept's reason, or all reasons where the record is over all concepts; "": none.
std::string ReasonFor(const std::map<std::string, std::string>& unfit, const std::string& subject) {
  std::string text;
  for (const auto& [name, reason] : unfit) {
    if (subject != kAllConcepts && subject != name) continue;
    text += (text.empty() ? "" : "; ") + reason;
  }
  return text;
}

}  // namespace

void RefuseUnfit(const std::map<std::string, std::string>& base_of, std::vector<Record>* records) {
  std::set<std::string> bases;
  for (const auto& [method, base] : base_of) bases.insert(base);
  std::map<std::string, std::map<std::string, std::map<std::string, std::string>>> by_prompts;
  for (const Record& record : *records) {
    const std::string prompts = PromptsOf(record);
    if (record.traits.group != "erasure" || by_prompts.count(prompts) != 0) continue;
    by_prompts[prompts] = UnfitConcepts(bases, *records, prompts);
  }
  for (Record& record : *records) {
    if (record.traits.group != "erasure" || record.status != "ok") continue;
    const std::string& base = base_of.at(record.method);
    if (record.method == base && record.attack == kUnmodified) continue;
    const auto& unfit = by_prompts.at(PromptsOf(record));
    const auto found = unfit.find(base);
    if (found == unfit.end()) continue;
    const std::string reason = ReasonFor(found->second, record.subject);
    if (reason.empty()) continue;
    record.status = kUnfitJudge;
    record.reason = reason;
    record.score = {};
    record.denominators.erase("bounds");  // they would tell the rate
  }
}

}  // namespace excise
