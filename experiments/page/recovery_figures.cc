#include "experiments/page/recovery_figures.h"

#include <algorithm>
#include <vector>

#include "core/text.h"
#include "experiments/page/figures.h"
#include "experiments/page/headline.h"
#include "experiments/page/html_parts.h"
#include "experiments/results/budget_families.h"
#include "experiments/results/recovery.h"
#include "experiments/tables/table_recovery.h"

namespace excise {
namespace {

constexpr Look kControl{3, true};  // grey, dashed: colours are of rows

std::string Group(const std::string& figures) {
  return "<div class=\"figures\">\n" + figures + "</div>\n";
}

// A row at the budgets of a family, where its pictures are all there.
Curve CurveOf(const TableView& view, const Looks& looks, const std::string& metric,
              const BudgetFamily& family, const std::string& method) {
  Curve curve{method, looks.Of(method), {}};
  for (const BudgetFamily::Entry& entry : family.entries) {
    const Record* record = view.Find(method, kAllConcepts, entry.attack, metric);
    if (IsWhole(record)) curve.points.emplace_back(entry.steps, record->score.value);
  }
  return curve;
}

// The entry of the family that has most parameters in common with `control`.
const BudgetFamily::Entry& Controlled(const TableView& view, const std::string& metric,
                                      const BudgetFamily& family, const Record& control) {
  std::vector<const Record*> entries;
  for (const BudgetFamily::Entry& entry : family.entries) {
    const Record* record = view.Find(control.method, kAllConcepts, entry.attack, metric);
    if (record != nullptr) entries.push_back(record);
  }
  const Record* alike = MostAlike(family.plugin, control, entries);
  const auto found = std::find_if(
      family.entries.begin(), family.entries.end(),
      [&](const auto& entry) { return alike != nullptr && entry.attack == alike->attack; });
  return found == family.entries.end() ? family.entries.back() : *found;
}

// What the controls of the family do to the ranked rows, on average, each at the budget of the
// entry that it controls.
std::vector<Curve> ControlCurves(const TableView& view, const std::string& metric,
                                 const BudgetFamily& family) {
  std::map<std::string, std::map<double, std::vector<double>>> controls;  // by plug-in, by steps
  for (const std::string& attack : view.Attacks(metric)) {
    for (const std::string& method : view.methods()) {
      const Record* record = view.Find(method, kAllConcepts, attack, metric);
      if (view.IsReference(method) || !IsWhole(record)) continue;
      if (record->protocol.value("control_of", "") != family.plugin) continue;
      controls[record->attack_params.value("plugin", attack)]
              [Controlled(view, metric, family, *record).steps]
                  .push_back(record->score.value);
    }
  }
  std::vector<Curve> curves;
  for (const auto& [control, steps] : controls) {
    Curve curve{control, kControl, {}};
    for (const auto& [at, rates] : steps) {
      double sum = 0;
      for (const double rate : rates) sum += rate;
      curve.points.emplace_back(at, sum / static_cast<double>(rates.size()));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

Drawing BudgetDrawing(const TableView& view, const Looks& looks, const std::string& metric,
                      const BudgetFamily& family) {
  const std::string floor = FloorOf(view.results().experiment, view.results().records);
  std::vector<Curve> curves;
  for (const std::string& method : view.methods()) {
    // Of the reference rows the floor alone says something of an attack.
    if (view.IsReference(method) && method != floor) continue;
    Curve curve = CurveOf(view, looks, metric, family, method);
    if (!curve.points.empty()) curves.push_back(std::move(curve));
  }
  for (Curve& curve : ControlCurves(view, metric, family)) curves.push_back(std::move(curve));
  const Axis steps{family.entries.front().steps, family.entries.back().steps, AxisUnit::kPlain,
                   "gradient steps a " + family.per, /*logarithmic=*/true};
  const std::string title = family.plugin + (family.panel.empty() ? "" : ", " + family.panel);
  return CurveFigure(title, steps, {0, 1, AxisUnit::kPercent, "target rate"}, curves);
}

}  // namespace

std::string RecoveryFigures(const TableView& view, const Looks& looks, const std::string& metric) {
  std::string figures;
  for (const std::string& attack : RecoveryAttacks(view, metric)) {
    std::vector<IntervalRow> rows;
    std::vector<Estimate> drawn = {Estimate{}};
    for (const std::string& method : view.methods()) {
      const Record* record = view.Find(method, kAllConcepts, attack, kRecovery);
      if (view.IsReference(method)) continue;
      IntervalRow row{method, looks.Of(method), std::nullopt, true};
      if (IsWhole(record)) {
        row.estimate = EstimateOf(*record, "");
        row.significant = record->score.parts.at("p") < 0.05;
        drawn.push_back(*row.estimate);
      }
      rows.push_back(std::move(row));
    }
    if (drawn.size() == 1) continue;
    figures += FigureHtml(
        IntervalFigure("Recovery, " + (attack == kUnion ? "worst case" : attack),
                       AxisAround(drawn, AxisUnit::kPoints, "points beyond the floor"), rows));
  }
  if (figures.empty()) return "";
  return "<h3>What attacks bring back</h3>\n" +
         HtmlParagraph(HtmlText(RecoveryIntro(view, metric)), "dim") + Group(figures);
}

std::map<std::string, Drawing> BudgetDrawings(const TableView& view, const Looks& looks,
                                              const std::string& metric) {
  std::map<std::string, std::vector<Drawing>> panels;
  for (const BudgetFamily& family : BudgetFamilies(view.results().records, metric)) {
    panels[family.plugin].push_back(BudgetDrawing(view, looks, metric, family));
  }
  std::map<std::string, Drawing> drawings;
  for (const auto& [plugin, own] : panels) {
    drawings[plugin] = SideBySide("Success against budget: " + plugin, own);
  }
  return drawings;
}

std::string BudgetFigures(const TableView& view, const Looks& looks, const std::string& metric) {
  std::string figures;
  for (const BudgetFamily& family : BudgetFamilies(view.results().records, metric)) {
    figures += FigureHtml(BudgetDrawing(view, looks, metric, family));
  }
  if (figures.empty()) return "";
  return "<h3>Does a larger budget help?</h3>\n" +
         HtmlParagraph(
             "One attack with more and more gradient steps (a logarithmic axis), and the target "
             "rate on fresh noise that each leads to. Dashed: the row that never saw the concepts, "
             "and the attack's control, which spends as much and does not search; of the control "
             "the mean of the other rows.",
             "dim") +
         Group(figures);
}

}  // namespace excise
