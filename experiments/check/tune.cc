#include "experiments/check/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/stopwatch.h"
#include "core/text.h"
#include "experiments/check/draw_trials.h"
#include "experiments/check/trial_scores.h"
#include "experiments/lab/lab.h"
#include "experiments/lab/selection.h"
#include "methods/method.h"

namespace excise {
namespace {

constexpr const char* kTarget = "asr";
constexpr const char* kKept = "retention";
constexpr const char* kCost = "cost";
constexpr const char* kNotRun = "not run yet";

// What is selected, sorted. Plug-ins that need a file of the user's have no trials unless they are
// named; rows of the user's own have none.
template <class Base>
std::vector<std::string> Tunable(const Selection& selection,
                                 const std::vector<std::string>& left_out) {
  const Registry<Base>& registry = Registry<Base>::Get();
  std::vector<std::string> names;
  for (const std::string& name : ChosenNames(selection, Base::kKind, {}, registry.Names())) {
    const bool apart = name == kUnmodified || IsOneOf(name, left_out) || !registry.Contains(name);
    if (apart || (selection.only.empty() && !MissingSetting(*registry.Make(name)).empty())) {
      continue;
    }
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Score> ScoresOf(const RunScores& scores, const std::string& method,
                            const std::string& attack, const char* metric) {
  const auto found = scores.cells.find({method, attack, metric});
  return found == scores.cells.end() ? std::vector<Score>() : found->second;
}

// The row that never saw the concepts.
std::string FloorOf(const Experiment& experiment) {
  for (const std::string& name : experiment.reference_rows) {
    const auto uses = Registry<Method>::Get().Make(name)->traits().uses;
    if (IsOneOf("training_data", uses)) return name;
  }
  throw UsageError(fmt::format(
      "{}: attacks are tuned by recovery, which needs a row that never saw the concepts among "
      "\"reference_rows\", as 'retrained'.",
      experiment.name));
}

int64_t GradientSteps(const std::string& method, const std::vector<RunScores>& by_seed) {
  double steps = 0, n = 0;
  for (const RunScores& scores : by_seed) {
    for (const Score& cost : ScoresOf(scores, method, kUnmodified, kCost)) {
      const auto found = cost.parts.find("gradient_steps");
      steps += found == cost.parts.end() ? 0 : found->second;
      ++n;
    }
  }
  return n == 0 ? 0 : std::llround(steps / n);
}

void Fail(const std::string& problem, Trial* trial) {
  trial->failed = true;
  trial->parts = {{"problem", problem}};
}

void JudgeMethod(const std::string& name, const TuneRequest& request,
                 const std::vector<RunScores>& by_seed, Trial* trial) {
  Count target, garbage, kept;
  std::map<std::string, Count> groups;
  Json seeds = Json::array();
  for (size_t i = 0; i < by_seed.size(); ++i) {
    const std::vector<Score> retention = ScoresOf(by_seed[i], name, kUnmodified, kKept);
    const std::vector<Score> rates = ScoresOf(by_seed[i], name, kUnmodified, kTarget);
    const Count t = CountOf(rates), k = CountOf(retention);
    target.Add(t);
    garbage.Add(CountOfShare(rates, OutcomeName(Outcome::kGarbage)));
    kept.Add(k);
    for (const char* group : {"near", "far", "lexical"}) {
      groups[group].Add(CountOfPart(retention, group));
    }
    seeds.push_back({{"erase_seed", request.erase_seeds[i]},
                     {"target", CountToJson(t)},
                     {"kept", CountToJson(k)}});
  }
  if (target.n == 0 || kept.n == 0) return Fail("no picture was scored", trial);
  const Count removed = {target.n - target.hits - garbage.hits, target.n};
  trial->parts = {{"target", CountToJson(target)},
                  {"garbage", CountToJson(garbage)},
                  {"removed", CountToJson(removed)},
                  {"kept", CountToJson(kept)},
                  {"by_seed", std::move(seeds)}};
  for (const auto& [group, count] : groups) trial->parts[group] = CountToJson(count);
  trial->score = HarmonicMean(removed.Rate(), kept.Rate());
  trial->gradient_steps = GradientSteps(name, by_seed);
}

// An attack and what its recovery is held against.
struct Contest {
  std::string attack, plain_form;  // "": it is no adaptive form of another one
  std::string floor;
  std::vector<std::string> methods;
};

void JudgeAttack(const Contest& contest, const std::vector<RunScores>& by_seed, Trial* trial) {
  RecoveryCount all;
  std::map<std::string, RecoveryCount> by_method;
  const auto of_floor = [&](const std::string& attack) {
    return ScoresOf(by_seed.front(), contest.floor, attack, kTarget);
  };
  const std::vector<Score> plain_floor = of_floor(kUnmodified);
  std::vector<Score> floor = of_floor(contest.attack);
  // One that finds nothing to adapt to is its plain form.
  if (floor.empty()) floor = of_floor(contest.plain_form);
  for (const RunScores& scores : by_seed) {
    for (const std::string& method : contest.methods) {
      const RecoveryCount count =
          CountRecovery(ScoresOf(scores, method, kUnmodified, kTarget),
                        ScoresOf(scores, method, contest.attack, kTarget), plain_floor, floor);
      by_method[method].Add(count);
      all.Add(count);
    }
  }
  if (all.n == 0) return Fail("no prompt is without the concept before the attack", trial);
  trial->parts = RecoveryToJson(all);
  for (const auto& [method, count] : by_method) {
    trial->parts["by_method"][method] = RecoveryToJson(count);
  }
  trial->score = all.Value();
}

class Tuner {
 public:
  Tuner(const TuneRequest& request, std::vector<Tuning> known, const RunTrial& run,
        const SaveTunings& save)
      : request_(request), run_(run), save_(save), all_(std::move(known)) {}

  std::vector<Tuning> All() {
    const Experiment& base = request_.experiment;
    std::vector<std::string> attacks = Tunable<Attack>(base.attacks, {});
    if (!attacks.empty()) FloorOf(base);  // before hours of work
    for (const std::string& name : TunedMethods(base)) TuneMethod(name);
    std::stable_partition(attacks.begin(), attacks.end(), [](const std::string& name) {
      return Registry<Attack>::Get().Make(name)->adaptive_form_of().empty();
    });
    for (const std::string& name : attacks) TuneAttack(name);
    return std::move(all_);
  }

 private:
  // `first`: with the first seed of removal, on which reference rows do not depend.
  using Place = std::function<Experiment(const Json& params, bool first)>;
  using Judge = std::function<void(const std::vector<RunScores>& by_seed, Trial* trial)>;

  const Tuning* Find(const std::string& kind, const std::string& name) const {
    const auto is = [&](const Tuning& t) { return t.kind == kind && t.name == name; };
    const auto found = std::find_if(all_.begin(), all_.end(), is);
    return found == all_.end() ? nullptr : &*found;
  }

  // The trials of `fresh`: what was found before of the same settings, the others still to be run.
  Tuning* Begin(Tuning fresh, const std::vector<Json>& settings) {
    for (const Json& params : settings) {
      fresh.trials.emplace_back();
      fresh.trials.back().params = params;
      Fail(kNotRun, &fresh.trials.back());
    }
    const auto is = [&](const Tuning& t) { return t.kind == fresh.kind && t.name == fresh.name; };
    const auto old = std::find_if(all_.begin(), all_.end(), is);
    if (old == all_.end()) {
      all_.push_back(std::move(fresh));
      return &all_.back();
    }
    size_t kept = 0;
    if (old->version == fresh.version && old->against == fresh.against) {
      fresh.made_on = old->made_on;
      for (Trial& trial : fresh.trials) {
        for (const Trial& known : old->trials) {
          if (known.failed || known.params != trial.params) continue;
          trial = known;
          ++kept;
        }
      }
    }
    if (kept < old->trials.size()) {
      LogInfo(fmt::format(
          "tune {}: of {} earlier trials {} stand; the others failed, or are of another version, "
          "search space or choice of methods",
          fresh.name, old->trials.size(), kept));
    }
    *old = std::move(fresh);
    return &*old;
  }

  template <class Base>
  std::vector<Json> Settings(const Selection& selection, const std::string& name, Json shared,
                             Tuning* tuning) {
    const std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
    const auto given = selection.params.find(name);
    if (given != selection.params.end()) DecodeParams(given->second, *plugin, name);
    DecodeParams(shared, *plugin, name);
    tuning->kind = Base::kKind;
    tuning->name = name;
    tuning->version = plugin->version();
    tuning->space = plugin->search_space();
    return DrawTrials(*plugin, plugin->presets(), name, tuning->space, request_.trials,
                      request_.seed);
  }

  void TuneMethod(const std::string& name) {
    Tuning fresh;
    const std::vector<Json> settings =
        Settings<Method>(request_.experiment.methods, name, Json::object(), &fresh);
    RunTrials(
        std::move(fresh), settings,
        [&](const Json& params, bool /*first*/) {
          Experiment e = request_.experiment;
          const auto more = request_.more_prompts.find(name);
          if (more != request_.more_prompts.end()) {
            for (int64_t* n :
                 {&e.prompts.target, &e.prompts.near, &e.prompts.far, &e.prompts.lexical}) {
              *n *= more->second;
            }
          }
          e.methods.only = {name};
          e.methods.params[name] = params;
          e.attacks.only = {kUnmodified};
          e.metrics.only = {kTarget, kKept, kCost};
          return e;
        },
        [&](const std::vector<RunScores>& by_seed, Trial* trial) {
          JudgeMethod(name, request_, by_seed, trial);
        });
  }

  // The tuned methods that attacks meet: those that edit the model or how it draws.
  Json Against() const {
    Json against = Json::object();
    for (const Tuning& tuning : all_) {
      if (tuning.kind != Method::kKind || !tuning.complete) continue;
      const Acts acts = Registry<Method>::Get().Make(tuning.name)->traits().acts;
      if (acts != Acts::kOnPictures) against[tuning.name] = tuning.trials[tuning.chosen].params;
    }
    return against;
  }

  // What an adaptive form shares with the attack that it adapts is tuned there.
  Json SharedWith(const std::string& plain_form) const {
    Json shared = Json::object();
    const Tuning* plain = Find(Attack::kKind, plain_form);
    if (plain == nullptr || !plain->complete) return shared;
    for (const auto& [field, values] : plain->space) {
      shared[field] = plain->trials[plain->chosen].params.at(field);
    }
    return shared;
  }

  void TuneAttack(const std::string& name) {
    Tuning fresh;
    Contest contest;
    contest.attack = name;
    contest.plain_form = Registry<Attack>::Get().Make(name)->adaptive_form_of();
    const std::vector<Json> settings =
        Settings<Attack>(request_.experiment.attacks, name, SharedWith(contest.plain_form), &fresh);
    if (fresh.space.empty()) return;
    fresh.against = Against();
    if (fresh.against.empty()) {
      throw UsageError(fmt::format(
          "tune {}: no method is tuned yet. Attacks are run on the tuned methods: tune these "
          "first, into the same file.",
          name));
    }
    contest.floor = FloorOf(request_.experiment);
    for (const auto& [method, params] : fresh.against.items()) contest.methods.push_back(method);
    const Json against = fresh.against;
    RunTrials(
        std::move(fresh), settings,
        [&](const Json& params, bool first) { return Under(contest, against, params, first); },
        [&](const std::vector<RunScores>& by_seed, Trial* trial) {
          JudgeAttack(contest, by_seed, trial);
        });
  }

  Experiment Under(const Contest& contest, const Json& against, const Json& params,
                   bool first) const {
    Experiment e = request_.experiment;
    // An adaptive form meets few methods, those that offer something to adapt to.
    if (contest.plain_form.empty()) {
      e.prompts.target = std::min(e.prompts.target, request_.attack_prompts);
    }
    e.prompts.near = e.prompts.far = e.prompts.lexical = 0;
    if (!request_.attack_concepts.empty()) e.concepts = request_.attack_concepts;
    e.methods.only = contest.methods;
    if (first) e.methods.only.push_back(contest.floor);
    for (const auto& [method, chosen] : against.items()) e.methods.params[method] = chosen;
    e.attacks.only = {contest.attack};
    e.attacks.params[contest.attack] = params;
    if (!contest.plain_form.empty()) {
      e.attacks.only.push_back(contest.plain_form);
      Json plain = EncodeParams(*Registry<Attack>::Get().Make(contest.plain_form));
      for (const auto& [field, value] : plain.items()) {
        if (params.contains(field)) e.attacks.params[contest.plain_form][field] = params[field];
      }
    }
    e.metrics.only = {kTarget};
    return e;
  }

  void RunTrials(Tuning fresh, const std::vector<Json>& settings, const Place& place,
                 const Judge& judge) {
    Tuning* tuning = Begin(std::move(fresh), settings);
    Progress progress("tune " + tuning->name, static_cast<int64_t>(settings.size()), "trials");
    for (Trial& trial : tuning->trials) {
      if (trial.failed) {
        trial = RunOne(tuning, trial.params, place, judge);
        save_(all_);
      }
      progress.Advance();
    }
    const auto failed = [](const Trial& trial) { return trial.failed; };
    tuning->complete = !std::all_of(tuning->trials.begin(), tuning->trials.end(), failed);
    if (tuning->complete) tuning->chosen = ChooseTrial(tuning->trials);
    save_(all_);
  }

  Trial RunOne(Tuning* tuning, const Json& params, const Place& place, const Judge& judge) {
    const Stopwatch watch;
    Trial trial;
    trial.params = params;
    std::vector<RunScores> by_seed;
    bool planned = false;
    for (const int64_t seed : request_.erase_seeds) {
      Experiment experiment = place(params, by_seed.empty());
      experiment.seeds.erase = seed;
      experiment.seeds.more_erase.clear();
      by_seed.push_back(run_(tuning->name, experiment));
      planned = planned || by_seed.back().planned;
      if (!by_seed.back().problem.empty()) {
        Fail(by_seed.back().problem, &trial);
        LogWarning(fmt::format("tune {}: {}", tuning->name, by_seed.back().problem));
        break;
      }
    }
    if (!trial.failed && !planned) judge(by_seed, &trial);
    trial.seconds = watch.Seconds();
    const auto& made_on = tuning->made_on;
    if (std::find(made_on.begin(), made_on.end(), request_.provenance) == made_on.end()) {
      tuning->made_on.push_back(request_.provenance);
    }
    return trial;
  }

  const TuneRequest& request_;
  const RunTrial& run_;
  const SaveTunings& save_;
  std::vector<Tuning> all_;
};

}  // namespace

size_t ChooseTrial(const std::vector<Trial>& trials) {
  const auto better = [](const Trial& a, const Trial& b) {
    if (a.failed != b.failed) return b.failed;
    return a.score != b.score ? a.score > b.score : a.gradient_steps < b.gradient_steps;
  };
  const auto best = std::min_element(trials.begin(), trials.end(), better);
  if (best == trials.end() || best->failed) {
    throw Error("Tuning: every trial failed; the log says why.");
  }
  return static_cast<size_t>(best - trials.begin());
}

std::vector<std::string> TunedMethods(const Experiment& experiment) {
  return Tunable<Method>(experiment.methods, experiment.reference_rows);
}

std::vector<Tuning> TuneAll(const TuneRequest& request, std::vector<Tuning> known,
                            const RunTrial& run, const SaveTunings& save) {
  return Tuner(request, std::move(known), run, save).All();
}

}  // namespace excise
