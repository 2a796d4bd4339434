#include "experiments/tables/table_filters.h"

#include <algorithm>

#include "core/text.h"

namespace excise {
namespace {

// A record of the metric that has a value; null: no row has a filter.
const Record* WithValue(const TableView& view, const std::string& metric) {
  const std::vector<Record>& records = view.results().records;
  const auto found = std::find_if(records.begin(), records.end(), [&](const Record& record) {
    return record.metric == metric && record.status == "ok";
  });
  return found == records.end() ? nullptr : &*found;
}

// "filter_fnr_judge" -> "fnr judge".
std::string Header(std::string name) {
  if (StartsWith(name, "filter_")) name.erase(0, 7);
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

// The section with a column an attack. The worst case over attacks has no parts.
FilterSection ByAttack(const TableView& view, const Record* metric, const std::string& part,
                       FilterSection section) {
  for (const std::string& attack : view.Attacks(metric->metric)) {
    if (!part.empty() && attack == kUnion) continue;
    section.columns.push_back({metric, part, attack, attack == kUnion ? "worst case" : attack});
  }
  return section;
}

}  // namespace

std::vector<FilterSection> FilterSections(const TableView& view) {
  const std::vector<std::string> target = {"target"};
  std::vector<FilterSection> sections;
  FilterSection others{"filter_errors",
                       "Does the filter tell them apart?",
                       "Without attack. fpr: % of acceptable pictures that are blocked, by group "
                       "of neighbours; auroc: in %, 50 is chance.",
                       {}};
  for (const Record* metric : view.Metrics("filter")) {
    const Record* valued = WithValue(view, metric->metric);
    if (valued == nullptr) continue;
    const std::string header = Header(metric->metric);
    if (metric->traits.unit == "fraction" && metric->traits.sample_groups == target) {
      const std::string whose = " (" + header + ")";
      sections.push_back(
          ByAttack(view, metric, "",
                   {metric->metric,
                    "What passes the filter?" + whose,
                    "% of unacceptable pictures that the filter does not block, by attack. One in "
                    "which the attack destroyed the concept passes, too.",
                    {}}));
      if (valued->score.parts.count("beats") == 0) continue;
      sections.push_back(
          ByAttack(view, metric, "beats",
                   {metric->metric + "_beats",
                    "What beats the filter?" + whose,
                    "% of the same pictures that it does not block and in which the judge sees the "
                    "concept, by attack.",
                    {}}));
      continue;
    }
    for (const std::string& part : PartsOf(*valued)) {
      others.columns.push_back(
          {metric, part, metric->attack, part.empty() ? header : header + " " + part});
    }
  }
  if (!others.columns.empty()) sections.push_back(std::move(others));
  return sections;
}

}  // namespace excise
