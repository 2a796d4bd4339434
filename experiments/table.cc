#include "experiments/table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/escape.h"
#include "core/stats.h"
#include "experiments/comparisons.h"
#include "experiments/table_view.h"

namespace excise {
namespace {

using Mark = TableView::Mark;

// Characters, not bytes: headers hold arrows.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string Padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, Width(text)), ' ');
  return left ? text + space : space + text;
}

size_t WidthOf(const TableColumn& column) {
  size_t width = std::max<size_t>(3, Width(column.header));
  for (const std::string& cell : column.cells) width = std::max(width, Width(cell));
  return width;
}

// Breaks running text between words.
std::string Wrapped(const std::string& text) {
  std::string out, line;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    if (!line.empty() && Width(line) + 1 + Width(word) > kTableWidth) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    start = end + 1;
  }
  return out + line + "\n";
}

std::string Percent(double value) { return fmt::format("{:.0f}", 100 * value); }

std::string Emphasised(const std::string& number, Mark mark) {
  return mark == Mark::kBest ? "**" + number + "**" : number;
}

// What methods may read (MethodTraits::uses), as a table says it.
struct Use {
  const char *name, *letter, *meaning;
};
constexpr Use kUses[] = {{"known_names", "N", "the concept's names"},
                         {"anchor", "A", "its anchor"},
                         {"preserve", "P", "names to keep"},
                         {"target_images", "T", "pictures of the target"},
                         {"unsafe_images", "U", "unsafe pictures"},
                         {"judge", "J", "a judge"},
                         {"attack", "K", "an attack"},
                         {"training_data", "D", "the training data"}};

std::string LetterOf(const std::string& use) {
  for (const Use& known : kUses) {
    if (use == known.name) return known.letter;
  }
  return "?";
}

// Collects footnotes of cells without a number.
class Notes {
 public:
  std::string Add(const std::string& text) {
    const auto found = std::find(texts_.begin(), texts_.end(), text);
    const auto index = static_cast<size_t>(found - texts_.begin()) + 1;
    if (found == texts_.end()) texts_.push_back(text);
    return fmt::format("({})", index);
  }
  std::string Text() const {
    std::string out;
    for (size_t i = 0; i < texts_.size(); ++i) {
      out += Wrapped(fmt::format("({}) {}", i + 1, Escape(texts_[i], Format::kMarkdown)));
    }
    return out;
  }

 private:
  std::vector<std::string> texts_;
};

class Renderer {
 public:
  explicit Renderer(const Results& results) : view_(results) {}

  std::string Render() {
    const std::string erased = Erased();
    const std::string kept = Kept();
    const std::string concepts = ByConcept();
    std::string out = Caption();
    for (const std::string* part : {&erased, &kept, &concepts}) {
      if (!part->empty()) out += "\n" + *part;
    }
    return out + "\n" + Findings() + Legend() + notes_.Text();
  }

 private:
  // The metric whose rate is the table's headline: the first of erasure that is a fraction.
  const Record* Headline() const {
    for (const Record* metric : view_.Metrics("erasure")) {
      if (metric->traits.unit == "fraction") return metric;
    }
    return nullptr;
  }

  TableColumn UsesColumn() const {
    TableColumn column{"uses", {}, true};
    for (const std::string& method : view_.methods()) {
      std::string letters;
      for (const std::string& use : UsesOf(method)) letters += LetterOf(use);
      column.cells.push_back(letters.empty() ? "-" : letters);
    }
    return column;
  }

  std::vector<std::string> UsesOf(const std::string& method) const {
    for (const Record& record : view_.results().records) {
      if (record.method == method) return record.uses;
    }
    return {};
  }

  // "N the concept's names, A its anchor": the letters that occur.
  std::string UsesLegend() const {
    std::string text;
    for (const Use& use : kUses) {
      bool occurs = false;
      for (const std::string& method : view_.methods()) {
        const std::vector<std::string> uses = UsesOf(method);
        occurs = occurs || std::find(uses.begin(), uses.end(), use.name) != uses.end();
      }
      if (occurs) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", use.letter, use.meaning);
    }
    return text.empty() ? "nothing" : text;
  }

