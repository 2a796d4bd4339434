// Records as a table reads them: rows, columns, marks.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

class TableView {
 public:
  explicit TableView(const Results& results);

  const Results& results() const { return results_; }
  const std::vector<std::string>& methods() const { return methods_; }  // reference rows first
  const std::vector<std::string>& concepts() const { return concepts_; }
  // Metrics of a group, in the order of the records, each with one of its records.
  std::vector<const Record*> Metrics(const std::string& group) const;
  // Attacks under which the metric was scored; "union" last.
  std::vector<std::string> Attacks(const std::string& metric) const;
  bool IsReference(const std::string& method) const;

  // Null when there is none.
  const Record* Find(const std::string& method, const std::string& subject,
                     const std::string& attack, const std::string& metric) const;

  // Beside the best of a column: those within 5 points of it (IsEquivalent), and those of which it
  // is open whether they differ (no IsSignificant). Of a recovery: significantly above its floor.
  enum class Mark { kNone, kBest, kEquivalent, kOpen, kAbove };
  // By method. `part`: a group of the metric, or "". Reference rows, those of which pictures are
  // missing and those whose value is over other pictures (LeavesOutBlocked) take no part, and
  // nobody does when fewer than two methods have values. Each mark is of its row and the best
  // alone: a row that is added changes marks only where it is (among) the best, or the second to
  // have a value.
  std::map<std::string, Mark> Marks(const std::string& metric, const std::string& part,
                                    const std::string& attack) const;

 private:
  Mark Against(const Record& best, const Record& other, const std::string& part) const;

  const Results& results_;
  std::vector<std::string> methods_, concepts_, references_;
};

// Whether the value is over other pictures than other methods', because those that the method's
// filter blocked are left out of it.
bool LeavesOutBlocked(const Record& record);

// The record's value, or that of one of its groups.
double ValueOf(const Record& record, const std::string& part);
// Whether the record has a value for the group.
bool HasPart(const Record& record, const std::string& part);

}  // namespace excise
