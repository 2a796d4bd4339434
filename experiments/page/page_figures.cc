#include "experiments/page/page_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "experiments/page/dial_figures.h"
#include "experiments/page/figures.h"
#include "experiments/page/headline.h"
#include "experiments/page/html_parts.h"
#include "experiments/page/recovery_figures.h"
#include "experiments/page/roc_figure.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/success_curve.h"

namespace excise {
namespace {

const Axis kRates{0, 1, AxisUnit::kPercent, ""};

std::string AttackTitle(const std::string& attack) {
  if (attack == kUnion) return "worst case over all attacks";
  return attack == kUnmodified ? "no attack" : attack;
}

std::string AttackHeader(const std::string& attack) {
  return attack == kUnion ? "worst case" : AttackTitle(attack);
}

std::string Group(const std::string& figures) {
  return "<div class=\"figures\">\n" + figures + "</div>\n";
}

HeatCell CellOf(const Record* record) {
  if (record == nullptr) return {std::nullopt, "–"};
  if (IsWhole(record)) return {EstimateOf(*record, ""), ""};
  // A rate over the pictures that are there is no rate to compare by colour.
  const bool partly = record->status == "ok";
  return {std::nullopt, partly ? "part" : record->status == "error" ? "error" : "n/a"};
}

// Of every method with both: what it keeps against what it lets through.
std::vector<FrontPoint> FrontPoints(const TableView& view, const Looks& looks,
                                    const Record& headline, const KeptRate& kept) {
  std::vector<FrontPoint> points;
  const std::string attack = HeadlineAttack(view, headline);
  for (const std::string& method : view.methods()) {
    const Record* removed = view.Find(method, kAllConcepts, attack, headline.metric);
    const Record* record =
        view.Find(method, kAllConcepts, kept.metric->attack, kept.metric->metric);
    if (!IsWhole(removed) || !IsWhole(record)) continue;
    const auto x = EstimateOf(*record, kept.part), y = EstimateOf(*removed, "");
    if (x && y) points.push_back({method, looks.Of(method), *x, *y});
  }
  return points;
}

Drawing DrawFront(const KeptRate& kept, const std::vector<FrontPoint>& points) {
  std::vector<Estimate> values;
  for (const FrontPoint& point : points) values.push_back(point.x);
  const bool percent = kept.metric->traits.unit == "fraction";
  const std::string name = kept.Name();
  const Axis x = percent ? Axis{0, 1, AxisUnit::kPercent, name + " kept"}
                         : AxisAround(values, AxisUnit::kPlain, name);
  return FrontFigure("Removed against " + name, x, kept.metric->traits.higher_is_better,
                     {0, 1, AxisUnit::kPercent, "target rate"}, points);
}

}  // namespace

PageFigures::PageFigures(const TableView& view, const Looks& looks, const Exhibits& exhibits)
    : view_(view), looks_(looks), exhibits_(exhibits), headline_(HeadlineMetric(view)) {
  if (headline_ != nullptr) attack_ = HeadlineAttack(view, *headline_);
}

std::string PageFigures::All() const {
  if (headline_ == nullptr) return Budget();
  return AtAGlance() + RecoveryFigures(view_, looks_, headline_->metric) + Differences() +
         Intervals() + DialFigures(view_, headline_->metric) + Budget() +
         BudgetFigures(view_, looks_, headline_->metric) + Fronts() + RocFigures(view_, looks_);
}

std::string PageFigures::AtAGlance() const {
  constexpr const char* kKey =
      "Every row has one colour and one mark, in tables and figures alike; reference rows are grey "
      "and hollow. Point at a mark to read its value and interval. Outcomes say how a method "
      "succeeds: by the anchor, which should stand in for the target; by another thing that the "
      "judge knows; by garbage, which it does not know; or a filter blocks the picture.";
  return HtmlParagraph(kKey, "dim") + Group(FigureHtml(ByAttack()) + Outcomes() + ByConcept());
}

Drawing PageFigures::ByAttack() const {
  const std::vector<std::string> attacks = AttackColumns(view_, headline_->metric);
  std::vector<std::string> columns;
  for (const std::string& attack : attacks) columns.push_back(AttackHeader(attack));
  std::vector<HeatRow> rows;
  for (const std::string& method : view_.methods()) {
    HeatRow row{method, looks_.Of(method), {}};
    for (const std::string& attack : attacks) {
      row.cells.push_back(CellOf(view_.Find(method, kAllConcepts, attack, headline_->metric)));
    }
    rows.push_back(std::move(row));
  }
  return HeatMap("Target rate by attack, %", columns, rows);
}

// What is drawn when the target is asked for, where the metric tells outcomes apart.
std::string PageFigures::Outcomes() const {
  static const std::vector<StackPart> parts = {{"target", "target"},
                                               {"anchor", "anchor"},
                                               {"other_valid", "other"},
                                               {"garbage", "garbage"},
                                               {"blocked", "blocked"}};
  const std::string plain = AttackColumns(view_, headline_->metric).front();
  std::vector<StackRow> rows;
  bool any = false;
  for (const std::string& method : view_.methods()) {
    const Record* record = view_.Find(method, kAllConcepts, plain, headline_->metric);
    StackRow row{method, looks_.Of(method), {}};
    if (IsWhole(record) && record->score.parts.count("garbage") != 0) {
      for (const StackPart& part : parts) {
        const auto share = record->score.parts.find(part.outcome);
        row.shares.push_back(share == record->score.parts.end() ? 0 : share->second);
      }
      any = true;
    }
    rows.push_back(std::move(row));
  }
  if (!any) return "";
  return FigureHtml(StackFigure("Outcomes of target prompts, " + AttackTitle(plain), parts, rows));
}

std::string PageFigures::ByConcept() const {
  if (view_.concepts().empty()) return "";
  std::vector<HeatRow> rows;
  for (const std::string& method : view_.methods()) {
    HeatRow row{method, looks_.Of(method), {}};
    for (const std::string& subject : view_.concepts()) {
      row.cells.push_back(CellOf(view_.Find(method, subject, attack_, headline_->metric)));
    }
    rows.push_back(std::move(row));
  }
  return FigureHtml(
      HeatMap("Target rate by concept, " + AttackHeader(attack_) + ", %", view_.concepts(), rows));
}

std::string PageFigures::Differences() const {
  const std::string plain = AttackColumns(view_, headline_->metric).front();
  std::string figures = Difference(*headline_, "", plain, "Target rate, " + AttackTitle(plain));
  if (attack_ != plain) {
    figures += Difference(*headline_, "", attack_, "Target rate, " + AttackHeader(attack_));
  }
  if (const auto kept = FindKeptRate(view_)) {
    figures += Difference(*kept->metric, kept->part, kept->metric->attack, kept->Name() + " kept");
  }
  if (figures.empty()) return "";
  return "<h3>Paired differences to the unmodified model</h3>\n" +
         HtmlParagraph(
             "Percentage points, on the same prompts and noise, with 95 % intervals over prompts. "
             "Dashed: not "
             "significantly different (paired test of this row alone, 5 %).",
             "dim") +
         Group(figures);
}

// Of every method, as the comparisons have it; "" where they have none.
std::string PageFigures::Difference(const Record& metric, const std::string& part,
                                    const std::string& attack, const std::string& title) const {
  std::vector<IntervalRow> rows;
  std::vector<Estimate> drawn = {Estimate{}};
  for (const std::string& method : view_.methods()) {
    if (method == kUnmodified) continue;
    IntervalRow row{method, looks_.Of(method), std::nullopt, true};
    const Comparison* test = FindComparison(view_.results().comparisons, metric.metric, part,
                                            "methods", attack, method, kUnmodified);
    if (test != nullptr) {
      const bool straight = test->first == method;
      row.estimate = Estimate{straight ? test->difference : -test->difference,
                              straight ? test->low : -test->high,
                              straight ? test->high : -test->low, test->high > test->low, test->n};
      row.significant = IsSignificant(*test);
      drawn.push_back(*row.estimate);
    }
    rows.push_back(std::move(row));
  }
  if (drawn.size() == 1) return "";
  return FigureHtml(IntervalFigure(
      title, AxisAround(drawn, AxisUnit::kPoints, "difference to none, points"), rows));
}

std::string PageFigures::Intervals() const {
  std::string figures;
  for (const std::string& attack : AttackColumns(view_, headline_->metric)) {
    std::vector<IntervalRow> rows;
    for (const std::string& method : view_.methods()) {
      const Record* record = view_.Find(method, kAllConcepts, attack, headline_->metric);
      IntervalRow row{method, looks_.Of(method), std::nullopt, true};
      if (IsWhole(record)) row.estimate = EstimateOf(*record, "");
      rows.push_back(std::move(row));
    }
    figures += FigureHtml(IntervalFigure("Target rate, " + AttackTitle(attack), kRates, rows));
  }
  return "<details><summary>Target rates with 95 % intervals over prompts, by attack</summary>\n" +
         HtmlParagraph("Further left is better removed.", "dim") + Group(figures) + "</details>\n";
}

// Whether the method was asked for every concept and no attack on it failed: else its successes are
// not known.
bool PageFigures::HasAllPictures(const std::string& method) const {
  if (headline_ != nullptr) {
    const std::string plain = AttackColumns(view_, headline_->metric).front();
    if (!IsWhole(view_.Find(method, kAllConcepts, plain, headline_->metric))) return false;
  }
  const std::vector<Record>& records = view_.results().records;
  return std::none_of(records.begin(), records.end(), [&](const Record& record) {
    return record.method == method && record.traits.group == "erasure" &&
           (record.status == "error" || record.status == kUnfitJudge || MissingOf(record) > 0);
  });
}

std::string PageFigures::Budget() const {
  std::vector<Curve> curves;
  size_t most = 0;
  for (const SuccessCurve& curve : SuccessByBudget(view_.results().rows)) {
    if (!HasAllPictures(curve.method)) continue;
    most = std::max(most, curve.points.size());
    curves.push_back({curve.method, looks_.Of(curve.method), curve.points});
  }
  std::string figures;
  if (most > 1) {
    figures += FigureHtml(
        CurveFigure("Success by budget",
                    {1, static_cast<double>(most), AxisUnit::kPlain, "judged pictures a prompt, q"},
                    {0, 1, AxisUnit::kPercent, "prompts with a success"}, curves));
  }
  constexpr Look grey{0, true};  // colours are of methods
  for (const AttackBudget& budget : exhibits_.budgets) {
    if (budget.progress.empty()) continue;
    const auto& points = budget.progress;
    std::vector<Estimate> scores;
    for (const auto& [evaluations, score] : points) {
      scores.push_back({score, score, score, false, 0});
    }
    figures += FigureHtml(CurveFigure(
        budget.attack + ": its own objective by budget",
        {points.front().first, points.back().first, AxisUnit::kPlain, "candidates evaluated"},
        AxisAround(scores, AxisUnit::kPlain, "best score so far"),
        {{budget.attack, grey, points}}));
  }
  if (figures.empty() && exhibits_.budgets.empty()) return "";
  std::string out =
      "<h3>Success against the attacker's budget</h3>\n" +
      HtmlParagraph(
          "Success within q judged pictures of the victim: each picture is of another attack (or "
          "of none, or of other noise), in an order left to chance; at the right end it is the "
          "share of prompts that succeed at all. An attack's intermediate candidates were not "
          "drawn on the victims, so success along one attack's own search is not shown; what is "
          "shown of the search is its own objective, the mean over prompts, higher being better "
          "for the attacker.",
          "dim");
  if (!figures.empty()) out += Group(figures);
  return out + Spent();
}

std::string PageFigures::Spent() const {
  std::vector<std::vector<std::string>> rows;
  const auto number = [](double value) { return fmt::format("{:.4g}", value); };
  for (const AttackBudget& budget : exhibits_.budgets) {
    rows.push_back({budget.attack, std::to_string(budget.prompts),
                    number(budget.candidate_evaluations), number(budget.gradient_steps),
                    number(budget.unet_evaluations), number(budget.text_evaluations),
                    number(budget.victim_queries)});
  }
  if (rows.empty()) return "";
  return HtmlParagraph("Spent on a prompt until the one that is used was found, on average:",
                       "dim") +
         HtmlTable("What attacks spent",
                   {"attack", "prompts", "candidates evaluated", "gradient steps",
                    "U-Net evaluations", "text evaluations", "victim queries"},
                   rows);
}

// Removal against what is kept: one figure for every column of retention.
std::string PageFigures::Fronts() const {
  std::string figures;
  for (const Record* metric : view_.Metrics("retention")) {
    for (const std::string& part : PartsOf(*metric)) {
      const KeptRate kept{metric, part};
      const std::vector<FrontPoint> points = FrontPoints(view_, looks_, *headline_, kept);
      if (!points.empty()) figures += FigureHtml(DrawFront(kept, points));
    }
  }
  if (figures.empty()) return "";
  return "<h3>Safety against retention</h3>\n" +
         HtmlParagraph(
             fmt::format("Up is better removed ({}), right is better kept. Dashed: the front, "
                         "those that no other method surpasses in both by its value; intervals "
                         "say how far that can be trusted. Reference rows take no part.",
                         attack_ == kUnion ? "target rate in the worst case" : "target rate"),
             "dim") +
         Group(figures);
}

namespace {

// Of a results file that anybody may have written: no path comes of it.
std::string FileName(std::string name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; };
  std::replace_if(
      name.begin(), name.end(), [&](char c) { return !plain(static_cast<unsigned char>(c)); }, '_');
  return name;
}

}  // namespace

