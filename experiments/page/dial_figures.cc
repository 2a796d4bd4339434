#include "experiments/page/dial_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "experiments/page/figures.h"
#include "experiments/page/headline.h"
#include "experiments/page/html_parts.h"

namespace excise {
namespace {

constexpr size_t kLeast = 4;  // fewer points are no curve

// The record of a row without attack over all concepts, where its pictures are all there.
const Record* Whole(const TableView& view, const std::string& method, const std::string& metric) {
  const Record* record = view.Find(method, kAllConcepts, kUnmodified, metric);
  return record != nullptr && IsWhole(record) ? record : nullptr;
}

// The fields that differ between any two of the parameters.
std::set<std::string> Differing(const std::vector<Json>& all) {
  std::set<std::string> fields;
  for (const Json& params : all) {
    for (const auto& [field, value] : params.items()) {
      if (all.front().value(field, Json()) != value) fields.insert(field);
    }
  }
  return fields;
}

std::string Shown(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Metrics that compare pictures of target prompts with the unmodified model's, in [0, 1].
std::vector<const Record*> KeptOfTarget(const TableView& view) {
  std::vector<const Record*> kept;
  for (const Record* metric : view.Metrics("retention")) {
    if (metric->metric_params.value("of", Json()) == "target") kept.push_back(metric);
  }
  return kept;
}

Drawing DialDrawing(const TableView& view, const std::string& metric, const DialFamily& family) {
  std::vector<Curve> curves;
  const auto add = [&](const std::string& label, const auto& value_of) {
    Curve curve{label, {curves.size(), false}, {}};
    for (const auto& [value, method] : family.entries) {
      if (const std::optional<double> y = value_of(method)) curve.points.emplace_back(value, *y);
    }
    if (!curve.points.empty()) curves.push_back(std::move(curve));
  };
  add("target rate", [&](const std::string& method) -> std::optional<double> {
    return Whole(view, method, metric)->score.value;
  });
  for (const char* outcome : {"anchor", "garbage"}) {
    add(outcome, [&](const std::string& method) -> std::optional<double> {
      const auto& parts = Whole(view, method, metric)->score.parts;
      const auto found = parts.find(outcome);
      if (found == parts.end()) return std::nullopt;
      return found->second;
    });
  }
  for (const Record* kept : KeptOfTarget(view)) {
    add(kept->metric, [&](const std::string& method) -> std::optional<double> {
      const Record* record = Whole(view, method, kept->metric);
      if (record == nullptr) return std::nullopt;
      return record->score.value;
    });
  }
  const Axis x{family.entries.front().first, family.entries.back().first, AxisUnit::kPlain,
               family.field};
  const std::string title = family.panel.empty() ? family.plugin : family.panel;
  return CurveFigure(title, x, {0, 1, AxisUnit::kPercent, "of target prompts"}, curves);
}

}  // namespace

std::vector<DialFamily> DialFamilies(const TableView& view, const std::string& metric) {
  // By plug-in, field and all the other parameters.
  std::map<std::tuple<std::string, std::string, Json>, DialFamily> all;
  for (const std::string& method : view.methods()) {
    const Record* record = Whole(view, method, metric);
    if (record == nullptr || view.IsReference(method)) continue;
    Json params = record->method_params;
    const std::string plugin = params.value("plugin", method);
    params.erase("plugin");
    for (const auto& [field, value] : record->method_params.items()) {
      if (!value.is_number()) continue;
      Json others = params;
      others.erase(field);
      DialFamily& family = all[{plugin, field, others}];
      family.entries.emplace_back(value.get<double>(), method);
    }
  }
  std::map<std::pair<std::string, std::string>, std::vector<Json>> panels;
  for (auto& [key, family] : all) {
    auto& entries = family.entries;
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    entries.erase(std::unique(entries.begin(), entries.end(),
                              [](const auto& a, const auto& b) { return a.first == b.first; }),
                  entries.end());
    if (entries.size() < kLeast) continue;
    panels[{std::get<0>(key), std::get<1>(key)}].push_back(std::get<2>(key));
  }
  std::vector<DialFamily> families;
  for (auto& [key, family] : all) {
    if (family.entries.size() < kLeast) continue;
    std::tie(family.plugin, family.field, std::ignore) = key;
    for (const std::string& field : Differing(panels.at({family.plugin, family.field}))) {
      const Json& others = std::get<2>(key);
      family.panel += fmt::format("{}{} {}", family.panel.empty() ? "" : ", ", field,
                                  Shown(others.value(field, Json())));
    }
    families.push_back(std::move(family));
  }
  return families;
}

std::map<std::string, Drawing> DialDrawings(const TableView& view, const std::string& metric) {
  std::map<std::string, std::vector<Drawing>> panels;
  std::map<std::string, std::string> titles;
  for (const DialFamily& family : DialFamilies(view, metric)) {
    const std::string name = family.plugin + "_" + family.field;
    panels[name].push_back(DialDrawing(view, metric, family));
    titles[name] = fmt::format("{} by {}", family.plugin, family.field);
  }
  std::map<std::string, Drawing> drawings;
  for (const auto& [name, own] : panels) drawings[name] = SideBySide(titles.at(name), own);
  return drawings;
}

std::string DialFigures(const TableView& view, const std::string& metric) {
  std::string figures;
  for (const DialFamily& family : DialFamilies(view, metric)) {
    figures += FigureHtml(DialDrawing(view, metric, family));
  }
  if (figures.empty()) return "";
  return "<h3>What a setting does</h3>\n" +
         HtmlParagraph(
             "Rows that differ in one number: what is drawn when the target is asked for. A "
             "picture that is garbage shows neither the target nor anything else that the judge "
             "knows.",
             "dim") +
         "<div class=\"figures\">\n" + figures + "</div>\n";
}

}  // namespace excise
