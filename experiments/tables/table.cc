#include "experiments/tables/table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/plural.h"
#include "core/text.h"
#include "experiments/results/comparisons.h"
#include "experiments/tables/partial_rows.h"
#include "experiments/tables/table_cells.h"
#include "experiments/tables/table_filters.h"
#include "experiments/tables/table_recovery.h"
#include "experiments/tables/table_retrieval.h"
#include "experiments/tables/table_words.h"

namespace excise {
namespace {

using Mark = TableView::Mark;

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
    AddKept();
    AddRetrieval();
    AddConcepts();
    AddOverConcepts();
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
    if (const std::string blocked = BlockedNote(*record); !blocked.empty()) {
      cell.note = Note(blocked);
    }
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
      const bool ok = record != nullptr && record->status == "ok";
      column.cells.push_back(ok ? Signed(std::move(cell)) : std::move(cell));
    }
    return column;
  }

  // Of a difference: what is above zero says so.
  static TableCell Signed(TableCell cell) {
    const bool zero = cell.value.find_first_not_of("0.") == std::string::npos;
    if (cell.value[0] != '-' && !zero) cell.value = "+" + cell.value;
    return cell;
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
    Push(std::move(table));
    if (recoveries.empty()) return;
    Table by_attack = ByMethod("rates", "Target rate by attack");
    for (const std::string& attack : attacks) by_attack.columns.push_back(RateColumn(attack));
    by_attack.intro.Data(metric).Words(": % of pictures that still show it.");
    Push(std::move(by_attack));
  }

  void AddFilters() {
    for (const FilterSection& section : FilterSections(view_)) {
      Table table = ByMethod(section.name, section.title);
      for (const FilterColumn& column : section.columns) {
        table.columns.push_back(
            MetricColumn(*column.metric, column.part, column.attack, column.header));
      }
      table.intro.Words(section.intro);
      Push(std::move(table));
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
      Push(std::move(table));
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
    const auto pairs = [](const TableColumn& column) { return column.header == "pairs"; };
    if (std::any_of(table.columns.begin(), table.columns.end(), pairs)) {
      table.intro.Words(
          " pairs: % of the pictures of prompts for the target and another thing that show the "
          "other thing.");
    }
    Push(std::move(table));
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

  // The pooled rates and recoveries again, with intervals that cover what those over prompts do
  // not.
  void AddOverConcepts() {
    Table table = ByMethod("over_concepts", "Would other concepts say the same?");
    const auto add = [&](const Record& metric, const std::string& part, const std::string& attack,
                         const std::string& header) {
      TableColumn column{header, metric.traits.higher_is_better ? 1 : -1, false, {}};
      bool any = false;
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, attack, metric.metric);
        const auto estimate = record == nullptr ? std::nullopt : OverConcepts(*record, part);
        TableCell cell = estimate ? Number(*record, *estimate) : Words("-");
        const bool difference = estimate && metric.metric == kRecovery;
        column.cells.push_back(difference ? Signed(std::move(cell)) : std::move(cell));
        any = any || estimate.has_value();
      }
      if (any) table.columns.push_back(std::move(column));
    };
    bool recovers = false;
    if (headline_ != nullptr) {
      const std::vector<std::string> recoveries = RecoveryAttacks(view_, headline_->metric);
      Record recovery = *headline_;
      recovery.metric = kRecovery;
      for (const std::string& attack : ShownAttacks(view_, headline_->metric)) {
        const bool instead = IsOneOf(attack, recoveries);
        recovers = recovers || instead;
        add(instead ? recovery : *headline_, "", attack, HeaderOf(attack));
      }
    }
    for (const Record* metric : view_.Metrics("retention")) {
      for (const std::string& part : PartsOf(*metric)) {
        add(*metric, part, metric->attack, part.empty() ? metric->metric : part);
      }
    }
    if (table.columns.empty()) return;
    table.intro.Words(fmt::format(
        "The pooled rates{} with 95 % intervals over concepts, prompts and edits (hierarchical "
        "bootstrap; {}, so the ends are rough).",
        recovers ? " and recoveries" : "", Plural(view_.concepts().size(), "concept")));
    document_.tables.push_back(std::move(table));
  }

  // Says of its intervals what they cover.
  void Push(Table table) {
    const auto has_interval = [](const TableColumn& column) {
      return std::any_of(column.cells.begin(), column.cells.end(), [](const TableCell& cell) {
        return !cell.low.empty() || !cell.spread.empty();
      });
    };
    if (std::any_of(table.columns.begin(), table.columns.end(), has_interval)) {
      table.intro.Words(" Intervals cover other prompts, not other concepts or edits.");
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

Document DescribeTable(const Results& results) { return Builder(results).Build(); }

}  // namespace excise
