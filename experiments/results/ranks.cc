#include "experiments/results/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr int64_t kResamples = 2000;
constexpr const char* kRemoval = "asr";
constexpr const char* kRetention = "retention";

// By method, of one concept in one run or of their mean.
using Values = std::vector<double>;
// [run][concept]
using Cube = std::vector<std::vector<Values>>;

RankedRun RunOf(const Results& results) {
  const Json& erase = results.experiment.at("seeds").at("erase");
  if (!erase.is_number_integer()) {
    throw UsageError(fmt::format(
        "ranks: a file has the erase seeds {} together. How stable ranks are over edits is read "
        "from a run of each: --set seeds.erase=1, and so on.",
        erase.dump()));
  }
  return {erase.get<int64_t>(), results.experiment.at("sampler").at("guidance").get<double>()};
}

// What must be alike in all files.
Json PremiseOf(const Results& results) {
  const Json& experiment = results.experiment;
  Json premise = {{"backbone", experiment.at("backbone")},
                  {"prompts", experiment.at("prompts")},
                  {"sampler", experiment.at("sampler")},
                  {"seeds", experiment.at("seeds")}};
  premise["sampler"].erase("guidance");
  premise["seeds"].erase("erase");
  return premise;
}

std::vector<RankedRun> RunsOf(const std::vector<Results>& files) {
  std::vector<RankedRun> runs;
  for (const Results& results : files) {
    const RankedRun run = RunOf(results);
    const Json first = PremiseOf(files.front());
    const Json other = PremiseOf(results);
    for (const auto& [field, value] : other.items()) {
      if (value == first.at(field)) continue;
      throw UsageError(fmt::format(
          "ranks: the files are of other experiments: '{}' is {} in one and {} in another. They "
          "may differ in seeds.erase and sampler.guidance alone.",
          field, first.at(field).dump(), value.dump()));
    }
    for (const RankedRun& seen : runs) {
      if (seen.erase_seed != run.erase_seed || seen.guidance != run.guidance) continue;
      throw UsageError(
          fmt::format("ranks: two files have erase seed {} and guidance {}. Name each run once.",
                      run.erase_seed, run.guidance));
    }
    runs.push_back(run);
  }
  return runs;
}

double HarmonicMean(double a, double b) { return a + b > 0 ? 2 * a * b / (a + b) : 0; }

// Removal, retention and their harmonic mean.
constexpr const char* kMetrics[] = {"removal", "retention", "harmonic mean"};
using Scores = std::array<double, 3>;

// The scores of one file by concept and method: those that are whole.
using ScoresOfFile = std::map<std::pair<std::string, std::string>, Scores>;

ScoresOfFile ReadScores(const Results& results, const std::string& attack) {
  std::map<std::pair<std::string, std::string>, double> removal, retention;
  for (const Record& record : results.records) {
    if (record.subject == kAllConcepts || record.status != "ok" || MissingOf(record) > 0) continue;
    const std::pair<std::string, std::string> place = {record.subject, record.method};
    if (record.metric == kRemoval && record.attack == attack) {
      removal[place] = 1 - record.score.value;
    }
    if (record.metric == kRetention) retention[place] = record.score.value;
  }
  ScoresOfFile scores;
  for (const auto& [place, removed] : removal) {
    const auto kept = retention.find(place);
    if (kept == retention.end()) continue;
    scores[place] = {removed, kept->second, HarmonicMean(removed, kept->second)};
  }
  return scores;
}

void RequireAttack(const std::vector<Results>& files, const std::string& attack) {
  std::vector<std::string> known;
  for (const Results& results : files) {
    for (const Record& record : results.records) {
      if (record.metric == kRemoval && !IsOneOf(record.attack, known)) {
        known.push_back(record.attack);
      }
    }
  }
  if (IsOneOf(attack, known)) return;
  throw UsageError(fmt::format("--attack={}: no file has the rate '{}' under it.{}", attack,
                               kRemoval, DidYouMeanOrKnown(attack, known)));
}

// Ranks from 1, the best first; of ties the middle.
Values RanksOf(const Values& values) {
  Values ranks(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    double better = 0, equal = 0;
    for (const double other : values) {
      better += other > values[i];
      equal += other == values[i];
    }
    ranks[i] = 1 + better + (equal - 1) / 2;
  }
  return ranks;
}

// The mean over the concepts that `drawn` names, of one run.
Values MeanOver(const std::vector<Values>& concepts, const std::vector<size_t>& drawn) {
  Values mean(concepts.front().size(), 0.0);
  for (const size_t one : drawn) {
    for (size_t m = 0; m < mean.size(); ++m) {
      mean[m] += concepts[one][m] / static_cast<double>(drawn.size());
    }
  }
  return mean;
}

Interval Percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) {
    return values[static_cast<size_t>(std::llround(p * static_cast<double>(values.size() - 1)))];
  };
  return {at(0.025), at(0.975)};
}

