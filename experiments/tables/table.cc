#include "experiments/tables/table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/plural.h"
#include "core/stats.h"
#include "experiments/tables/partial_rows.h"
#include "experiments/tables/table_filters.h"
#include "experiments/tables/table_recovery.h"
#include "experiments/tables/table_retrieval.h"
#include "experiments/tables/table_words.h"

namespace excise {
namespace {

using Mark = TableView::Mark;

// What rounds to zero has no sign.
std::string Fixed(double value, int decimals) {
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals)
                                                            : text;
}

std::string Percent(double value, int decimals = 0) { return Fixed(100 * value, decimals); }

// Shares of a thousand queries are worth a decimal.
int PercentDecimals(const Record& record) { return record.traits.group == "retrieval" ? 1 : 0; }

// The number with its interval; none where it cannot be estimated, and of what is zero by
// construction (how far the unmodified model is from itself). An interval has as many decimals as
// it needs not to read as zero; one that would need too many is what rounding left.
TableCell Number(const Record& record, const Estimate& estimate) {
  constexpr int kMostDecimals = 6;
  const bool fraction = record.traits.unit == "fraction";
  const double half = (estimate.high - estimate.low) / 2;
  const auto reads_as_zero = [&](int decimals) {
    return fraction ? Percent(estimate.low, decimals) == Percent(estimate.high, decimals)
                    : Fixed(half, decimals) == Fixed(0, decimals);
  };
  const int usual = fraction ? PercentDecimals(record) : record.traits.decimals;
  int decimals = usual;
  while (estimate.has_interval && decimals < kMostDecimals && reads_as_zero(decimals)) ++decimals;
  const bool shown = estimate.has_interval && !reads_as_zero(decimals);
  if (!shown) decimals = usual;
  TableCell cell;
  cell.value = fraction ? Percent(estimate.value, decimals) : Fixed(estimate.value, decimals);
  if (!shown) return cell;
  if (fraction) {
    cell.low = Percent(estimate.low, decimals);
    cell.high = Percent(estimate.high, decimals);
  } else {
    cell.spread = Fixed(half, decimals);
  }
  return cell;
}

TableCell Words(std::string words) {
  TableCell cell;
  cell.value = std::move(words);
  return cell;
}

// Why a cell has no number or lacks pictures, so that cells with one reason share a footnote.
std::string WhyNot(const Record& record) {
  if (record.status == "non_adaptive_only") return record.status + ": " + record.reason;
  if (record.reason == kNoPicture) return record.metric + ": " + record.reason;
  if (record.metric == kRecovery) return "recovery: " + record.reason;
  if (record.status == kUnfitJudge) return "no removal is reported: " + record.reason;
  return record.method + ": " + record.reason;
}

// The same words in every row, which are worth a line of text and no column.
bool IsConstant(const TableColumn& column) {
  const auto same = [&](const TableCell& cell) {
    return cell.value == column.cells.front().value && cell.low.empty() && cell.spread.empty() &&
           cell.note == 0;
  };
  return column.cells.size() > 1 && std::all_of(column.cells.begin(), column.cells.end(), same);
}

class Builder {
 public:
  explicit Builder(const Results& results) : view_(results), headline_(HeadlineMetric(view_)) {
    for (const std::string& method : view_.methods()) references_ += view_.IsReference(method);
  }

  Document Build() {
    document_.title = view_.results().experiment.at("title");
    document_.profile = view_.results().experiment.at("profile");
    document_.caption = TableCaption(view_, headline_);
    AddErased();
    AddFilters();
    AddRetrieval();
    AddKept();
    AddConcepts();
    document_.remarks = TableRemarks(view_, headline_);
    if (!RetrievalSections(view_).empty()) document_.remarks.push_back(RetrievalRules());
    return std::move(document_);
  }

 private:
  Table ByMethod(std::string name, std::string title) const {
    Table table;
    table.name = std::move(name);
    table.title = std::move(title);
    table.first = {"method", 0, true, {}};
    for (const std::string& method : view_.methods()) table.first.cells.push_back(Words(method));
    if (references_ < view_.methods().size()) table.references = references_;
    return table;
  }

