#include "experiments/check/check_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>

#include "experiments/check/check.h"
#include "experiments/check/recheck.h"
#include "experiments/formats/results_file.h"
#include "experiments/results/rounding.h"

namespace excise {
namespace {

// What came of a row, as far as it is in words.
constexpr const char* kWords[] = {"outcome", "class", "style"};
// What a search found; a search that rounds otherwise at one step finds another prompt.
constexpr const char* kFound[] = {"prompt", "prompt_id", "truncated"};

// Whether the attack's prompts come from a search, which computes.
bool Searches(const Lab& lab, const std::string& name) {
  for (const auto& entry : lab.attacks) {
    if (entry.name != name) continue;
    const AttackTraits traits = entry.plugin->traits();
    return traits.ReadsBase() || traits.ForEachMethod();
  }
  return false;
}

// What of a row was asked for, and not what came of it.
Json Asked(Json row, bool searched) {
  for (const char* key : kWords) row.erase(key);
  for (const char* key : {"class_probability", "detected", "artifact"}) row.erase(key);
  if (searched) {
    for (const char* key : kFound) row.erase(key);
  }
  return row;
}

// Whether the picture came out otherwise: by a word, or by a score that last bits do not move.
bool CameOutOtherwise(const Json& there, const Json& replayed) {
  const auto same = [&](const char* key) {
    return there.value(key, Json()) == replayed.value(key, Json());
  };
  if (!std::all_of(std::begin(kWords), std::end(kWords), same)) return true;
  if (!std::all_of(std::begin(kFound), std::end(kFound), same)) return true;
  const auto near = [](const Json& a, const Json& b) {
    return a.is_number() && b.is_number() &&
           std::fabs(a.get<double>() - b.get<double>()) <= 0.01 * (1 + std::fabs(b.get<double>()));
  };
  if (!near(there.value("class_probability", Json()), replayed.at("class_probability"))) {
    return true;
  }
  const Json detected = there.value("detected", Json::object());
  const Json expected = replayed.value("detected", Json::object());
  if (!detected.is_object() || detected.size() != expected.size()) return true;
  for (const auto& [name, score] : expected.items()) {
    if (!near(detected.value(name, Json()), score)) return true;
  }
  return false;
}

// How many rows came out otherwise, by cell.
class Counts {
 public:
  void Add(const Row& row, bool otherwise) {
    for (Count* count : {&cells_[{row.method, row.attack, row.group}], &all_}) {
      count->otherwise += otherwise;
      ++count->all;
    }
  }
  int64_t otherwise() const { return all_.otherwise; }

  // Where there are more than rounding explains.
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    for (const auto& [cell, count] : cells_) {
      Check(fmt::format("rows of {} / {} / {}", cell[0], cell[1], cell[2]), count, &lines);
    }
    Check("all rows", all_, &lines);
    return lines;
  }

 private:
  struct Count {
    int64_t otherwise = 0, all = 0;
  };
  static void Check(const std::string& name, const Count& count, std::vector<std::string>* lines) {
    const int64_t most = MostRounded(count.all);
    if (count.otherwise <= most) return;
    lines->push_back(fmt::format("{}: {} of {} came out otherwise; rounding explains {}", name,
                                 count.otherwise, count.all, most));
  }

  std::map<std::vector<std::string>, Count> cells_;
  Count all_;
};

// Whether the rows that both have come in the same order.
bool SameOrder(const std::vector<Json>& before, const std::vector<std::string>& now) {
  const std::set<std::string> wanted(now.begin(), now.end());
  auto next = now.begin();
  for (const Json& row : before) {
    const std::string name = RowNameOf(row);
    if (wanted.count(name) == 0) continue;
    if (next == now.end() || *next != name) return false;
    ++next;
  }
  return true;
}

struct RowCheck {
  std::vector<std::string> lines;  // what differs
  int64_t compared = 0, otherwise = 0;
};

// Compares what both have; `whole`: neither may have others.
RowCheck CompareRows(const std::vector<Json>& before, const std::vector<Row>& now, const Lab& lab,
                     bool whole, bool same_numerics) {
  std::map<std::string, const Json*> there;
  for (const Json& row : before) there[RowNameOf(row)] = &row;
  RowCheck check;
  Counts counts;
  std::vector<std::string> names;
  const auto add = [&](const std::vector<std::string>& lines) {
    check.lines.insert(check.lines.end(), lines.begin(), lines.end());
  };
  for (const Row& row : now) {
    const Json replayed = RowToJson(row);
    const std::string name = RowNameOf(replayed);
    const auto found = there.find(name);
    if (found == there.end()) {
      check.lines.push_back(fmt::format("row {}: is missing in the file", name));
      continue;
    }
    names.push_back(name);
    ++check.compared;
    if (same_numerics) {
      add(Differences("row " + name, *found->second, replayed));
    } else {
      const bool searched = Searches(lab, row.attack);
      add(Differences("row " + name, Asked(*found->second, searched), Asked(replayed, searched)));
      counts.Add(row, CameOutOtherwise(*found->second, replayed));
    }
    there.erase(found);
  }
  check.otherwise = counts.otherwise();
  add(counts.Lines());
  if (!SameOrder(before, names)) {
    check.lines.push_back("the rows are in another order than the program writes them");
  }
  if (!whole) return check;
  for (const auto& [name, row] : there) {
    check.lines.push_back(
        fmt::format("row {}: is in the file, but no such picture is drawn", name));
  }
  return check;
}

Json RecordsThat(const Json& records, const std::function<bool(const Json&)>& chosen) {
  Json kept = Json::array();
  for (const Json& record : records) {
    if (chosen(record)) kept.push_back(record);
  }
  return kept;
}

}  // namespace

ReplayCheck CheckReplay(const Json& results, const std::vector<Json>& rows, const Results& read,
                        const Lab& lab, const Results& replayed,
                        const std::function<bool(const Json&)>& chosen) {
  Json before = DeterministicPart(results), now = DeterministicPart(ResultsToJson(replayed));
  before["records"] = RecordsThat(before["records"], chosen);
  now["records"] = RecordsThat(now["records"], chosen);
  const bool whole = before["records"].size() == results.at("records").size();
  // Of a part no column of comparisons is whole: the file's must follow from its own samples.
  if (!whole) before["comparisons"] = now["comparisons"] = Json::array();
  // The whole of them: two CPUs that compute alike still have other digests.
  const Json& numerics = now["inputs"]["numerics"];
  ReplayCheck check;
  check.records = static_cast<int64_t>(before["records"].size());
  check.same_numerics = before["inputs"]["numerics"] == numerics;
  // Cells that were computed elsewhere are held to what rounding moves, and so is all that follows.
  for (const Json& source : ReusedSources(read)) {
    check.same_numerics = check.same_numerics && source.at("numerics") == numerics;
  }
  check.problems = CompareResults(before, now, check.same_numerics).lines;
  const auto add = [&](const std::vector<std::string>& lines) {
    check.problems.insert(check.problems.end(), lines.begin(), lines.end());
  };
  // Equal bytes of everything leave nothing else to ask.
  if (!check.same_numerics) add(IntervalProblems(read, replayed));
  if (!check.same_numerics || !whole) {
    add(DerivedProblems(read));
    add(RowProblems(read, rows));
  }
  const RowCheck row_check = CompareRows(rows, replayed.rows, lab, whole, check.same_numerics);
  add(row_check.lines);
  check.rows = row_check.compared;
  check.otherwise = row_check.otherwise;
  return check;
}

}  // namespace excise