// The concepts themselves, then the resamples of them: the same for every metric.
std::vector<std::vector<size_t>> Draws(size_t concepts) {
  std::vector<std::vector<size_t>> draws(1 + kResamples, std::vector<size_t>(concepts));
  std::iota(draws.front().begin(), draws.front().end(), size_t{0});
  Philox rng({.seed = 1, .id = "ranks/bootstrap", .stream = Stream::kOrder});
  for (size_t d = 1; d < draws.size(); ++d) {
    for (size_t& one : draws[d]) one = rng.Below(concepts);
  }
  return draws;
}

// `mean(draw)`: the mean tau of a draw of concepts with how many pairs it is over, the first of
// them of the concepts as they are.
template <class MeanTau>
Agreement AgreementOver(const std::vector<std::vector<size_t>>& draws, const MeanTau& mean) {
  Agreement agreement;
  std::vector<double> drawn;
  for (size_t d = 0; d < draws.size(); ++d) {
    const std::pair<double, int64_t> found = mean(draws[d]);
    if (d == 0) {
      agreement.tau = found.first;
      agreement.pairs = found.second;
      if (found.second == 0) return agreement;
    } else if (found.second > 0) {
      drawn.push_back(found.first);
    }
  }
  agreement.ci = Percentiles(std::move(drawn));
  return agreement;
}

// Sums what is defined.
struct MeanOfTaus {
  double sum = 0;
  int64_t pairs = 0;
  void Add(const std::optional<double>& tau) {
    if (!tau) return;
    sum += *tau;
    ++pairs;
  }
  std::pair<double, int64_t> Get() const {
    return {pairs > 0 ? sum / static_cast<double>(pairs) : 0, pairs};
  }
};

Agreement OverConcepts(const Cube& cube, const std::vector<std::vector<size_t>>& draws) {
  const size_t n = cube.front().size();
  std::vector<std::vector<std::optional<double>>> taus;  // [run][concept * n + concept]
  for (const std::vector<Values>& run : cube) {
    taus.emplace_back(n * n);
    for (size_t a = 0; a < n; ++a) {
      for (size_t b = 0; b < n; ++b) taus.back()[a * n + b] = KendallTauB(run[a], run[b]);
    }
  }
  return AgreementOver(draws, [&](const std::vector<size_t>& drawn) {
    MeanOfTaus mean;
    for (const auto& run : taus) {
      for (size_t i = 0; i < drawn.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          // A concept that is drawn twice says nothing about others.
          if (drawn[i] != drawn[j]) mean.Add(run[drawn[i] * n + drawn[j]]);
        }
      }
    }
    return mean.Get();
  });
}

template <class Differ>
Agreement OverRuns(const Cube& cube, const std::vector<RankedRun>& runs,
                   const std::vector<std::vector<size_t>>& draws, const Differ& differ) {
  return AgreementOver(draws, [&](const std::vector<size_t>& drawn) {
    MeanOfTaus mean;
    for (size_t a = 0; a < runs.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        if (!differ(runs[a], runs[b])) continue;
        mean.Add(KendallTauB(MeanOver(cube[a], drawn), MeanOver(cube[b], drawn)));
      }
    }
    return mean.Get();
  });
}

// The mean rank of every method, with its interval.
std::vector<MethodRank> RankEach(const Cube& cube, const std::vector<std::vector<size_t>>& draws) {
  const size_t methods = cube.front().front().size();
  const size_t concepts = cube.front().size();
  std::vector<Values> ranks(concepts, Values(methods, 0.0)), values = ranks;  // mean over runs
  const double runs = static_cast<double>(cube.size());
  for (const std::vector<Values>& run : cube) {
    for (size_t c = 0; c < concepts; ++c) {
      const Values own = RanksOf(run[c]);
      for (size_t m = 0; m < methods; ++m) {
        ranks[c][m] += own[m] / runs;
        values[c][m] += run[c][m] / runs;
      }
    }
  }
  std::vector<std::vector<double>> drawn(methods);
  for (size_t d = 1; d < draws.size(); ++d) {
    const Values mean = MeanOver(ranks, draws[d]);
    for (size_t m = 0; m < methods; ++m) drawn[m].push_back(mean[m]);
  }
  const Values value = MeanOver(values, draws.front()), rank = MeanOver(ranks, draws.front());
  std::vector<MethodRank> all;
  for (size_t m = 0; m < methods; ++m) {
    all.push_back({value[m], rank[m], Percentiles(std::move(drawn[m]))});
  }
  return all;
}

