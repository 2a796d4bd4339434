// BootstrapNested (core/stats.h).
#include <algorithm>
#include <map>
#include <tuple>

#include "core/error.h"
#include "core/stats.h"

namespace excise {
namespace {

struct Sum {
  double sum = 0, count = 0;
  void Add(const Sum& other) {
    sum += other.sum;
    count += other.count;
  }
};

// What a group's rows hold in each column.
struct Group {
  std::vector<std::vector<Sum>> rows;
  size_t columns = 0;
};

std::vector<Group> Gather(std::vector<NestedValue> values) {
  // One order of summation, whatever the values'.
  std::sort(values.begin(), values.end(), [](const NestedValue& a, const NestedValue& b) {
    return std::tie(a.group, a.row, a.column, a.value) <
           std::tie(b.group, b.row, b.column, b.value);
  });
  std::map<std::string, std::map<std::string, size_t>> rows, columns;
  for (const NestedValue& v : values) {
    rows[v.group].emplace(v.row, rows[v.group].size());
    columns[v.group].emplace(v.column, columns[v.group].size());
  }
  std::vector<Group> groups;
  std::map<std::string, size_t> places;
  for (const auto& [name, own] : rows) {
    places[name] = groups.size();
    const size_t width = columns[name].size();
    groups.push_back({std::vector<std::vector<Sum>>(own.size(), std::vector<Sum>(width)), width});
  }
  for (const NestedValue& v : values) {
    Group& group = groups[places[v.group]];
    group.rows[rows[v.group][v.row]][columns[v.group][v.column]].Add({v.value, 1});
  }
  return groups;
}

Sum Resampled(const Group& group, Philox& rng) {
  std::vector<size_t> columns(group.columns, 0);
  if (group.columns > 1) {
    for (size_t& column : columns) column = rng.Below(group.columns);
  }
  Sum drawn;
  for (size_t i = 0; i < group.rows.size(); ++i) {
    const std::vector<Sum>& row = group.rows[rng.Below(group.rows.size())];
    for (const size_t column : columns) drawn.Add(row[column]);
  }
  return drawn;
}

}  // namespace

Bootstrap BootstrapNested(const std::vector<NestedValue>& values, Philox& rng, int64_t resamples,
                          double confidence) {
  if (values.empty()) throw Error("Bootstrap of no values: no row was eligible.");
  if (resamples < 1) throw Error("Bootstrap: at least one resample is needed.");
  const std::vector<Group> groups = Gather(values);
  Sum all;
  for (const Group& group : groups) {
    for (const std::vector<Sum>& row : group.rows) {
      for (const Sum& cell : row) all.Add(cell);
    }
  }
  const double value = all.sum / all.count;
  std::vector<double> means(static_cast<size_t>(resamples));
  for (double& mean : means) {
    Sum drawn;
    for (size_t i = 0; i < groups.size(); ++i) {
      drawn.Add(Resampled(groups[rng.Below(groups.size())], rng));
    }
    // Nothing drawn: of a design with holes, the holes alone.
    mean = drawn.count > 0 ? drawn.sum / drawn.count : value;
  }
  return FromResamples(value, std::move(means), confidence);
}

}  // namespace excise
