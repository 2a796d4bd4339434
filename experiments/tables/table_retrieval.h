// Retrieval metrics as tables: which column goes where and what it is called.
#pragma once

#include <string>
#include <vector>

#include "experiments/tables/table.h"

namespace excise {

// A table of the document, with its columns' metrics in order.
struct RetrievalSection {
  std::string name, title;
  std::vector<const Record*> metrics;
};
// Safe retrieval and zero-shot; unsafe queries for safe items; unsafe queries for unsafe items; and
// all of it for concepts that training never showed. Those that have columns.
std::vector<RetrievalSection> RetrievalSections(const TableView& view);

// "T* to I+I* R10", "safe first T*"; the metric's own name where its parameters say nothing.
std::string RetrievalHeader(const Record& metric);

// n, pools, and which methods differ from the first one in the section's first column.
Text RetrievalIntro(const TableView& view, const RetrievalSection& section);

// How to read them: what is correct, ties, several captions.
Text RetrievalRules();

}  // namespace excise
