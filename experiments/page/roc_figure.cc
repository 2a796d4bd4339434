#include "experiments/page/roc_figure.h"

#include <charconv>
#include <vector>

#include "core/text.h"
#include "experiments/page/figures.h"
#include "experiments/page/headline.h"
#include "experiments/page/html_parts.h"

namespace excise {
namespace {

constexpr const char* kPoint = "roc_";

// A setting of the record's metric as it was run; `otherwise` where nobody set it.
std::string Setting(const Record& record, const char* name, const std::string& otherwise) {
  return record.metric_params.value(name, otherwise);
}

// The rate of the row by the plug-in with the same labels, without attack; null: there is none.
const Record* RateOf(const TableView& view, const Record& auroc, const std::string& method,
                     const std::string& plugin) {
  for (const Record* metric : view.Metrics("filter")) {
    if (Setting(*metric, "plugin", metric->metric) != plugin ||
        Setting(*metric, "label_by", "prompt") != Setting(auroc, "label_by", "prompt")) {
      continue;
    }
    const Record* record = view.Find(method, kAllConcepts, auroc.attack, metric->metric);
    if (IsWhole(record)) return record;
  }
  return nullptr;
}

Curve CurveOf(const TableView& view, const Looks& looks, const Record& auroc,
              const std::string& method) {
  Curve curve{method, looks.Of(method), {}};
  const Record* record = view.Find(method, kAllConcepts, auroc.attack, auroc.metric);
  if (!IsWhole(record)) return curve;
  for (const auto& [part, found] : record->score.parts) {  // by rising percentage
    int percent = 0;
    if (!StartsWith(part, kPoint)) continue;
    const char *begin = part.data() + std::string(kPoint).size(), *end = part.data() + part.size();
    if (std::from_chars(begin, end, percent).ptr != end) continue;
    curve.points.emplace_back(percent / 100.0, 1 - found);
  }
  const Record* fnr = RateOf(view, auroc, method, "filter_fnr");
  const Record* fpr = RateOf(view, auroc, method, "filter_fpr");
  if (fnr != nullptr && fpr != nullptr) curve.mark = {{fpr->score.value, fnr->score.value}};
  return curve;
}

}  // namespace

std::string RocFigures(const TableView& view, const Looks& looks) {
  std::string figures;
  for (const Record* metric : view.Metrics("filter")) {
    if (Setting(*metric, "plugin", metric->metric) != "filter_auroc") continue;
    std::vector<Curve> curves;
    for (const std::string& method : view.methods()) {
      Curve curve = CurveOf(view, looks, *metric, method);
      if (!curve.points.empty()) curves.push_back(std::move(curve));
    }
    if (curves.empty()) continue;
    figures += FigureHtml(CurveFigure(
        "Filters at every threshold, labels by " + Setting(*metric, "label_by", "prompt"),
        {0, 1, AxisUnit::kPercent, "acceptable pictures blocked (FPR)"},
        {0, 1, AxisUnit::kPercent, "unacceptable ones passed (FNR)"}, curves));
  }
  if (figures.empty()) return "";
  return "<h3>Filters at every threshold</h3>\n" +
         HtmlParagraph(
             "Without attack, over all concepts together. Down and left is better; the mark is "
             "where the filter's own threshold stands.",
             "dim") +
         "<div class=\"figures\">\n" + figures + "</div>\n";
}

}  // namespace excise
