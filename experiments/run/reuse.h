// Numbers of earlier runs, taken from their results files instead of being computed again: a table
// is extended by a row or a column, or put together from parts that several machines computed
// without a common disk.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/results/record.h"
#include "experiments/run/grid.h"

namespace excise {

// Of a unit of pictures, whoever computed it: its method, its attack and its digest here.
using UnitName = std::tuple<std::string, std::string, std::string>;
UnitName NameOfUnit(const Lab& lab, const Unit& unit);

class Reused {
 public:
  bool Has(const Cell& cell) const { return records_.count(IdOf(cell)) != 0; }
  // As RecordsOfCell would make them, samples of single concepts included. Of a cell that it has.
  const std::vector<Record>& RecordsOf(const Cell& cell) const { return records_.at(IdOf(cell)); }
  // Of a unit of such a cell; else nothing.
  std::vector<Row> RowsOf(const UnitName& unit) const;
  // Results["provenance"]["reused"]: of which file, computed where, how many cells.
  const Json& sources() const { return sources_; }

 private:
  friend class Reuse;
  using CellId = std::tuple<size_t, size_t, size_t>;
  static CellId IdOf(const Cell& cell) { return {cell.metric, cell.method, cell.attack}; }

  std::map<CellId, std::vector<Record>> records_;
  std::map<UnitName, std::vector<Row>> rows_;
  Json sources_ = Json::array();
};

// The cells of the lab's experiment that the files have: those of which every record says that it
// was computed from what it would be computed from here, by the digest of its key, on whatever CPU
// (the instruction sets are part of a key: each file is asked under its own). The first file that
// has a cell gives it. Cells of retrieval (their files do not name samples) and cells without a
// number are never taken.
//
// Throws Error naming the file where it cannot be read or its rows are missing, and UsageError
// where it has none of the cells: a file of another version, or of other settings, which it names.
// Leaves the lab as it was.
Reused ReuseResults(Lab* lab, const std::vector<std::filesystem::path>& files);

}  // namespace excise
