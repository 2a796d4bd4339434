#include "experiments/run/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/escape.h"
#include "core/plural.h"
#include "experiments/lab/removals.h"
#include "experiments/run/key_changes.h"

namespace excise {
namespace {

constexpr double kShort = 10;       // seconds of a run about which nobody asks
constexpr double kMeasuring = 0.6;  // seconds that measuring takes

// A unit of work of a stage: its plug-in's name, its key, and what it computes.
struct Planned {
  std::string stage, plugin;
  Json key;
  Work work;
};

// Of concepts that are removed together about as much as of each alone: most methods draw or read
// something for every one. What is trained in as many steps for all of them takes less.
Work RemovalWork(const Lab& lab, const Removal& removal) {
  const Method& method = *lab.methods[removal.method].plugin;
  Work work = method.work();
  if (!method.traits().reads_concepts) return work;
  const size_t concepts = RemovedTogether(lab, removal.method, removal.subject).size();
  for (Passes& passes : work) passes.calls *= static_cast<double>(concepts);
  return work;
}

Work WorkForOne(const Lab& lab, const Crafting& crafting) {
  const Acts victim = lab.methods[crafting.method].plugin->traits().acts;
  // The unmodified model draws what the seed prompt asks for: the first answer ends the search.
  const AttackTraits traits = lab.TraitsOf(crafting.attack);
  if (traits.queries > 0 && traits.per == AttackTraits::Per::kPrompt &&
      crafting.method == lab.unmodified) {
    return {{Pass::kPicture, 1, 1}};
  }
  return lab.attacks[crafting.attack].plugin->work(victim);
}

// Of a prompt that is crafted in one pass with `together` - 1 others: its share of the pass, which
// has a row for every lane.
Work CraftingWork(const Lab& lab, const Crafting& crafting, size_t together) {
  const auto lanes = static_cast<double>(lab.TraitsOf(crafting.attack).lanes);
  Work work = WorkForOne(lab, crafting);
  for (Passes& passes : work) {
    passes.calls /= static_cast<double>(together);
    passes.rows *= lanes;
  }
  return work;
}

Work DrawingWork(const Lab& lab, const Unit& unit) {
  const auto n = static_cast<double>(unit.prompts.size());
  // Of a quadruplet both texts and both pictures.
  if (IsEmbeddedGroup(unit.group)) return {{Pass::kText, 1, 2 * n}, {Pass::kVision, 1, 2 * n}};
  if (lab.MadeElsewhere(unit.method)) return {};
  const MethodTraits traits = lab.methods[unit.method].plugin->traits();
  // A filter reads the unmodified model's pictures of the same prompts.
  if (traits.acts == Acts::kOnPictures && !lab.ForEachMethod(unit.attack)) {
    return {{Pass::kVision, 1, n}};
  }
  const auto batch = static_cast<double>(lab.experiment.sampler.unit_size);  // padded
  return DrawingWork(lab.experiment.sampler, traits.streams, batch, batch);
}

// Who reads pictures reads them through an image tower; others read what the judge said.
Work ScoringWork(const Lab& lab, size_t metric, const std::vector<const Unit*>& units) {
  if (lab.metrics[metric].plugin->traits().models.empty()) return {};
  double samples = 0;
  for (const Unit* unit : units) {
    if (!IsEmbeddedGroup(unit->group)) samples += static_cast<double>(unit->prompts.size());
  }
  const auto batch = static_cast<double>(lab.experiment.sampler.unit_size);
  return {{Pass::kVision, samples / batch, batch}};
}

std::vector<Planned> AllWork(const Lab& lab, const Grid& grid) {
  std::vector<Planned> work;
  for (const Removal& r : grid.removals()) {
    work.push_back({"erase", lab.methods[r.method].name, EraseKey(lab, r.method, r.subject),
                    RemovalWork(lab, r)});
  }
  for (const std::vector<size_t>& pass : grid.CraftedTogether()) {
    for (const size_t i : pass) {
      const Crafting& c = grid.craftings()[i];
      const bool whole = lab.TraitsOf(c.attack).per == AttackTraits::Per::kConcept;
      work.push_back({"attack", lab.attacks[c.attack].name,
                      whole ? LearnKey(lab, c.attack, c.method, c.subject)
                            : AttackKey(lab, c.attack, c.method, c.subject, grid.PromptOf(c)),
                      CraftingWork(lab, c, whole ? 1 : pass.size())});
    }
  }
  for (const Unit& unit : grid.units()) {
    work.push_back({"generate", lab.methods[unit.method].name, unit.key, DrawingWork(lab, unit)});
  }
  const auto batch = static_cast<double>(lab.experiment.sampler.unit_size);
  for (const Unit& unit : grid.units()) {
    if (IsEmbeddedGroup(unit.group)) continue;
    work.push_back(
        {"judge", lab.methods[unit.method].name, unit.verdict_key, {{Pass::kJudge, 1, batch}}});
  }
  for (const Cell& cell : grid.cells()) {
    if (!lab.methods[cell.method].not_applicable.empty()) continue;
    const CellUnits all = OverAll(grid.UnitsOfCell(cell));
    work.push_back({"score", lab.metrics[cell.metric].name,
                    ScoreKey(lab, cell.metric, all.units, all.base),
                    ScoringWork(lab, cell.metric, all.units)});
  }
  return work;
}

// Of one latent through the U-Net once.
int64_t UNetEvaluations(const StagePlan& stage) {
  double rows = 0;
  for (const Work& work : stage.missing) {
    for (const Passes& passes : work) {
      if (passes.pass == Pass::kUNet || passes.pass == Pass::kUNetGradient) {
        rows += passes.calls * passes.rows;
      }
    }
  }
  return std::llround(rows);
}

double StageSeconds(const StagePlan& stage, const PassTimes& times, const RunOptions& options) {
  std::vector<double> units;
  for (const Work& work : stage.missing) units.push_back(times.Seconds(work));
  return WallSeconds(units, options.workers * static_cast<int>(options.shard.count));
}

}  // namespace

Plan MakePlan(const Lab& lab, const Grid& grid, const std::function<bool(const Json&)>& is_stored) {
  Plan plan;
  std::set<std::string> seen;  // a removal for all concepts, say, is computed once
  for (const Planned& work : AllWork(lab, grid)) {
    if (!seen.insert(Store::Digest(work.key)).second) continue;
    StagePlan& stage = plan[work.stage];
    if (is_stored(work.key)) {
      ++stage.stored;
    } else {
      stage.missing.push_back(InModelPasses(lab.experiment.sampler, work.work));
    }
  }
  return plan;
}

PassTimes MeasureFor(const Lab& lab, const Plan& plan, const RunOptions& options) {
  std::set<Pass> passes;
  for (const auto& [name, stage] : plan) {
    for (const Work& work : stage.missing) {
      for (const Passes& some : work) passes.insert(some.pass);
    }
  }
  if (passes.empty()) return {};
  // The U-Net takes more than a third of what is not short.
  const bool draws = passes.count(Pass::kUNet) != 0;
  const PassTimes rough =
      MeasurePasses(lab, draws ? std::set<Pass>{Pass::kUNet} : passes, options.workers, 0);
  if (MakeForecast(plan, rough, options).Total() < kShort / 3) return rough;
  return MeasurePasses(lab, passes, options.workers, kMeasuring);
}

Forecast MakeForecast(const Plan& plan, const PassTimes& times, const RunOptions& options) {
  std::vector<std::pair<std::string, double>> stages;
  for (const std::string& name : StageNames()) {
    const auto stage = plan.find(name);
    const double seconds = stage == plan.end() ? 0 : StageSeconds(stage->second, times, options);
    // Each unit is judged where it was drawn.
    if (name == "judge") {
      stages.back().second += seconds;
    } else {
      stages.emplace_back(name, seconds);
    }
    if (name == options.stage) break;
  }
  return Forecast(std::move(stages));
}

std::string ForecastLine(const Lab& lab, const Forecast& forecast, int workers) {
  const std::string name =
      fmt::format("{} (profile {})", lab.experiment.name, lab.experiment.profile);
  if (forecast.Total() == 0) return name + ": everything is stored; seconds";
  if (forecast.Total() < kShort) return name + ": seconds";
  return fmt::format("{}: about {} here, with {}", name, InWords(forecast.Total()),
                     Plural(workers, "worker"));
}

std::string DescribePlan(const Lab& lab, const Grid& grid, const Plan& plan,
                         const RunOptions& options) {
  const PassTimes times = MeasureFor(lab, plan, options);
  std::string text = fmt::format(
      "{}: {} x {} x {}, {}: {}\n\n", lab.experiment.name, Plural(lab.Rows().size(), "method"),
      Plural(lab.attacks.size(), "attack"), Plural(lab.concepts.size(), "concept"),
      Plural(lab.metrics.size(), "metric"), Plural(grid.cells().size(), "cell"));
  for (const std::vector<std::string>& together : lab.experiment.removals) {
    text += fmt::format("removed together, by one edit: {}\n", fmt::join(together, ", "));
  }
  for (const size_t row : lab.Rows()) {
    if (!lab.methods[row].removals) continue;
    for (const std::vector<std::string>& together : *lab.methods[row].removals) {
      text += fmt::format("{}: removed together, by one edit: {}\n", lab.methods[row].name,
                          fmt::join(together, ", "));
    }
  }
  if (!lab.experiment.removals.empty()) text += "\n";
  if (lab.methods.size() > lab.Rows().size()) {
    text += fmt::format(
        "erase seeds: {}; each makes an edit of its own of every method that draws: {} in place of "
        "{}\n\n",
        lab.experiment.seeds.more_erase.size() + 1, Plural(lab.methods.size(), "edited model"),
        lab.Rows().size());
  }
  text += fmt::format("{:<10} {:>8} {:>8} {:>14}\n", "stage", "stored", "missing", "time");
  int64_t drawing = 0, preparing = 0;
  size_t most = 0;
  for (const std::string& name : StageNames()) {
    const auto found = plan.find(name);
    const StagePlan stage = found == plan.end() ? StagePlan() : found->second;
    const double seconds = StageSeconds(stage, times, options);
    text += fmt::format("{:<10} {:>8} {:>8} {:>14}\n", name, stage.stored, stage.missing.size(),
                        seconds > 0 ? InWords(seconds) : "-");
    (name == "generate" ? drawing : preparing) += UNetEvaluations(stage);
    most = std::max(most, stage.missing.size());
  }
  text += fmt::format("\nU-Net evaluations: {} for pictures, {} for removals and attacks\n",
                      drawing, preparing);
  const double seconds = MakeForecast(plan, times, options).Total();
  if (drawing + preparing == 0 && seconds < kShort) {
    return text + "Estimate: nothing to draw; seconds.\n";
  }
  text +=
      fmt::format("Estimate: {} with {} ({:.2f} ms an evaluation and worker)\n", InWords(seconds),
                  Plural(options.workers, "worker"), 1e3 * times.Call(Pass::kUNet, 8) / 8);
  const std::string idle =
      TellIdleWorkers(std::max<int64_t>(static_cast<int64_t>(most), 1), options.workers);
  return idle.empty() ? text : text + idle + "\n";
}

std::string ExplainMissing(const Lab& lab, const Grid& grid, Store& store) {
  std::string text;
  std::set<std::pair<std::string, std::string>> told;
  for (const Planned& work : AllWork(lab, grid)) {
    if (told.count({work.stage, work.plugin}) != 0 || store.Find(work.key)) continue;
    told.insert({work.stage, work.plugin});
    const std::optional<Json> nearest = store.Nearest(work.key);
    text += fmt::format("{} {}: ", work.stage, Escape(work.plugin, Format::kTerminal));
    text += nearest ? "changed since the nearest that is stored:\n" : "nothing like it is stored\n";
    if (!nearest) continue;
    for (const std::string& line : KeyChanges(*nearest, work.key)) text += "  " + line + "\n";
  }
  return text.empty() ? "everything is stored\n" : text;
}

}  // namespace excise
