// Which parameters move, and how fast: the selection by name and the schedules of trainer.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "core/error.h"
#include "core/text.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr double kPi = 3.14159265358979323846;

std::vector<std::regex> Compile(const std::vector<std::string>& patterns) {
  std::vector<std::regex> out;
  for (const std::string& pattern : patterns) {
    try {
      out.emplace_back(pattern, std::regex::ECMAScript | std::regex::optimize);
    } catch (const std::regex_error& e) {
      throw UsageError(fmt::format("Parameter pattern '{}' is no ECMAScript regular expression: {}",
                                   pattern, e.what()));
    }
  }
  return out;
}

bool AnyMatches(const std::vector<std::regex>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::regex& r) { return std::regex_search(name, r); });
}

}  // namespace

double ScheduleFactor(const ScheduleSpec& spec, int64_t step, int64_t total) {
  static const std::vector<std::string> known = {"constant", "linear", "cosine"};
  if (!IsOneOf(spec.name, known)) {
    throw UsageError(
        fmt::format("Unknown schedule '{}'.{}", spec.name, DidYouMeanOrKnown(spec.name, known)));
  }
  if (spec.warmup_steps < 0 || spec.hold_steps < 0 || !(spec.final_fraction >= 0)) {
    throw UsageError("schedule.warmup_steps, hold_steps and final_fraction must be at least 0");
  }
  if (step < spec.warmup_steps) {
    return static_cast<double>(step) / static_cast<double>(spec.warmup_steps);
  }
  const int64_t start = spec.warmup_steps + spec.hold_steps;
  if (spec.name == "constant" || step <= start) return 1.0;
  const double progress =
      std::min(1.0, static_cast<double>(step - start) /
                        static_cast<double>(std::max<int64_t>(1, total - 1 - start)));
  const double shape =
      spec.name == "linear" ? 1.0 - progress : 0.5 * (1.0 + std::cos(kPi * progress));
  return spec.final_fraction + (1.0 - spec.final_fraction) * shape;
}

bool IsStatistic(const std::string& name) {
  for (const std::string_view end : {"running_mean", "running_var", "num_batches_tracked"}) {
    if (EndsWith(name, end)) return true;
  }
  return false;
}

std::vector<std::string> SelectParameters(const StateDict& weights,
                                          const std::vector<std::string>& patterns,
                                          const std::vector<std::string>& except) {
  const std::vector<std::regex> wanted = Compile(patterns), refused = Compile(except);
  std::vector<size_t> hits(patterns.size(), 0);
  std::vector<std::string> selected;
  for (const auto& [name, tensor] : weights) {
    if (!tensor.is_floating_point() || IsStatistic(name)) continue;
    bool matched = false;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!std::regex_search(name, wanted[i])) continue;
      ++hits[i];
      matched = true;
    }
    if (matched && !AnyMatches(refused, name)) selected.push_back(name);
  }
  for (size_t i = 0; i < hits.size(); ++i) {
    if (hits[i] > 0) continue;
    std::vector<std::string> names;
    for (const auto& entry : weights) names.push_back(entry.first);
    std::string hint = DidYouMean(patterns[i], names);
    if (hint.empty() && !names.empty()) hint = fmt::format(" They look like '{}'.", names.front());
    throw UsageError(fmt::format("Parameter pattern '{}' matches none of {} tensors.{}",
                                 patterns[i], weights.size(), hint));
  }
  if (selected.empty()) {
    throw UsageError(patterns.empty() ? "No parameter pattern was given"
                                      : "The patterns to leave out leave no parameter to train");
  }
  return selected;
}

}  // namespace excise