  TableColumn UsesColumn() const {
    TableColumn column{"uses", 0, true, {}};
    for (const std::string& method : view_.methods()) {
      column.cells.push_back(Words(LettersOfUses(view_, method)));
    }
    return column;
  }

  // The footnote's number; equal footnotes are one.
  size_t Note(const std::string& text) {
    std::vector<std::string>& notes = document_.notes;
    const auto found = std::find(notes.begin(), notes.end(), text);
    const size_t index = static_cast<size_t>(found - notes.begin()) + 1;
    if (found == notes.end()) notes.push_back(text);
    return index;
  }

  TableCell Cell(const Record* record, const std::string& part, Mark mark) {
    if (record == nullptr) return Words("-");
    TableCell cell;
    if (record->status == "error") {
      cell.value = "error";
      cell.note = Note(RecordName(*record) + ": " + record->reason);
      return cell;
    }
    const std::optional<Estimate> estimate = EstimateOf(*record, part);
    if (!estimate) return CellOverSome(*record, part);
    cell = Number(*record, *estimate);
    cell.mark = mark;
    if (MissingOf(*record) > 0) cell.note = Note(WhyNot(*record));
    return cell;
  }

  // Of a method that was asked for some of the concepts: their mean, never marked, for the other
  // rows are over all.
  TableCell CellOverSome(const Record& record, const std::string& part) {
    TableCell cell = Words("n/a");
    std::string reason = record.reason.empty() ? "" : WhyNot(record);
    const std::optional<PartialEstimate> some = EstimateOverSome(view_, record, part);
    if (some) {
      cell = Number(record, some->estimate);
      reason = fmt::format("{}: over {} of {} ({}) and so not ranked: {}", record.method,
                           some->concepts.size(), Plural(view_.concepts().size(), "concept"),
                           fmt::join(some->concepts, ", "), record.reason);
    }
    if (!reason.empty()) cell.note = Note(reason);
    return cell;
  }

  TableColumn MetricColumn(const Record& metric, const std::string& part, const std::string& attack,
                           const std::string& header) {
    TableColumn column{header, metric.traits.higher_is_better ? 1 : -1, false, {}};
    const auto marks = view_.Marks(metric.metric, part, attack);
    for (const std::string& method : view_.methods()) {
      const auto mark = marks.find(method);
      column.cells.push_back(Cell(view_.Find(method, kAllConcepts, attack, metric.metric), part,
                                  mark == marks.end() ? Mark::kNone : mark->second));
    }
    return column;
  }

  // What is drawn instead of the target, where the metric distinguishes outcomes.
  TableColumn InsteadColumn(const Record& metric) const {
    TableColumn column{"a/o/g", 0, false, {}};
    for (const std::string& method : view_.methods()) {
      const Record* record = view_.Find(method, kAllConcepts, metric.attack, metric.metric);
      if (record == nullptr || record->status != "ok") {
        column.cells.push_back(Words("-"));
        continue;
      }
      const auto& parts = record->score.parts;
      column.cells.push_back(
          Words(fmt::format("{}/{}/{}", Percent(parts.at("anchor")),
                            Percent(parts.at("other_valid")), Percent(parts.at("garbage")))));
    }
    return column;
  }

  TableColumn RateColumn(const std::string& attack) {
    return MetricColumn(*headline_, "", attack, HeaderOf(attack));
  }

  // Points beyond the floor, with their sign.
  TableColumn RecoveryColumn(const std::string& attack) {
    TableColumn column{HeaderOf(attack), -1, false, {}};
    for (const std::string& method : view_.methods()) {
      const Record* record = view_.Find(method, kAllConcepts, attack, kRecovery);
      const bool above = record != nullptr && IsAboveFloor(*record);
      TableCell cell = Cell(record, "", above ? Mark::kAbove : Mark::kNone);
      const bool sign = record != nullptr && record->status == "ok" && cell.value[0] != '-' &&
                        cell.value.find_first_not_of("0.") != std::string::npos;
      if (sign) cell.value = "+" + cell.value;
      column.cells.push_back(std::move(cell));
    }
    return column;
  }

