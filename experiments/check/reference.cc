#include "experiments/check/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/escape.h"
#include "core/plural.h"
#include "core/progress.h"
#include "core/stats.h"
#include "experiments/check/check.h"
#include "experiments/results/record.h"
#include "experiments/run/offers.h"

namespace excise {
namespace {

// How far a rate may be off, to either side.
constexpr double kBand = 0.10;

bool IsRateOverAll(const Record& record) {
  return record.subject == kAllConcepts && record.status == "ok" &&
         record.traits.unit == "fraction" && MissingOf(record) == 0;
}

// The experiment and inputs that a comparison presumes.
Json Premise(const Results& results) {
  Json premise = {{"experiment", results.experiment}, {"inputs", results.inputs}};
  premise["experiment"]["seeds"].erase("erase");
  premise["inputs"].erase("numerics");
  return premise;
}

}  // namespace

Json ReferenceOf(const std::vector<Results>& runs) {
  Json records = Json::array();
  for (const Record& record : runs.at(0).records) {
    if (!IsRateOverAll(record)) continue;
    const std::string name = RecordName(record);
    std::vector<double> values;
    for (const Results& run : runs) {
      for (const Record& other : run.records) {
        if (RecordName(other) == name && other.status == "ok") values.push_back(other.score.value);
      }
    }
    if (values.size() != runs.size()) {
      throw Error(fmt::format("{} has a number with {} of {} seeds only.", name, values.size(),
                              runs.size()));
    }
    records.push_back({{"record", name},
                       {"values", values},
                       {"mean", MeanAndError(values).mean},
                       {"band", kBand}});
  }
  return {{"schema", 1}, {"premise", Premise(runs[0])}, {"records", std::move(records)}};
}

Json MakeReference(const Experiment& experiment, const Folders& folders, const Compute& compute,
                   Store& store, const RunOptions& options, int64_t seeds) {
  std::vector<Results> runs;
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    Experiment run = experiment;
    run.seeds.erase = seed;
    run.seeds.more_erase.clear();
    LogInfo(fmt::format("reference: erase seed {} of {}", seed, seeds));
    const std::unique_ptr<Lab> lab = OpenLab(run, folders, compute);
    LearnOffers(lab.get(), store, options.workers);
    RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, options);
    if (outcome.failures > 0) {
      throw Error(fmt::format("{} failed with erase seed {}; no reference is made.",
                              Plural(outcome.failures, "unit of work", "units of work"), seed));
    }
    runs.push_back(std::move(outcome.results));
  }
  return ReferenceOf(runs);
}

Json ReadReference(const std::filesystem::path& file) {
  const Json reference = ReadJsonFile(file);
  try {
    for (const Json& record : reference.at("records")) {
      record.at("record").get<std::string>();
      if (record.at("values").get<std::vector<double>>().size() < 2 ||
          record.at("band").get<double>() <= 0) {
        throw Error(fmt::format("{}: {} needs two values and a band above 0.", file.string(),
                                record.at("record").dump()));
      }
    }
    reference.at("premise").at("experiment");
    reference.at("premise").at("inputs");
  } catch (const Json::exception&) {
    throw Error(
        fmt::format("{}: not a reference file. --update_reference=3 writes one.", file.string()));
  }
  return reference;
}

std::vector<ReferenceOutcome> CompareWithReference(const Results& results, const Json& reference) {
  CheckReport premise;
  premise.lines = Differences("reference", reference.at("premise"), Premise(results));
  if (!premise.lines.empty()) {
    throw Error(
        "reference: this run is another experiment or reads other inputs, so its numbers cannot be "
        "held against the reference. Run the same profile (--profile=reference), or make the "
        "reference anew with --update_reference=3." +
        premise.Lines());
  }
  std::map<std::string, double> values;
  for (const Record& record : results.records) {
    if (IsRateOverAll(record)) values[RecordName(record)] = record.score.value;
  }
  std::vector<ReferenceOutcome> outcomes;
  for (const Json& record : reference.at("records")) {
    ReferenceOutcome outcome{record.at("record"), "not_run", "no number in this run"};
    const auto now = values.find(outcome.record);
    if (now != values.end()) {
      const auto seeds = record.at("values").get<std::vector<double>>();
      const MeanError mean = MeanAndError(seeds);
      // The spread of one seed, for the mean of the seeds and for this run.
      const double k = static_cast<double>(seeds.size());
      const double error = mean.standard_error * std::sqrt(k) * std::sqrt(1 / k + 1);
      const double band = record.at("band"), difference = now->second - mean.mean;
      outcome.verdict = error > band / 2                ? "underpowered"
                        : std::fabs(difference) <= band ? "reproduced"
                                                        : "differs";
      outcome.detail =
          fmt::format("{:.4f}, reference {:.4f} over {} seeds: {:+.4f}, SE {:.4f}, band {:.2f}",
                      now->second, mean.mean, seeds.size(), difference, error, band);
    }
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

std::string RenderReference(const std::vector<ReferenceOutcome>& outcomes) {
  std::map<std::string, int64_t> verdicts;
  std::string text;
  for (const ReferenceOutcome& o : outcomes) {
    ++verdicts[o.verdict];
    if (o.verdict == "reproduced") continue;
    text += fmt::format("\n  {} {}: {}", o.verdict, Escape(o.record, Format::kTerminal), o.detail);
  }
  std::vector<std::string> counts;
  for (const auto& [verdict, count] : verdicts) {
    counts.push_back(fmt::format("{} {}", count, verdict));
  }
  return fmt::format("reference: {}: {}.{}", Plural(outcomes.size(), "rate"),
                     fmt::join(counts, ", "), text);
}

}  // namespace excise
