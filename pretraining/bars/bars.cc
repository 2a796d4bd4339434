#include "pretraining/bars/bars.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr double kTolerance = 1e-12;  // of comparisons, for differences of rounded fractions

const BarSpec& SpecOf(std::string_view id) {
  for (const BarSpec& spec : BarSpecs()) {
    if (spec.id == id) return spec;
  }
  throw Error(fmt::format("'{}' is no bar of the embedded backbone.", id));
}

std::string RelationName(Relation relation) {
  return relation == Relation::kAtLeast  ? "at_least"
         : relation == Relation::kAtMost ? "at_most"
                                         : "within";
}

std::string UnitName(BarUnit unit) {
  switch (unit) {
    case BarUnit::kKappa:
      return "kappa";
    case BarUnit::kCount:
      return "count";
    case BarUnit::kDifference:
      return "difference";
    default:
      return "fraction";
  }
}

}  // namespace

const std::vector<BarSpec>& BarSpecs() {
  constexpr Relation kLeast = Relation::kAtLeast, kMost = Relation::kAtMost;
  static const std::vector<BarSpec> specs = {
      {1, "judge", "judge.scenes", "reporting judge: fresh scenes of all classes", kLeast, .99},
      {1, "judge", "judge.garbage", "reporting judge: drawn garbage rejected", kLeast, .95},
      {1, "judge", "judge.half_denoised", "reporting judge: half-denoised rejected", kLeast, .95},
      {1, "judge", "judge.broken_model", "reporting judge: broken U-Net's output rejected", kLeast,
       .95},
      {1, "judge", "judge.kappa", "agreement with the template judge, plain scenes", kLeast, .8,
       BarUnit::kKappa},
      {1, "judge", "judge.oracle", "oracle: fresh scenes of all classes", kLeast, .98},
      {1, "judge", "judge.oracle_search", "oracle: a search on retrained that it calls a success",
       kMost, .10},
      {1, "judge", "judge.oracle_targets",
       "oracle: generated targets that the reporting judge sees, seen", kLeast, .90},
      {2, "vae", "vae.all", "reconstructions judged right", kLeast, .95},
      {2, "vae", "vae.worst_class", "reconstructions, worst class", kLeast, .80},
      {3, "clip", "clip.all", "conditioning CLIP zero-shot, all styles", kLeast, .70},
      {3, "clip", "clip.plain", "conditioning CLIP zero-shot, plain", kLeast, .85},
      {3, "clip", "clip.reference", "reference CLIP zero-shot, all styles", kLeast, .80},
      {3, "clip", "clip.worst_pair", "conditioning CLIP, target or anchor, worst pair", kLeast,
       .95},
      {3, "clip", "clip.reference_worst_pair", "reference CLIP, target or anchor, worst pair",
       kLeast, .95},
      {4, "pictures", "pictures.all", "generated pictures judged right", kLeast, .90},
      {4, "pictures", "pictures.classes", "share of classes drawn right at least 70 %", kLeast,
       .90},
      {4, "pictures", "pictures.worst_concept", "generated targets, worst concept", kLeast, .85},
      {4, "pictures", "pictures.sepia", "sepia and plain told apart", kLeast, .90},
      {5, "aliases", "aliases.concepts", "concepts whose held-out names draw it at least 60 %",
       kLeast, 4, BarUnit::kCount},
      {6, "retrained", "retrained.targets", "retrained draws the targets", kMost, .05},
      {6, "retrained", "retrained.rest", "retrained minus unmodified, everything else",
       Relation::kWithin, .03, BarUnit::kDifference},
  };
  return specs;
}

std::vector<std::string> BarGroups() {
  std::vector<std::string> groups;
  for (const BarSpec& spec : BarSpecs()) {
    if (groups.empty() || groups.back() != spec.group) groups.push_back(spec.group);
  }
  return groups;
}

Json TallyToJson(const Tally& tally) {
  const Interval ci = Wilson(tally.right, tally.n);
  return {{"value", tally.n == 0 ? Json(nullptr) : Json(tally.rate())},
          {"right", tally.right},
          {"n", tally.n},
          {"ci95", {ci.low, ci.high}}};
}

Measurement MeasureRate(const Tally& tally, std::string note) {
  return {tally.rate(), Wilson(tally.right, tally.n), tally.n, std::move(note)};
}

Measurement MeasureWorst(const std::map<std::string, Tally>& tallies) {
  const std::pair<const std::string, Tally>* worst = nullptr;
  for (const auto& entry : tallies) {
    if (entry.second.n == 0) continue;
    if (worst == nullptr || entry.second.rate() < worst->second.rate()) worst = &entry;
  }
  if (worst == nullptr) throw Error("Bars: the worst of nothing was asked for.");
  return MeasureRate(worst->second, worst->first);
}