  static std::string HeaderOf(const std::string& attack) {
    return attack == kUnion ? "worst case" : attack;
  }

  void AddErased() {
    if (headline_ == nullptr) return;
    Table table = ByMethod("erased", "Is the concept gone?");
    table.columns = {UsesColumn()};
    const std::vector<std::string> attacks = ShownAttacks(view_, headline_->metric);
    const std::vector<std::string> recoveries = RecoveryAttacks(view_, headline_->metric);
    std::vector<TableColumn>& columns = table.columns;
    columns.push_back(RateColumn(attacks.front()));
    for (const std::string& attack : recoveries) columns.push_back(RecoveryColumn(attack));
    for (size_t i = 1; i < attacks.size() && recoveries.empty(); ++i) {
      columns.push_back(RateColumn(attacks[i]));
    }
    for (const Record* metric : view_.Metrics("erasure")) {
      if (metric->metric == headline_->metric) continue;
      columns.push_back(MetricColumn(*metric, "", metric->attack, metric->metric));
    }
    const bool outcomes = headline_->status == "ok" && headline_->score.parts.count("garbage") != 0;
    if (outcomes) columns.push_back(InsteadColumn(*headline_));
    const std::string& metric = headline_->metric;
    if (recoveries.empty()) {
      table.intro.Words("Target rate (").Data(metric);
      table.intro.Words("): % of pictures that still show it, by attack.");
    } else {
      table.intro = RecoveryIntro(view_, metric);
    }
    if (outcomes) table.intro.Words(" a/o/g: % anchor / other / garbage without attack.");
    document_.tables.push_back(std::move(table));
    if (recoveries.empty()) return;
    Table by_attack = ByMethod("rates", "Target rate by attack");
    for (const std::string& attack : attacks) by_attack.columns.push_back(RateColumn(attack));
    by_attack.intro.Data(metric).Words(": % of pictures that still show it.");
    document_.tables.push_back(std::move(by_attack));
  }

  void AddFilters() {
    for (const FilterSection& section : FilterSections(view_)) {
      Table table = ByMethod(section.name, section.title);
      for (const FilterColumn& column : section.columns) {
        table.columns.push_back(
            MetricColumn(*column.metric, column.part, column.attack, column.header));
      }
      table.intro.Words(section.intro);
      document_.tables.push_back(std::move(table));
    }
  }

  void AddRetrieval() {
    for (const RetrievalSection& section : RetrievalSections(view_)) {
      Table table = ByMethod(section.name, section.title);
      for (const Record* metric : section.metrics) {
        table.columns.push_back(
            MetricColumn(*metric, "", metric->attack, RetrievalHeader(*metric)));
      }
      table.intro = RetrievalIntro(view_, section);
      document_.tables.push_back(std::move(table));
    }
  }

  void AddKept() {
    Table table = ByMethod("kept", "Is the rest kept, and at what cost?");
    for (const char* group : {"retention", "quality"}) {
      for (const Record* metric : view_.Metrics(group)) {
        for (const std::string& part : PartsOf(*metric)) {
          table.columns.push_back(
              MetricColumn(*metric, part, metric->attack, part.empty() ? metric->metric : part));
        }
      }
    }
    for (const Record* metric : view_.Metrics("cost")) AddCosts(*metric, &table);
    if (table.columns.empty() && table.constants.empty()) return;
    table.intro.Words(
        "near, far, lexical: % of the neighbours' pictures that show what was asked. Costs: of one "
        "removal, of one picture.");
    document_.tables.push_back(std::move(table));
  }

