// A table as a document: what it says, apart from how a format says it. Built once from results;
// experiments/tables/render.h and experiments/page/html_page.h write it down.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/results/record.h"
#include "experiments/tables/estimates.h"
#include "experiments/tables/table_view.h"

namespace excise {

// A stretch of running text. Words are ours and harmless in every format but LaTeX, where they are
// escaped; data come from files and prompts and are escaped everywhere.
struct Span {
  enum class Kind { kWords, kData, kBold, kCode, kBest };
  Kind kind = Kind::kWords;
  std::string text;
};

class Text {
 public:
  Text() = default;
  explicit Text(std::string words) { Words(std::move(words)); }
  Text& Words(std::string text) { return Add(Span::Kind::kWords, std::move(text)); }
  Text& Data(std::string text) { return Add(Span::Kind::kData, std::move(text)); }
  Text& Bold(std::string data) { return Add(Span::Kind::kBold, std::move(data)); }
  // How the best of a column is marked: "Bold", where a format has it.
  Text& Best() { return Add(Span::Kind::kBest, "Bold"); }
  Text& Code(std::string words) { return Add(Span::Kind::kCode, std::move(words)); }
  // Data, with commas between; `none` where there are none.
  Text& List(const std::vector<std::string>& data, const std::string& none);
  const std::vector<Span>& spans() const { return spans_; }
  bool empty() const { return spans_.empty(); }

 private:
  Text& Add(Span::Kind kind, std::string text) {
    spans_.push_back({kind, std::move(text)});
    return *this;
  }
  std::vector<Span> spans_;
};

struct TableCell {
  std::string value;  // "84", "0.029", "12/7/2", "n/a", "-", "error"; a name in the first column
  std::string low, high;  // the 95 % interval, or ""
  std::string spread;     // half its width ("±"), or ""; never together with low and high
  TableView::Mark mark = TableView::Mark::kNone;
  size_t note = 0;  // the number of a footnote; 0 = none
};

struct TableColumn {
  std::string header;  // data
  int better = 0;      // +1: higher is better, -1: lower is, 0: neither
  bool left = false;   // aligned
  std::vector<TableCell> cells;
};

struct Table {
  std::string name;  // "erased", "kept", "concepts": an anchor
  std::string title;
  Text intro;
  TableColumn first;  // names of the rows
  std::vector<TableColumn> columns;
  size_t references = 0;  // so many rows come first and are set apart
  Text constants;         // columns that say the same in every row; may be empty
};

struct Document {
  std::string title, profile;  // data
  Text caption;
  std::vector<Table> tables;
  std::vector<Text> remarks;       // findings, then how to read the table
  std::vector<std::string> notes;  // footnotes 1, 2, ...; data
};

Document DescribeTable(const Results& results);

// The metric whose rate is the headline: the first of erasure that is a fraction; null: none.
const Record* HeadlineMetric(const TableView& view);

}  // namespace excise
