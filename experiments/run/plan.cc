#include "experiments/run/plan.h"

#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "core/escape.h"
#include "core/plural.h"
#include "experiments/run/key_changes.h"
#include "experiments/run/runner.h"
#include "experiments/run/stored.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

// A unit of work of a stage: its plug-in's name and its key.
struct Work {
  std::string stage, plugin;
  Json key;
  Prompt seed = {};  // of an attack
};

std::vector<Work> AllWork(const Lab& lab, const Grid& grid) {
  std::vector<Work> work;
  for (const Removal& r : grid.removals()) {
    work.push_back({"erase", lab.methods[r.method].name, EraseKey(lab, r.method, r.subject)});
  }
  for (const Crafting& c : grid.craftings()) {
    const Prompt& seed = grid.PromptOf(c);
    work.push_back({"attack", lab.attacks[c.attack].name,
                    AttackKey(lab, c.attack, c.method, c.subject, seed), seed});
  }
  for (const Unit& unit : grid.units()) {
    work.push_back({"generate", lab.methods[unit.method].name, unit.key});
  }
  for (const Unit& unit : grid.units()) {
    if (IsEmbeddedGroup(unit.group)) continue;
    work.push_back({"judge", lab.methods[unit.method].name, unit.verdict_key});
  }
  for (const Cell& cell : grid.cells()) {
    if (!lab.methods[cell.method].not_applicable.empty()) continue;
    CellUnits all;
    for (const CellUnits& subject : grid.UnitsOfCell(cell)) {
      all.units.insert(all.units.end(), subject.units.begin(), subject.units.end());
      all.base.insert(all.base.end(), subject.base.begin(), subject.base.end());
    }
    work.push_back(
        {"score", lab.metrics[cell.metric].name, ScoreKey(lab, cell.metric, all.units, all.base)});
  }
  return work;
}

// Seconds that one latent takes through the U-Net, in a batch as units have it, on one thread.
double SecondsPerEvaluation(const Lab& lab) {
  UseOneThreadPerWorker();
  const NoGrad no_grad;
  const Backbone& model = lab.backbone;
  const int64_t rows = 2 * lab.experiment.sampler.unit_size, side = model.unet_config.sample_size;
  const at::Tensor latents = at::zeros({rows, model.unet_config.in_channels, side, side});
  const at::Tensor states = at::zeros(
      {rows, model.clip.text.max_position_embeddings, model.unet_config.cross_attention_dim});
  const at::Tensor timestep = at::zeros({}, at::kLong);
  const auto forward = [&] {
    UNetForward(model.unet_config, model.unet, latents, timestep, states);
  };
  forward();  // warms caches
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double seconds = 0;
  int64_t rounds = 0;
  while (rounds < 3 && seconds < 1) {
    forward();
    ++rounds;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return seconds / static_cast<double>(rounds * rows);
}

std::string Duration(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

// U-Net evaluations of drawing a unit: two streams under guidance.
int64_t UnitEvaluations(const SamplerSettings& sampler) {
  return sampler.unit_size * sampler.steps * 2;
}

// What removals and attacks cost is known once one of theirs is stored: a plug-in's cost does not
// depend on the concept or prompt.
struct StageCost {
  std::map<std::string, int64_t> known;  // by plug-in
  std::map<std::string, int64_t> missing;
  int64_t Known() const {
    int64_t sum = 0;
    for (const auto& [name, count] : missing) {
      const auto found = known.find(name);
      if (found != known.end()) sum += count * found->second;
    }
    return sum;
  }
  std::string Unknown() const {
    std::vector<std::string> names;
    for (const auto& [name, count] : missing) {
      if (known.count(name) == 0) names.push_back(name);
    }
    return fmt::format("{}", fmt::join(names, ", "));
  }
};

// U-Net evaluations that a stored removal or attack took.
int64_t CostOf(const Work& work, const Artifact& artifact) {
  if (work.stage == "erase") return ReadRemovalCost(artifact).unet_evaluations;
  return ReadTrajectory(artifact, work.seed).back().ledger.unet_evaluations;
}

}  // namespace

std::string DescribePlan(const Lab& lab, const Grid& grid, Store& store, int workers) {
  std::map<std::string, std::pair<int64_t, int64_t>> counts;  // stage: stored, missing
  std::map<std::string, StageCost> costs;
  std::set<std::string> seen;  // a removal for all concepts, say, is computed once
  for (const Work& work : AllWork(lab, grid)) {
    if (!seen.insert(Store::Digest(work.key)).second) continue;
    const auto artifact = store.Find(work.key);
    auto& [stored, missing] = counts[work.stage];
    ++(artifact ? stored : missing);
    if (work.stage != "erase" && work.stage != "attack") continue;
    StageCost& cost = costs[work.stage];
    if (!artifact) {
      ++cost.missing[work.plugin];
    } else if (cost.known.count(work.plugin) == 0) {
      cost.known[work.plugin] = CostOf(work, *artifact);
    }
  }
  std::string text = fmt::format(
      "{}: {} x {} x {}, {}: {}\n\n", lab.experiment.name, Plural(lab.methods.size(), "method"),
      Plural(lab.attacks.size(), "attack"), Plural(lab.concepts.size(), "concept"),
      Plural(lab.metrics.size(), "metric"), Plural(grid.cells().size(), "cell"));
  text += fmt::format("{:<10} {:>8} {:>8}\n", "stage", "stored", "missing");
  for (const char* stage : {"erase", "attack", "generate", "judge", "score"}) {
    text += fmt::format("{:<10} {:>8} {:>8}\n", stage, counts[stage].first, counts[stage].second);
  }
  const int64_t drawing = counts["generate"].second * UnitEvaluations(lab.experiment.sampler);
  const int64_t preparing = costs["erase"].Known() + costs["attack"].Known();
  text += fmt::format("\nU-Net evaluations: {} for pictures, {} for removals and attacks\n",
                      drawing, preparing);
  const std::string unknown_methods = costs["erase"].Unknown();
  const std::string unknown_attacks = costs["attack"].Unknown();
  if (!unknown_methods.empty() || !unknown_attacks.empty()) {
    text += fmt::format(
        "  (not counted, for nothing of theirs is stored yet: {}{}{})\n", unknown_methods,
        unknown_methods.empty() || unknown_attacks.empty() ? "" : ", ", unknown_attacks);
  }
  if (drawing + preparing == 0) return text + "Estimate: nothing to draw; seconds.\n";
  const double each = SecondsPerEvaluation(lab);
  const int64_t units = std::max(
      {counts["erase"].second, counts["attack"].second, counts["generate"].second, int64_t{1}});
  const auto busy = static_cast<double>(std::min<int64_t>(units, workers));
  text += fmt::format("Estimate: {} with {} ({:.2f} ms an evaluation and worker)\n",
                      Duration(static_cast<double>(drawing + preparing) * each / busy),
                      Plural(workers, "worker"), 1e3 * each);
  const std::string idle = TellIdleWorkers(units, workers);
  return idle.empty() ? text : text + idle + "\n";
}

std::string ExplainMissing(const Lab& lab, const Grid& grid, Store& store) {
  std::string text;
  std::set<std::pair<std::string, std::string>> told;
  for (const Work& work : AllWork(lab, grid)) {
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
