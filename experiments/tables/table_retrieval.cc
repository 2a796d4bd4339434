#include "experiments/tables/table_retrieval.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/plural.h"
#include "experiments/results/comparisons.h"
#include "metrics/retrieval.h"

namespace excise {
namespace {

std::string ParamOf(const Record& metric, const char* name) {
  const Json& params = metric.metric_params;
  return params.contains(name) && params[name].is_string() ? params[name].get<std::string>() : "";
}

int64_t RanksOf(const Record& metric) {
  const Json& params = metric.metric_params;
  return params.contains("k") && params["k"].is_number_integer() ? params["k"].get<int64_t>() : 0;
}

// Its place among the directions, or one behind the last.
size_t DirectionIndex(const Record& metric) {
  const std::vector<std::string> names = DirectionNames();
  return static_cast<size_t>(std::find(names.begin(), names.end(), ParamOf(metric, "direction")) -
                             names.begin());
}

enum Kind : size_t { kKept, kRedirected, kTargets, kUnseen, kKinds };

Kind KindOf(const Record& metric) {
  const std::string group = ParamOf(metric, "group");
  if (group == "unseen") return kUnseen;
  if (!ParamOf(metric, "query").empty()) return kRedirected;
  const size_t index = DirectionIndex(metric);
  if (index >= Directions().size()) return kKept;
  const Direction& direction = Directions()[index];
  if (direction.query == kSafeText || direction.query == kSafeImage) return kKept;
  const bool safe = direction.correct == kSafeText || direction.correct == kSafeImage;
  return safe ? kRedirected : kTargets;
}

// Methods that are significantly different from the first one in this column, above or below it.
std::vector<std::string> Differing(const TableView& view, const Record& metric, bool above) {
  std::vector<std::string> found;
  const std::string& first = view.methods().front();
  for (const std::string& method : view.methods()) {
    const Comparison* test = FindComparison(view.results().comparisons, metric.metric, "",
                                            "methods", metric.attack, method, first);
    if (test == nullptr || !IsSignificant(*test)) continue;
    const bool more = test->first == method ? test->difference > 0 : test->difference < 0;
    if (more == above) found.push_back(method);
  }
  return found;
}

}  // namespace

std::vector<RetrievalSection> RetrievalSections(const TableView& view) {
  std::vector<RetrievalSection> sections = {
      {"safe_retrieval", "Is safe retrieval kept?", {}},
      {"redirected", "Do unsafe queries find the paired safe item?", {}},
      {"unsafe_retrieval", "Do unsafe queries still find the unsafe item?", {}},
      {"unseen", "And for unsafe concepts that training never showed?", {}}};
  for (const Record* metric : view.Metrics("retrieval")) {
    sections[KindOf(*metric)].metrics.push_back(metric);
  }
  for (RetrievalSection& section : sections) {
    std::stable_sort(section.metrics.begin(), section.metrics.end(),
                     [](const Record* a, const Record* b) {
                       return std::pair(DirectionIndex(*a), RanksOf(*a)) <
                              std::pair(DirectionIndex(*b), RanksOf(*b));
                     });
  }
  sections.erase(std::remove_if(sections.begin(), sections.end(),
                                [](const auto& section) { return section.metrics.empty(); }),
                 sections.end());
  return sections;
}

std::string RetrievalHeader(const Record& metric) {
  const std::string direction = ParamOf(metric, "direction"), query = ParamOf(metric, "query");
  if (!direction.empty() && RanksOf(metric) > 0) {
    const size_t arrow = direction.find("->");
    return fmt::format("{} to {} R{}", direction.substr(0, arrow), direction.substr(arrow + 2),
                       RanksOf(metric));
  }
  if (!query.empty()) return "safe first " + query;
  std::string name = metric.metric;
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

Text RetrievalIntro(const TableView& view, const RetrievalSection& section) {
  int64_t n = 0, pool = 0, left_out = 0;
  for (const Record& record : view.results().records) {
    const bool ours =
        std::any_of(section.metrics.begin(), section.metrics.end(),
                    [&](const Record* metric) { return metric->metric == record.metric; });
    if (!ours || record.status != "ok" || record.score.parts.count("pool") == 0) continue;
    n = std::max(n, record.score.n);
    pool = std::max(pool, static_cast<int64_t>(record.score.parts.at("pool")));
    left_out = std::max(left_out, static_cast<int64_t>(record.score.parts.at("left_out")));
  }
  Text text;
  text.Words("% of queries");
  if (n > 0) {
    text.Words(fmt::format(
        "; n = {} a cell, in pools of {}{}", n, Plural(pool, "quadruplet"),
        left_out > 0 ? fmt::format(" ({} beyond left out)", Plural(left_out, "row")) : ""));
  }
  const Record& first = *section.metrics.front();
  text.Words(". Significantly different from ").Data(view.methods().front()).Words(" in ");
  text.Data(RetrievalHeader(first)).Words(" (paired test, 5 % each): above it ");
  text.List(Differing(view, first, true), "none").Words("; below it ");
  return text.List(Differing(view, first, false), "none").Words(".");
}

Text RetrievalRules() {
  Text text("Retrieval: ");
  text.Code("T* to I+I* R10")
      .Words(": unsafe texts ask a pool of safe and unsafe pictures, twice as ");
  text.Words(
      "many items as quadruplets; % of queries whose paired item, of the kind named first "
      "behind \"to\" (here the safe picture), is among the 10 nearest. Though several captions "
      "may fit one picture, the paired item alone counts; equal items come before it. safe "
      "first: % of queries whose nearest item is any safe one. zero shot: % of pictures of "
      "things outside the quadruplets whose nearest class text is their own.");
  return text;
}

}  // namespace excise