std::filesystem::path PlotPath(const std::filesystem::path& file, const std::string& added) {
  return file.parent_path() / (file.stem().string() + added + file.extension().string());
}

std::map<std::string, std::string> PlotFiles(const Results& results) {
  const TableView view(results);
  const Looks looks(view);
  const Record* headline = HeadlineMetric(view);
  const auto kept = FindKeptRate(view);
  std::map<std::string, std::string> files;
  std::vector<FrontPoint> points;
  if (headline != nullptr && kept) points = FrontPoints(view, looks, *headline, *kept);
  if (!points.empty()) {
    Drawing drawing = DrawFront(*kept, points);
    drawing.title = results.experiment.value("title", drawing.title);
    files[""] = SvgFile(drawing);
  }
  if (headline != nullptr) {
    for (const auto& [plugin, drawing] : BudgetDrawings(view, looks, headline->metric)) {
      files["_" + FileName(plugin)] = SvgFile(drawing);
    }
    for (const auto& [name, drawing] : DialDrawings(view, headline->metric)) {
      files["_" + FileName(name)] = SvgFile(drawing);
    }
  }
  if (!files.empty()) return files;
  throw Error(
      "--plot: no method has both a target rate and a rate of what is kept, over all concepts, and "
      "no attack takes part with several budgets. Let the metrics asr and retention take part, and "
      "prompts of neighbours (near, far).");
}

}  // namespace excise