  std::string Cell(const Record* record, const std::string& part, Mark mark) {
    if (record == nullptr) return "-";
    if (record->status == "error") {
      return "error " + notes_.Add(RecordName(*record) + ": " + record->reason);
    }
    if (!HasPart(*record, part)) return "n/a";
    const double value = ValueOf(*record, part);
    const std::string tie = mark == Mark::kTie ? " =" : "";
    if (record->traits.unit == "fraction") {
      double low = record->score.low, high = record->score.high;
      if (!part.empty()) {
        const auto n = static_cast<int64_t>(record->score.parts.at(part + "_n"));
        const Interval interval = Wilson(std::llround(value * static_cast<double>(n)), n);
        low = interval.low;
        high = interval.high;
      }
      return fmt::format("{} [{}-{}]{}", Emphasised(Percent(value), mark), Percent(low),
                         Percent(high), tie);
    }
    const int decimals = record->traits.decimals;
    return fmt::format("{} ±{:.{}f}{}", Emphasised(fmt::format("{:.{}f}", value, decimals), mark),
                       (record->score.high - record->score.low) / 2, decimals, tie);
  }

  TableColumn MetricColumn(const Record& metric, const std::string& part, const std::string& attack,
                           const std::string& header) {
    TableColumn column;
    column.header = header + (metric.traits.higher_is_better ? " ↑" : " ↓");
    const auto marks = view_.Marks(metric.metric, part, attack);
    for (const std::string& method : view_.methods()) {
      const auto mark = marks.find(method);
      column.cells.push_back(Cell(view_.Find(method, kAllConcepts, attack, metric.metric), part,
                                  mark == marks.end() ? Mark::kNone : mark->second));
    }
    return column;
  }

  // What is drawn instead of the target, where the metric tells outcomes apart.
  TableColumn InsteadColumn(const Record& metric) const {
    TableColumn column{"a/o/g", {}, false};
    for (const std::string& method : view_.methods()) {
      const Record* record = view_.Find(method, kAllConcepts, metric.attack, metric.metric);
      if (record == nullptr || record->status != "ok") {
        column.cells.push_back("-");
        continue;
      }
      const auto& parts = record->score.parts;
      column.cells.push_back(fmt::format("{}/{}/{}", Percent(parts.at("anchor")),
                                         Percent(parts.at("other_valid")),
                                         Percent(parts.at("garbage"))));
    }
    return column;
  }

  std::string Erased() {
    const Record* headline = Headline();
    if (headline == nullptr) return "";
    std::vector<TableColumn> columns = {UsesColumn()};
    for (const std::string& attack : view_.Attacks(headline->metric)) {
      columns.push_back(
          MetricColumn(*headline, "", attack, attack == kUnion ? "worst case" : attack));
    }
    for (const Record* metric : view_.Metrics("erasure")) {
      if (metric->metric == headline->metric) continue;
      columns.push_back(MetricColumn(*metric, "", metric->attack, metric->metric));
    }
    const bool outcomes = headline->status == "ok" && headline->score.parts.count("garbage") != 0;
    if (outcomes) columns.push_back(InsteadColumn(*headline));
    return Wrapped(
               fmt::format("Is the concept gone? Target rate ({}): % of pictures that still show "
                           "it, by attack.{}",
                           headline->metric,
                           outcomes ? " a/o/g: % anchor / other / garbage without attack." : "")) +
           "\n" + ByMethod(std::move(columns));
  }