  void AddCosts(const Record& metric, Table* table) const {
    std::vector<std::string> keys = {""};
    for (const auto& [key, value] : metric.score.parts) keys.push_back(key);
    for (const std::string& key : keys) {
      std::string header = key.empty() ? metric.traits.unit : key;
      std::replace(header.begin(), header.end(), '_', ' ');
      const size_t unet = header.find("unet evaluations");
      if (unet != std::string::npos) header.replace(unet, 16, "U-Net");
      if (header == "gradient steps") header = "steps";
      const size_t per = header.find(" per ");
      if (per != std::string::npos) header.replace(per, 5, "/");
      TableColumn column{header, -1, false, {}};
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, metric.attack, metric.metric);
        const bool known = record != nullptr && record->status == "ok";
        column.cells.push_back(
            Words(known ? fmt::format("{:.0f}", key.empty() ? record->score.value
                                                            : record->score.parts.at(key))
                        : "-"));
      }
      if (!IsConstant(column)) {
        table->columns.push_back(std::move(column));
        continue;
      }
      table->constants.Words(table->constants.empty() ? "The same in every row: " : ", ");
      table->constants.Data(column.header).Words(" " + column.cells.front().value);
    }
    if (!table->constants.empty()) table->constants.Words(".");
  }

  void AddConcepts() {
    if (headline_ == nullptr || view_.concepts().empty()) return;
    const std::vector<std::string> attacks = view_.Attacks(headline_->metric);
    Table table;
    table.name = "concepts";
    table.title = "By concept";
    table.intro.Words("target rate without attack / in the worst case, %.");
    table.first = {"concept", 0, true, {}};
    for (const std::string& subject : view_.concepts()) table.first.cells.push_back(Words(subject));
    for (const std::string& method : view_.methods()) {
      TableColumn column{method, 0, false, {}};
      for (const std::string& subject : view_.concepts()) {
        const auto rate = [&](const std::string& attack) -> std::string {
          const Record* record = view_.Find(method, subject, attack, headline_->metric);
          if (record == nullptr) return "-";
          if (record->status == "error") {
            return fmt::format("error ({})", Note(RecordName(*record) + ": " + record->reason));
          }
          if (record->status != "ok") return "n/a";
          const std::string value = Percent(record->score.value);
          return MissingOf(*record) == 0 ? value
                                         : fmt::format("{} ({})", value, Note(WhyNot(*record)));
        };
        // In this order: footnotes are numbered as they are met.
        const std::string plain = rate(attacks.front());
        column.cells.push_back(Words(plain + " / " + rate(attacks.back())));
      }
      table.columns.push_back(std::move(column));
    }
    document_.tables.push_back(std::move(table));
  }

  TableView view_;
  const Record* headline_;
  size_t references_ = 0;
  Document document_;
};

}  // namespace

Text& Text::List(const std::vector<std::string>& data, const std::string& none) {
  if (data.empty()) return Words(none);
  for (size_t i = 0; i < data.size(); ++i) {
    if (i > 0) Words(", ");
    Data(data[i]);
  }
  return *this;
}

const Record* HeadlineMetric(const TableView& view) {
  for (const Record* metric : view.Metrics("erasure")) {
    if (metric->traits.unit == "fraction") return metric;
  }
  return nullptr;
}

std::optional<Estimate> EstimateOf(const Record& record, const std::string& part) {
  if (!HasPart(record, part)) return std::nullopt;
  if (part.empty()) {
    const Score& score = record.score;
    return Estimate{score.value, score.low, score.high, score.high > score.low, score.n};
  }
  const double value = ValueOf(record, part);
  const auto n = static_cast<int64_t>(record.score.parts.at(part + "_n"));
  if (record.traits.unit != "fraction") return Estimate{value, value, value, false, n};
  const Interval interval = Wilson(std::llround(value * static_cast<double>(n)), n);
  return Estimate{value, interval.low, interval.high, interval.high > interval.low, n};
}

std::vector<std::string> PartsOf(const Record& metric) {
  std::vector<std::string> parts;
  for (const std::string& name : metric.traits.sample_groups) {
    if (metric.score.parts.count(name + "_n") != 0) parts.push_back(name);
  }
  if (parts.empty()) parts.push_back("");
  return parts;
}

std::string IntervalText(const TableCell& cell, const char* dash) {
  return cell.low + (cell.low[0] == '-' ? " to " : dash) + cell.high;
}

Document DescribeTable(const Results& results) { return Builder(results).Build(); }

}  // namespace excise