// Fills concepts, methods and what is left out.
void Choose(const std::vector<Results>& files, const std::vector<ScoresOfFile>& scores,
            Ranks* ranks) {
  std::vector<std::string> concepts, methods, references;
  for (const Results& results : files) {
    for (const Json& name : results.experiment.at("reference_rows")) references.push_back(name);
    for (const Record& record : results.records) {
      const bool whole = record.subject == kAllConcepts;
      if (!whole && !IsOneOf(record.subject, concepts)) concepts.push_back(record.subject);
      const bool ranked = record.method != "none" && !IsOneOf(record.method, references);
      if (ranked && !IsOneOf(record.method, methods)) methods.push_back(record.method);
    }
  }
  const auto in_all = [&](const std::string& concept_name, const std::string& method) {
    return std::all_of(scores.begin(), scores.end(), [&](const ScoresOfFile& file) {
      return file.count({concept_name, method}) != 0;
    });
  };
  for (const std::string& one : concepts) {
    const bool any = std::any_of(methods.begin(), methods.end(),
                                 [&](const std::string& method) { return in_all(one, method); });
    if (any) {
      ranks->concepts.push_back(one);
    } else {
      ranks->left_out[one] = "no method has its removal and retention in every run";
    }
  }
  for (const std::string& method : methods) {
    std::vector<std::string> lacking;
    for (const std::string& one : ranks->concepts) {
      if (!in_all(one, method)) lacking.push_back(one);
    }
    if (lacking.empty()) {
      ranks->methods.push_back(method);
    } else {
      ranks->left_out[method] =
          fmt::format("it has no removal or no retention of {} in some run", Joined(lacking, ", "));
    }
  }
  if (ranks->methods.size() < 2 || ranks->concepts.size() < 2) {
    throw UsageError(
        fmt::format("ranks: {} and {} have values in all files; at least two of each are needed.",
                    fmt::format("{} methods", ranks->methods.size()),
                    fmt::format("{} concepts", ranks->concepts.size())));
  }
}

Cube CubeOf(const Ranks& ranks, const std::vector<ScoresOfFile>& scores, size_t metric) {
  Cube cube;
  for (const ScoresOfFile& file : scores) {
    std::vector<Values> run;
    for (const std::string& one : ranks.concepts) {
      Values values;
      for (const std::string& method : ranks.methods) {
        values.push_back(file.at({one, method})[metric]);
      }
      run.push_back(std::move(values));
    }
    cube.push_back(std::move(run));
  }
  return cube;
}

}  // namespace

Ranks RankMethods(const std::vector<Results>& files, const std::string& attack) {
  if (files.empty()) throw UsageError("ranks: no results file was named.");
  Ranks ranks;
  ranks.attack = attack;
  ranks.runs = RunsOf(files);
  RequireAttack(files, attack);
  std::vector<ScoresOfFile> scores;
  for (const Results& results : files) scores.push_back(ReadScores(results, attack));
  Choose(files, scores, &ranks);
  const std::vector<std::vector<size_t>> draws = Draws(ranks.concepts.size());
  for (size_t metric = 0; metric < std::size(kMetrics); ++metric) {
    const Cube cube = CubeOf(ranks, scores, metric);
    MetricRanks one{kMetrics[metric], RankEach(cube, draws), OverConcepts(cube, draws), {}, {}};
    one.over_seeds = OverRuns(cube, ranks.runs, draws, [](const auto& a, const auto& b) {
      return a.guidance == b.guidance && a.erase_seed != b.erase_seed;
    });
    one.over_guidance = OverRuns(cube, ranks.runs, draws, [](const auto& a, const auto& b) {
      return a.guidance != b.guidance && a.erase_seed == b.erase_seed;
    });
    ranks.metrics.push_back(std::move(one));
  }
  return ranks;
}

namespace {

Json AgreementToJson(const Agreement& agreement) {
  if (agreement.pairs == 0) return nullptr;
  return {{"tau", agreement.tau},
          {"low", agreement.ci.low},
          {"high", agreement.ci.high},
          {"pairs", agreement.pairs}};
}

}  // namespace

Json RanksToJson(const Ranks& ranks) {
  Json runs = Json::array(), metrics = Json::array();
  for (const RankedRun& run : ranks.runs) {
    runs.push_back({{"erase_seed", run.erase_seed}, {"guidance", run.guidance}});
  }
  for (const MetricRanks& metric : ranks.metrics) {
    Json methods = Json::array();
    for (size_t m = 0; m < ranks.methods.size(); ++m) {
      const MethodRank& one = metric.methods[m];
      methods.push_back({{"method", ranks.methods[m]},
                         {"value", one.value},
                         {"rank", one.rank},
                         {"low", one.ci.low},
                         {"high", one.ci.high}});
    }
    metrics.push_back({{"metric", metric.metric},
                       {"methods", std::move(methods)},
                       {"over_concepts", AgreementToJson(metric.over_concepts)},
                       {"over_erase_seeds", AgreementToJson(metric.over_seeds)},
                       {"over_guidance", AgreementToJson(metric.over_guidance)}});
  }
  return {{"attack", ranks.attack},     {"runs", std::move(runs)},
          {"concepts", ranks.concepts}, {"metrics", std::move(metrics)},
          {"left_out", ranks.left_out}, {"statistic", "Kendall's tau-b"}};
}

}  // namespace excise