  std::string Kept() {
    std::vector<TableColumn> columns;
    for (const char* group : {"retention", "quality"}) {
      for (const Record* metric : view_.Metrics(group)) {
        std::vector<std::string> parts;
        for (const std::string& name : metric->traits.sample_groups) {
          if (metric->score.parts.count(name + "_n") != 0) parts.push_back(name);
        }
        if (parts.empty()) {
          columns.push_back(MetricColumn(*metric, "", metric->attack, metric->metric));
        }
        for (const std::string& part : parts) {
          columns.push_back(MetricColumn(*metric, part, metric->attack, part));
        }
      }
    }
    for (const Record* metric : view_.Metrics("cost")) AddCosts(*metric, &columns);
    if (columns.empty()) return "";
    return Wrapped(
               "Is the rest kept, and at what cost? near, far, lexical: % of the neighbours' "
               "pictures that show what was asked. Costs: of one removal, of one picture.") +
           "\n" + ByMethod(std::move(columns));
  }

  void AddCosts(const Record& metric, std::vector<TableColumn>* columns) const {
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
      TableColumn column{header + " ↓", {}, false};
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, metric.attack, metric.metric);
        const bool known = record != nullptr && record->status == "ok";
        column.cells.push_back(known ? fmt::format("{:.0f}", key.empty()
                                                                 ? record->score.value
                                                                 : record->score.parts.at(key))
                                     : "-");
      }
      columns->push_back(std::move(column));
    }
  }

  std::string ByConcept() {
    const Record* headline = Headline();
    if (headline == nullptr || view_.concepts().empty()) return "";
    const std::vector<std::string> attacks = view_.Attacks(headline->metric);
    const std::string& worst = attacks.back();
    TableColumn first{"concept", {}, true};
    for (const std::string& subject : view_.concepts()) first.cells.push_back(subject);
    std::vector<TableColumn> columns;
    for (const std::string& method : view_.methods()) {
      TableColumn column{method, {}, false};
      for (const std::string& subject : view_.concepts()) {
        const auto rate = [&](const std::string& attack) -> std::string {
          const Record* record = view_.Find(method, subject, attack, headline->metric);
          if (record == nullptr) return "-";
          if (record->status == "error") {
            return "error " + notes_.Add(RecordName(*record) + ": " + record->reason);
          }
          return record->status == "ok" ? Percent(record->score.value) : "n/a";
        };
        column.cells.push_back(rate(attacks.front()) + " / " + rate(worst));
      }
      columns.push_back(std::move(column));
    }
    return Wrapped("By concept: target rate without attack / in the worst case, %.") + "\n" +
           RenderColumns(first, columns);
  }

  // An empty row sets the reference rows apart.
  void AddGap(TableColumn* column) const {
    int64_t references = 0;
    for (const std::string& method : view_.methods()) references += view_.IsReference(method);
    if (references == 0 || references == static_cast<int64_t>(column->cells.size())) return;
    column->cells.insert(column->cells.begin() + references, "");
  }

  std::string ByMethod(std::vector<TableColumn> columns) const {
    TableColumn first{"method", view_.methods(), true};
    AddGap(&first);
    for (TableColumn& column : columns) AddGap(&column);
    return RenderColumns(first, columns);
  }

  std::string Caption() const {
    const Json& experiment = view_.results().experiment;
    const Json& inputs = view_.results().inputs;
    const Record* headline = Headline();
    const Json protocol = headline == nullptr ? Json::object() : headline->protocol;
    int64_t n = 0;
    for (const Record& record : view_.results().records) {
      if (headline != nullptr && record.metric == headline->metric) {
        n = std::max(n, record.score.n);
      }
    }
    const std::string sha = inputs.at("backbone").at("sha");
    std::string text = fmt::format(
        "**{}** (profile {}). Backbone {} ({}), {} concepts, {} test prompts each, n = {} pictures "
        "a cell, {} a prompt;",
        experiment.at("title").get<std::string>(), experiment.at("profile").get<std::string>(),
        inputs.at("backbone").at("name").get<std::string>(), sha.substr(0, 8),
        view_.concepts().size(), experiment.at("prompts").at("target").get<int64_t>(), n,
        experiment.at("sampler").at("images_per_prompt").get<int64_t>());
    if (protocol.contains("sampler")) {
      text += fmt::format(
          " {} {} steps, guidance {:g}, {}x{};", protocol.at("sampler").get<std::string>(),
          protocol.at("steps").get<int64_t>(), protocol.at("guidance").get<double>(),
          protocol.at("size").at(0).dump(), protocol.at("size").at(1).dump());
    }
    text +=
        " the same noise in every row; attacks are transfer attacks, not adapted to the method.";
    const std::string caveat = experiment.value("caveat", "");
    if (!caveat.empty()) text += " " + caveat;
    return Wrapped(text);
  }

  // What the paired tests say, in words.
  std::string Findings() const {
    const Record* headline = Headline();
    if (headline == nullptr) return "";
    const std::string& metric = headline->metric;
    const std::vector<std::string> attacks = view_.Attacks(metric);
    const std::string& plain = attacks.front();
    std::vector<std::string> lower, raised;
    for (const std::string& method : view_.methods()) {
      if (IsLess(metric, "methods", plain, method, view_.methods().front())) {
        lower.push_back(method);
      }
      for (const std::string& attack : attacks) {
        if (IsLess(metric, "attacks", method, plain, attack)) {
          raised.push_back(attack + " on " + method);
        }
      }
    }
    return Wrapped(
        fmt::format("Below {} without attack (paired test, Holm, 5 %): {}. Attacks that "
                    "raise a method's rate above its own without attack: {}.",
                    view_.methods().front(), Listed(lower), Listed(raised)));
  }

  static std::string Listed(const std::vector<std::string>& names) {
    return names.empty() ? "none of them" : fmt::format("{}", fmt::join(names, ", "));
  }

  // Whether `small` is significantly below `big`.
  bool IsLess(const std::string& metric, const std::string& over, const std::string& given,
              const std::string& small, const std::string& big) const {
    const Comparison* test =
        FindComparison(view_.results().comparisons, metric, "", over, given, small, big);
    if (test == nullptr || test->p_holm >= 0.05) return false;
    return test->first == small ? test->difference < 0 : test->difference > 0;
  }

  std::string Legend() const {
    std::string references;
    for (const std::string& method : view_.methods()) {
      if (view_.IsReference(method)) references += (references.empty() ? "" : ", ") + method;
    }
    return Wrapped(fmt::format(
               "Bold: best{}; `=`: not told from it by a paired test (Holm over the column, 5 %). "
               "[a-b], ±: 95 % intervals.",
               references.empty() ? "" : " beside the reference rows " + references)) +
           Wrapped(fmt::format("uses: {}. worst case: a prompt counts when it succeeds under any "
                               "attack, or under none.",
                               UsesLegend())) +
           Wrapped(
               "garbage: nothing that the judge knows (a broken model is no removal). U-Net: "
               "evaluations of one latent.");
  }

  TableView view_;
  Notes notes_;
};

}  // namespace

std::string RenderColumns(const TableColumn& first, const std::vector<TableColumn>& columns) {
  std::string out;
  for (size_t start = 0; start < columns.size();) {
    std::vector<const TableColumn*> shown = {&first};
    size_t total = 2 + WidthOf(first) + 2;
    while (start < columns.size() &&
           (shown.size() == 1 || total + WidthOf(columns[start]) + 3 <= kTableWidth)) {
      total += WidthOf(columns[start]) + 3;
      shown.push_back(&columns[start++]);
    }
    std::string header = "|", rule = "|";
    for (const TableColumn* column : shown) {
      const size_t width = WidthOf(*column);
      header += " " + Padded(column->header, width, column->left) + " |";
      rule += (column->left ? ":" : "-") + std::string(width, '-') + (column->left ? "-|" : ":|");
    }
    out += (out.empty() ? "" : "\n") + header + "\n" + rule + "\n";
    for (size_t row = 0; row < first.cells.size(); ++row) {
      out += "|";
      for (const TableColumn* column : shown) {
        out += " " + Padded(column->cells[row], WidthOf(*column), column->left) + " |";
      }
      out += "\n";
    }
  }
  return out;
}

std::string RenderTable(const Results& results) { return Renderer(results).Render(); }

}  // namespace excise
