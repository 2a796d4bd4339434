#include "experiments/check/tuning_log.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "experiments/check/draw_trials.h"
#include "experiments/check/trial_scores.h"
#include "methods/method.h"

namespace excise {
namespace {

constexpr int kSchema = 2;

Json TrialToJson(const Trial& trial) {
  return {{"params", trial.params},
          {"score", trial.failed ? Json() : Json(trial.score)},
          {"parts", trial.parts},
          {"gradient_steps", trial.gradient_steps},
          {"seconds", trial.seconds}};
}

Trial TrialFromJson(const Json& json) {
  Trial trial;
  trial.params = json.at("params");
  trial.failed = json.at("score").is_null();
  if (!trial.failed) trial.score = json.at("score");
  trial.parts = json.at("parts");
  trial.gradient_steps = json.at("gradient_steps");
  trial.seconds = json.at("seconds");
  return trial;
}

Tuning TuningFromJson(const Json& json) {
  Tuning tuning;
  tuning.kind = json.at("kind");
  tuning.name = json.at("name");
  tuning.version = json.at("version");
  for (const auto& [field, values] : json.at("search_space").items()) {
    tuning.space[field] = values.get<std::vector<Json>>();
  }
  tuning.against = json.at("against");
  for (const Json& trial : json.at("trials")) tuning.trials.push_back(TrialFromJson(trial));
  tuning.chosen = json.at("chosen");
  tuning.complete = json.at("complete");
  tuning.made_on = json.at("made_on");
  if (tuning.chosen >= tuning.trials.size()) throw Error("'chosen' is no trial");
  return tuning;
}

std::string Percent(double share) { return fmt::format("{:.1f}", 100 * share); }

std::string PercentOf(const Json& count) {
  const Count read{count.at("hits").get<int64_t>(), count.at("n").get<int64_t>()};
  return Percent(read.Rate());
}

// What a score is made of, a column each.
std::vector<std::string> PartNames(const Tuning& tuning) {
  if (tuning.kind == Method::kKind) {
    return {"target left", "garbage", "kept", "near", "far", "lexical", "gradient steps"};
  }
  return {"shown", "by the floor", "of prompts"};
}

std::vector<std::string> PartsOf(const Tuning& tuning, const Trial& trial) {
  if (trial.parts.contains("problem") || trial.parts.empty()) {
    return std::vector<std::string>(PartNames(tuning).size(), "-");
  }
  std::vector<std::string> parts;
  if (tuning.kind == Method::kKind) {
    for (const char* part : {"target", "garbage", "kept", "near", "far", "lexical"}) {
      parts.push_back(PercentOf(trial.parts.at(part)));
    }
    parts.push_back(std::to_string(trial.gradient_steps));
    return parts;
  }
  for (const char* part : {"shown", "shown_by_floor", "n"}) {
    parts.push_back(std::to_string(trial.parts.at(part).get<int64_t>()));
  }
  return parts;
}

std::string Cells(const std::vector<std::string>& cells) {
  return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

std::string RenderTrials(const Tuning& tuning) {
  std::vector<std::string> head = {"trial"}, rule = {"--:"};
  for (const auto& [field, values] : tuning.space) {
    head.push_back(field);
    rule.push_back(":--");
  }
  for (const std::string& part : PartNames(tuning)) {
    head.push_back(part);
    rule.push_back("--:");
  }
  head.push_back("score");
  rule.push_back("--:");
  std::string text = Cells(head) + Cells(rule);
  for (size_t i = 0; i < tuning.trials.size(); ++i) {
    const Trial& trial = tuning.trials[i];
    std::vector<std::string> row = {std::to_string(i)};
    for (const auto& [field, values] : tuning.space) row.push_back(trial.params.at(field).dump());
    for (const std::string& part : PartsOf(tuning, trial)) row.push_back(part);
    const std::string score = trial.failed ? "failed" : Percent(trial.score);
    row.push_back(tuning.complete && i == tuning.chosen ? "**" + score + "**" : score);
    text += Cells(row);
  }
  return text;
}

std::string RenderTuning(const Tuning& tuning) {
  std::string text = fmt::format("\n## {} {}\n\n", tuning.kind, tuning.name);
  double seconds = 0;
  for (const Trial& trial : tuning.trials) seconds += trial.seconds;
  const auto tried = static_cast<int64_t>(tuning.trials.size());
  if (tuning.space.empty()) {
    text += "Nothing to tune: it is run so that attacks can be tuned on it.\n\n";
  } else if (const int64_t size = SizeOf(tuning.space); size <= tried) {
    text += fmt::format(
        "The whole search space ({}), and the paper's setting where it has one.\n\n", size);
  } else {
    text += fmt::format("{} of a search space of {}.\n\n", tried, size);
  }
  if (!tuning.complete) text += "Not complete: nothing is chosen yet.\n\n";
  text += RenderTrials(tuning);
  text += fmt::format("\n{:.2f} h", seconds / 3600);
  for (const Json& machine : tuning.made_on) {
    text += fmt::format("; {}, {} workers, commit {}", machine.value("host_cpu", "?"),
                        machine.value("workers", 0), machine.value("commit", "?"));
  }
  return text + ".\n";
}

}  // namespace

Json SetupOf(const TuneRequest& request) {
  return {{"rule", kTuningRule},
          {"experiment", ExperimentToJson(request.experiment)},
          {"trials", request.trials},
          {"seed", request.seed},
          {"erase_seeds", request.erase_seeds},
          {"attack_prompts", request.attack_prompts},
          {"attack_concepts", request.attack_concepts.empty() ? request.experiment.concepts
                                                              : request.attack_concepts}};
}

Json TuningLogToJson(const TuningLog& log) {
  Json plugins = Json::array();
  for (const Tuning& tuning : log.tunings) {
    Json trials = Json::array();
    for (const Trial& trial : tuning.trials) trials.push_back(TrialToJson(trial));
    plugins.push_back({{"kind", tuning.kind},
                       {"name", tuning.name},
                       {"version", tuning.version},
                       {"search_space", tuning.space},
                       {"against", tuning.against},
                       {"trials", std::move(trials)},
                       {"chosen", tuning.chosen},
                       {"complete", tuning.complete},
                       {"made_on", tuning.made_on}});
  }
  return {{"schema", kSchema}, {"setup", log.setup}, {"plugins", std::move(plugins)}};
}

TuningLog TuningLogFromJson(const Json& json, const std::string& origin) {
  try {
    if (json.at("schema") != kSchema) throw Error("its schema is another one");
    TuningLog log{json.at("setup"), {}};
    for (const Json& plugin : json.at("plugins")) log.tunings.push_back(TuningFromJson(plugin));
    return log;
  } catch (const std::exception& error) {
    throw Error(fmt::format(
        "{}: no log of trials that this version reads ({}). Move it away, or name another file "
        "with --out.",
        origin, error.what()));
  }
}

std::vector<Tuning> TuningsToGoOnWith(const std::filesystem::path& file, const Json& setup) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return {};
  TuningLog log = TuningLogFromJson(ReadJsonFile(file), file.string());
  if (log.tunings.empty()) return {};
  const bool attacked = std::any_of(log.tunings.begin(), log.tunings.end(),
                                    [](const Tuning& t) { return t.kind == "attack"; });
  for (const auto& [field, value] : setup.items()) {
    const Json was = log.setup.value(field, Json());
    // How attacks are tried says nothing about methods.
    if (!attacked && StartsWith(field, "attack_")) continue;
    // More trials go on where fewer ended: they are drawn in one order.
    if (was == value || (field == "trials" && was < value)) continue;
    throw Error(fmt::format(
        "{}: its trials are of another setup ('{}' differs), and are not comparable with these. "
        "Move it away, or name another file with --out.",
        file.string(), field));
  }
  return std::move(log.tunings);
}

std::string RenderTunings(const TuningLog& log, const std::string& figure) {
  std::string text = fmt::format(
      "# Tuned defaults\n\n{}\n\nRates in %. `target left`, `garbage` (of the same pictures) and "
      "`kept` are of all concepts and seeds of removal; `near`, `far` and `lexical` are parts of "
      "`kept`. Of an "
      "attack: of the prompts that neither the edited models nor the floor shows without attack, "
      "how many each shows under it. How this works: [docs/tuning.md](../../docs/tuning.md).\n",
      kTuningRule);
  if (log.tunings.empty()) {
    return text + "\nThere are no trials by this rule yet: `bazel run //experiments:tune`.\n";
  }
  if (!figure.empty()) {
    text += fmt::format(
        "\n![removal against retention, a dot a trial]({})\n\nA dot a trial; the diamond is the "
        "choice; the dashed line is the front; on the thin curve every point has the choice's "
        "score.\n",
        figure);
  }
  for (const Tuning& tuning : log.tunings) text += RenderTuning(tuning);
  return text;
}

}  // namespace excise
