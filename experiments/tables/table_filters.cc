#include "experiments/tables/table_filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/text.h"
#include "experiments/results/recovery.h"

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

// CLIP accuracy by attack, and what it says of the row that never saw the concepts; nothing where
// it takes no part.
std::optional<FilterSection> ClipAccuracy(const TableView& view) {
  const Record* metric = nullptr;
  for (const Record* one : view.Metrics("erasure")) {
    const std::string plugin = one->metric_params.value("plugin", one->metric);
    if (metric == nullptr && plugin == "clip_accuracy") metric = one;
  }
  if (metric == nullptr) return std::nullopt;
  std::string intro =
      "How sure CLIP is that a picture shows the target and not its anchor, in %, by attack; a "
      "blocked picture counts 0. Filters and edited models are compared by it in papers.";
  const std::string floor = FloorOf(view.results().experiment, view.results().records);
  const Record* naive = view.Find(floor, kAllConcepts, metric->attack, metric->metric);
  if (naive != nullptr && naive->status == "ok") {
    intro += fmt::format(
        " It says {:.0f} % of {}, which never saw the concepts: read it beside the target rate.",
        100 * naive->score.value, floor);
  }
  return ByAttack(view, metric, "",
                  {"clip_accuracy_by_attack",
                   "How do filters compare with edited models?",
                   std::move(intro),
                   {}});
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
  if (sections.empty()) return sections;
  if (auto compared = ClipAccuracy(view)) sections.push_back(*std::move(compared));
  return sections;
}

}  // namespace excise
