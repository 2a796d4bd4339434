#include "experiments/check/committed.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "experiments/check/check.h"
#include "experiments/results/rounding.h"

namespace excise {
namespace {

// As a table shows it: what is equal there is no difference to anybody.
std::string Shown(double value, bool fraction) {
  return fraction ? fmt::format("{:.1f} %", 100 * value) : fmt::format("{:.3g}", value);
}

// What decides numbers, machines apart.
Json Premise(const Json& results) {
  Json premise = {{"experiment", results.at("experiment")}, {"inputs", results.at("inputs")}};
  for (const char* words : {"title", "caveat"}) premise["experiment"].erase(words);
  premise["inputs"].erase("numerics");
  return premise;
}

std::string Machine(const Json& results) {
  return fmt::format("{} ({})", results.at("provenance").at("host_cpu").get<std::string>(),
                     results.at("inputs").at("numerics").at("isa").get<std::string>());
}

struct Count {
  int64_t compared = 0, differ = 0;
  double most = 0;  // points of rates, or a share of other values where no rate differs
  bool fraction = false;
  std::string where;

  void Add(const std::string& name, double before, double now, bool rate) {
    ++compared;
    const std::string there = Shown(before, rate), here = Shown(now, rate);
    if (there == here) return;
    ++differ;
    const double distance = std::fabs(now - before) / (rate ? 1 : std::fabs(before) + 1e-12);
    if (rate < fraction || (rate == fraction && distance <= most)) return;
    most = distance;
    fraction = rate;
    where = fmt::format("{}: {} there, {} here", name, there, here);
  }
};

}  // namespace

std::string CommittedName(const std::string& table, const std::string& profile) {
  if (profile == "default") return fmt::format("{0}/{0}.json", table);
  return fmt::format("{0}/{0}_{1}.json", table, profile);
}

std::string AgainstCommitted(const Json& results, const Json& committed, const std::string& name) {
  if (Premise(results) != Premise(committed)) return "";
  std::map<std::string, const Json*> there;
  for (const Json& record : committed.at("records")) there[RecordNameOf(record)] = &record;
  Count count;
  for (const Json& record : results.at("records")) {
    const auto found = there.find(RecordNameOf(record));
    if (found == there.end() || record.at("status") != "ok") continue;
    const Json& before = *found->second;
    if (before.at("status") != "ok" || QuestionOf(before) != QuestionOf(record)) continue;
    count.Add(found->first, before.at("value"), record.at("value"),
              record.at("unit") == "fraction");
  }
  if (count.differ == 0) return "";
  const auto fingerprint = [](const Json& of) {
    return of.at("inputs").at("numerics").at("fingerprint");
  };
  return fmt::format(
      "{}: {} was computed on {}, this on {}: {} of {} values are printed otherwise, by at most {} "
      "({}).",
      fingerprint(results) == fingerprint(committed)
          ? "Other values on the same numerics, so the program has changed"
          : "Other numerics",
      name, Machine(committed), Machine(results), count.differ, count.compared,
      count.fraction ? fmt::format("{:.1f} points", 100 * count.most)
                     : fmt::format("{:.2g} %", 100 * count.most),
      count.where);
}

}  // namespace excise
