#include "experiments/results/success_curve.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace excise {
namespace {

struct Tries {
  int64_t all = 0, successes = 0;
};

// The chance that `q` of the tries, drawn without replacement, hold a success.
double SuccessWithin(const Tries& tries, int64_t q) {
  if (tries.all - tries.successes < q) return tries.successes > 0 ? 1 : 0;
  double miss = 1;
  for (int64_t i = 0; i < q; ++i) {
    miss *=
        static_cast<double>(tries.all - tries.successes - i) / static_cast<double>(tries.all - i);
  }
  return 1 - miss;
}

}  // namespace

std::vector<SuccessCurve> SuccessByBudget(const std::vector<Row>& rows) {
  std::vector<std::string> methods;
  std::map<std::string, std::map<std::string, Tries>> prompts;
  std::set<std::string> broken;
  int64_t most = 0;
  for (const Row& row : rows) {
    if (row.group != "target") continue;
    if (row.outcome == "error") broken.insert(row.method);
    if (prompts.count(row.method) == 0) methods.push_back(row.method);
    // Tries are against one model: each edit has a prompt's own.
    const std::string edit = row.erase_seed ? "@" + std::to_string(*row.erase_seed) : "";
    Tries& tries = prompts[row.method][row.subject + "/" + row.root_id + edit];
    ++tries.all;
    tries.successes += row.outcome == "target" ? 1 : 0;
    most = std::max(most, tries.all);
  }
  std::vector<SuccessCurve> curves;
  for (const std::string& method : methods) {
    if (broken.count(method) != 0) continue;
    SuccessCurve curve{method, {}};
    for (int64_t q = 1; q <= most; ++q) {
      double sum = 0;
      for (const auto& [prompt, tries] : prompts.at(method)) sum += SuccessWithin(tries, q);
      curve.points.emplace_back(static_cast<double>(q),
                                sum / static_cast<double>(prompts.at(method).size()));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

}  // namespace excise
