#include "experiments/results/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/formats/results_file.h"

namespace excise {
namespace {

// The share of pictures that may come out otherwise. Measured: of 920 pictures of table1 (none,
// UCE, ESD, a negative prompt, latent blending; typing errors, random and gradient searches) none
// differs between AVX2 with MKL's compatible mode and AVX-512 with AMX, and no searched prompt
// does; on another CPU cells were seen to differ by a picture, which is 0.8 % of 120.
constexpr double kShare = 0.01;
// A cell may have more than its share by chance, but once in so many cells.
constexpr double kOneIn = 1000;

// Several standard deviations: as far from the mean as one sample of a cell is.
constexpr double kSpread = 4;
// What moves without any picture that comes out otherwise, relative to the value: features of
// pictures that are equal but for their last bits. Measured: 2e-6.
constexpr double kSmooth = 1e-4;

// Pictures that were scored or left out because of what they show: the same number everywhere.
double Pictures(const Json& record) {
  return record.at("n").get<double>() + record.at("parts").value("left_out", 0.0);
}

// How many of them may come out otherwise.
double Moved(const Json& record) {
  return static_cast<double>(MostRounded(static_cast<int64_t>(Pictures(record))));
}

// Recovery is made of four cells: of the row and of the floor, without attack and under it.
double CellsOf(const Json& record) { return record.value("metric", "") == kRecovery ? 4 : 1; }

std::map<std::string, double> Samples(const Json& record) {
  std::map<std::string, double> samples;
  const Json values = record.value("per_sample", Json::array());
  const Json ids = record.value("sample_ids", Json::array());
  for (size_t i = 0; i < values.size(); ++i) {
    samples[i < ids.size() ? ids[i].get<std::string>() : std::to_string(i)] = values[i];
  }
  return samples;
}

// The mean distance of the samples, so that none is exchanged for another behind an equal mean.
double MeanDistance(const Json& there, const Json& replayed) {
  const std::map<std::string, double> a = Samples(there), b = Samples(replayed);
  if (b.empty()) return 0;
  double sum = 0;
  for (const auto& [id, value] : b) {
    const auto other = a.find(id);
    sum += other == a.end() ? 1 : std::fabs(value - other->second);
  }
  for (const auto& [id, value] : a) sum += b.count(id) == 0 ? 1 : 0;
  return sum / static_cast<double>(b.size());
}

}  // namespace

int64_t MostRounded(int64_t n) {
  const double mean = static_cast<double>(n) * kShare;
  // The Poisson distribution's quantile; of many, where e^-mean is no number, the normal's.
  if (mean > 500) return static_cast<int64_t>(std::ceil(mean + 3.1 * std::sqrt(mean)));
  double term = std::exp(-mean), beyond = 1 - term;
  int64_t most = 0;
  while (beyond > 1 / kOneIn && most < n) {
    ++most;
    term *= mean / static_cast<double>(most);
    beyond -= term;
  }
  return std::min(std::max<int64_t>(most, 1), n);
}

double RoundingTolerance(const Json& replayed) {
  const double pictures = CellsOf(replayed) * Moved(replayed);
  const double n = replayed.at("n");
  if (replayed.at("unit") == "fraction") return pictures / n + 1e-9;
  const double value = replayed.at("value"), error = replayed.at("stderr");
  return kSpread * pictures * error / std::sqrt(n) + kSmooth * std::fabs(value);
}

std::string RoundingInWords() {
  return fmt::format(
      "rounding explains another outcome of {:.0f} % of the pictures (measured: fewer), that is {} "
      "of "
      "a cell of 4, {} of 20, {} of 120, and what these move of other numbers",
      100 * kShare, MostRounded(4), MostRounded(20), MostRounded(120));
}

Json QuestionOf(const Json& record) {
  Json question = record;
  for (const char* measured :
       {"status", "reason", "value", "stderr", "ci95", "ci95_concepts", "parts_ci95_concepts", "n",
        "parts", "per_sample", "sample_ids", "lineage"}) {
    question.erase(measured);
  }
  for (const char* measured : {"scored", "bounds", "truncated"}) {
    question["denominators"].erase(measured);
  }
  const Json::json_pointer budget("/protocol/budget");
  if (question.contains(budget)) question[budget].erase("spent");
  return question;
}

std::vector<std::string> BeyondRounding(const std::string& name, const Json& there,
                                        const Json& replayed) {
  if (there.at("status") != replayed.at("status")) {
    return {fmt::format("{}: status was {}, now {}", name, there.at("status").dump(),
                        replayed.at("status").dump())};
  }
  if (replayed.at("status") != "ok") return {};
  const double pictures = Pictures(replayed);
  if (Pictures(there) != pictures ||
      std::fabs(there.at("n").get<double>() - replayed.at("n").get<double>()) >
          CellsOf(replayed) * Moved(replayed)) {
    return {
        fmt::format("{}: n was {}, now {}", name, there.at("n").dump(), replayed.at("n").dump())};
  }
  std::vector<std::string> lines;
  const double tolerance = RoundingTolerance(replayed);
  const auto check = [&](const char* what, double before, double now, double most) {
    if (std::fabs(before - now) <= most) return;
    lines.push_back(fmt::format("{}: {} was {:.6g}, now {:.6g}; more than the tolerance {:.3g}",
                                name, what, before, now, most));
  };
  check("value", there.at("value"), replayed.at("value"), tolerance);
  // Ends of an interval lie as far from the value as their resamples, and move more than it.
  check("stderr", there.at("stderr"), replayed.at("stderr"), 2 * tolerance);
  check("the interval's low end", there.at("ci95").at(0), replayed.at("ci95").at(0), 2 * tolerance);
  check("the interval's high end", there.at("ci95").at(1), replayed.at("ci95").at(1),
        2 * tolerance);
  check("the samples' mean distance", MeanDistance(there, replayed), 0, tolerance);
  return lines;
}

}  // namespace excise