Measurement MeasureReaching(const std::map<std::string, Tally>& tallies, double rate) {
  Measurement result;
  std::string below;
  for (const auto& [name, tally] : tallies) {
    if (tally.n == 0) continue;
    const Interval ci = Wilson(tally.right, tally.n);
    ++result.n;
    result.value += tally.rate() >= rate ? 1 : 0;
    result.ci.low += ci.low >= rate ? 1 : 0;
    result.ci.high += ci.high >= rate ? 1 : 0;
    if (tally.rate() < rate) below += (below.empty() ? "below: " : ", ") + name;
  }
  result.note = below;
  return result;
}

Measurement MeasureKappa(const std::vector<std::vector<int64_t>>& confusion) {
  const size_t k = confusion.size();
  std::vector<int64_t> rows(k, 0), columns(k, 0);
  int64_t agreed = 0, n = 0;
  for (size_t i = 0; i < k; ++i) {
    if (confusion[i].size() != k) throw Error("Bars: a table of agreement must be square.");
    for (size_t j = 0; j < k; ++j) {
      rows[i] += confusion[i][j];
      columns[j] += confusion[i][j];
      n += confusion[i][j];
    }
    agreed += confusion[i][i];
  }
  if (n == 0) throw Error("Bars: the agreement of two judges on nothing was asked for.");
  double chance = 0;
  for (size_t i = 0; i < k; ++i) {
    chance += static_cast<double>(rows[i]) / n * (static_cast<double>(columns[i]) / n);
  }
  const auto kappa = [&](double observed) {
    return chance >= 1 ? 1.0 : (observed - chance) / (1 - chance);
  };
  const Interval observed = Wilson(agreed, n);
  return {kappa(static_cast<double>(agreed) / n),
          {kappa(observed.low), kappa(observed.high)},
          n,
          fmt::format("the two agree on {} of {}", agreed, n)};
}

Measurement MeasurePaired(const PairedCounts& counts) {
  const Difference difference = NewcombePaired(counts);
  return {difference.value, difference.ci, counts.n(),
          fmt::format("only the first right {}, only the second {}", counts.only_first,
                      counts.only_second)};
}

double ShortBy(const BarSpec& spec, double value) {
  double missing = 0;
  switch (spec.relation) {
    case Relation::kAtLeast:
      missing = spec.required - value;
      break;
    case Relation::kAtMost:
      missing = value - spec.required;
      break;
    case Relation::kWithin:
      missing = std::abs(value) - spec.required;
  }
  return missing > kTolerance ? missing : 0;
}

bool IntervalMeets(const BarSpec& spec, const Interval& ci) {
  return ShortBy(spec, ci.low) == 0 && ShortBy(spec, ci.high) == 0;
}

void BarReport::Set(std::string_view id, const Measurement& measurement) {
  SpecOf(id);
  if (!found_.emplace(id, measurement).second) {
    throw Error(fmt::format("Bars: '{}' was measured twice.", id));
  }
}

void BarReport::Explain(std::string_view id, const std::string& reason) {
  SpecOf(id);
  reasons_[std::string(id)] = reason;
}

Json BarReport::ToJson(const std::vector<std::string>& groups) const {
  Json bars = Json::array();
  for (const BarSpec& spec : BarSpecs()) {
    if (!IsOneOf(spec.group, groups)) continue;
    Json bar = {{"number", spec.number},     {"id", spec.id},
                {"what", spec.what},         {"relation", RelationName(spec.relation)},
                {"required", spec.required}, {"unit", UnitName(spec.unit)}};
    const auto it = found_.find(spec.id);
    if (it == found_.end() || it->second.n == 0) {
      const auto reason = reasons_.find(spec.id);
      bar["status"] = "not_there";
      bar["note"] = reason == reasons_.end() ? "nothing to measure" : reason->second;
    } else {
      const Measurement& found = it->second;
      bar["status"] = ShortBy(spec, found.value) == 0 ? "met" : "missed";
      bar["value"] = found.value;
      bar["ci95"] = {found.ci.low, found.ci.high};
      bar["n"] = found.n;
      bar["short_by"] = ShortBy(spec, found.value);
      bar["interval_meets"] = IntervalMeets(spec, found.ci);
      bar["note"] = found.note;
    }
    bars.push_back(std::move(bar));
  }
  return {{"bars", std::move(bars)}, {"tables", tables}};
}

}  // namespace excise
