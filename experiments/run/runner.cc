#include "experiments/run/runner.h"

#include <cpuid.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "core/progress.h"
#include "core/text.h"
#include "experiments/lab/judge_fit.h"
#include "experiments/lab/removals.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/over_concepts.h"
#include "experiments/results/recovery.h"
#include "experiments/run/budget.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/report.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

using Clock = std::chrono::steady_clock;

class Runner {
 public:
  Runner(const Lab& lab, const Grid& grid, Store& store, const RunOptions& options)
      : lab_(lab),
        grid_(grid),
        options_(options),
        pipeline_(lab, store, options.force, options.model_memory),
        forecast_(options.forecast) {
    if (options.reused != nullptr) whole_.emplace(lab);
  }

  RunOutcome Run() {
    const std::time_t started = std::time(nullptr);
    RunOutcome outcome;
    TellIdle();
    const auto reaches = [&](const char* stage) {
      const auto& names = StageNames();
      return std::find(names.begin(), names.end(), options_.stage) >=
             std::find(names.begin(), names.end(), stage);
    };
    Erase();
    if (reaches("attack")) Craft();
    if (reaches("generate")) Draw(reaches("judge"));
    if (reaches("score") && options_.shard.count == 1) {
      Score(&outcome.results);
      outcome.results.experiment = ExperimentToJson(lab_.experiment);
      outcome.results.inputs = DescribeInputs(lab_);
      Account(started, &outcome.results);
      outcome.finished = true;
    }
    outcome.failures = failures_;
    return outcome;
  }

 private:
  // work(i) for every i that `mine` accepts; what throws is reported once and counted. Of units,
  // `size(i)` are in each; by default one.
  void Stage(
      const std::string& name, const std::string& unit, size_t count,
      const std::function<bool(size_t)>& mine, const std::function<std::string(size_t)>& label,
      const std::function<void(size_t)>& work,
      const std::function<size_t(size_t)>& size = [](size_t) { return 1; }) {
    std::vector<size_t> chosen;
    size_t units = 0;
    for (size_t i = 0; i < count; ++i) {
      if (!mine(i)) continue;
      chosen.push_back(i);
      units += size(i);
    }
    const auto start = Clock::now();
    {
      Progress progress(name, static_cast<int64_t>(units), unit);
      RunUnits(static_cast<int64_t>(chosen.size()), options_.workers, [&](int64_t i) {
        UseOneThreadPerWorker();
        const size_t index = chosen[static_cast<size_t>(i)];
        lab_.inputs.Check();  // a changed one ends the run: nothing that follows could be stored
        try {
          work(index);
        } catch (const std::exception& error) {
          lab_.inputs.Check();
          Report(name + " " + label(index), FirstLine(error));
        }
        progress.Advance(static_cast<int64_t>(size(index)), label(index));
      });
    }
    lab_.inputs.Check();
    seconds_[name] = std::chrono::duration<double>(Clock::now() - start).count();
    const std::string corrected = forecast_.After(name, seconds_[name]);
    if (!corrected.empty()) LogInfo(corrected);
  }

  void TellIdle() const {
    const size_t most =
        std::max({grid_.removals().size(), grid_.CraftedTogether().size(), grid_.units().size()});
    const int64_t mine =
        (static_cast<int64_t>(most) + options_.shard.count - 1) / options_.shard.count;
    const std::string idle = TellIdleWorkers(mine, options_.workers);
    if (!idle.empty()) LogInfo(idle);
  }

  // Every unit that needs a failed removal fails again: one line is enough.
  void Report(const std::string& where, const std::string& problem) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++failures_;
    if (told_.insert(problem).second) LogWarning(where + ": " + problem);
  }

  // "esd", or "esd, erase seed 2" where the row has several edits.
  std::string NameOf(size_t method) const {
    const std::string& name = lab_.methods[method].name;
    return lab_.EditsOf(method) == 1
               ? name
               : fmt::format("{}, erase seed {},", name, lab_.EraseSeedOf(method));
  }
  std::string Label(size_t method, size_t subject) const {
    return NameOf(method) + " " + lab_.concepts[subject].name;
  }

  std::string LabelOf(const Removal& removal) const {
    const auto together = RemovedTogether(lab_, removal.method, removal.subject);
    return NameOf(removal.method) + " " + NamesOf(lab_, together, ", ");
  }

  // A removal that all concepts share starts first, for it is a long one; whoever asks for it again
  // would wait for it, so they come last.
  std::vector<size_t> RemovalOrder() const {
    std::vector<size_t> order, single, again;
    std::set<size_t> shared;
    for (size_t i = 0; i < grid_.removals().size(); ++i) {
      const size_t method = grid_.removals()[i].method;
      const bool own = lab_.methods[method].plugin->traits().reads_concepts;
      (own ? single : shared.insert(method).second ? order : again).push_back(i);
    }
    order.insert(order.end(), single.begin(), single.end());
    order.insert(order.end(), again.begin(), again.end());
    return order;
  }

  void Erase() {
    const std::vector<size_t> order = RemovalOrder();
    const auto removal = [&](size_t i) { return grid_.removals()[order[i]]; };
    Stage(
        "erase", "removals", order.size(),
        [&](size_t i) { return options_.shard.Owns(static_cast<int64_t>(order[i])); },
        [&](size_t i) { return LabelOf(removal(i)); },
        [&](size_t i) { pipeline_.Erase(removal(i).method, removal(i).subject); });
  }

  // Prompts that are crafted in one pass are one worker's.
  void Craft() {
    const auto& craftings = grid_.craftings();
    const std::vector<std::vector<size_t>> passes = grid_.CraftedTogether();
    Stage(
        "attack", "prompts", passes.size(),
        [&](size_t i) {
          const size_t first = passes[i].front();
          // A shard attacks the models that it erased itself.
          const bool own = lab_.TraitsOf(craftings[first].attack).ForEachMethod();
          return options_.shard.Owns(static_cast<int64_t>(
              own ? grid_.RemovalOf(craftings[first].method, craftings[first].subject) : first));
        },
        [&](size_t i) {
          const Crafting& first = craftings[passes[i].front()];
          return lab_.attacks[first.attack].name + " " + lab_.concepts[first.subject].name;
        },
        [&](size_t i) {
          for (const size_t one : passes[i]) {
            pipeline_.Craft(craftings[one].attack, craftings[one].method, craftings[one].subject,
                            grid_.PromptOf(craftings[one]));
          }
        },
        [&](size_t i) { return passes[i].size(); });
  }

  // A shard draws with the models that it erased itself.
  void Draw(bool judge) {
    const auto& units = grid_.units();
    Stage(
        "generate", "units", units.size(),
        [&](size_t i) {
          return options_.shard.Owns(
              static_cast<int64_t>(grid_.RemovalOf(units[i].method, units[i].subject)));
        },
        [&](size_t i) {
          return fmt::format("{} {} {}", Label(units[i].method, units[i].subject),
                             lab_.attacks[units[i].attack].name, units[i].group);
        },
        [&](size_t i) {
          if (IsEmbeddedGroup(units[i].group)) {
            pipeline_.Embed(units[i]);
          } else if (judge) {
            pipeline_.Judge(units[i]);
          } else {
            pipeline_.Generate(units[i]);
          }
        });
  }

  void Score(Results* results) {
    const auto& cells = grid_.cells();
    const std::vector<std::vector<size_t>> groups = grid_.CellsOfSamePictures();
    std::vector<std::vector<Record>> records(cells.size());
    Stage(
        "score", "columns", groups.size(), [](size_t) { return true; },
        [&](size_t i) {
          const Cell& first = cells[groups[i].front()];
          return lab_.methods[first.method].name + " " + lab_.attacks[first.attack].name;
        },
        [&](size_t i) { ScoreGroup(groups[i], &records); });
    for (std::vector<Record>& cell : InOrder(std::move(records))) {
      for (Record& record : cell) results->records.push_back(std::move(record));
    }
    for (Record& record : UnionRecords(results->records)) {
      results->records.push_back(std::move(record));
    }
    std::map<std::string, std::string> base_of;
    for (size_t i = 0; i < lab_.methods.size(); ++i) {
      base_of[lab_.methods[i].name] = lab_.methods[lab_.BaseOf(i)].name;
    }
    RefuseUnfit(base_of, &results->records);
    const Json experiment = ExperimentToJson(lab_.experiment);
    for (Record& record : RecoveryRecords(experiment, results->records)) {
      results->records.push_back(std::move(record));
    }
    AddIntervalsOverConcepts(&results->records);
    results->comparisons = CompareAll(results->records);
    Rows(results);
    CountTruncated(results->rows, &results->records);
  }

  // The grid's cells, with those that are reused in their places.
  std::vector<std::vector<Record>> InOrder(std::vector<std::vector<Record>> computed) const {
    if (options_.reused == nullptr) return computed;
    std::vector<std::vector<Record>> all;
    size_t next = 0;
    for (const Cell& cell : whole_->cells()) {
      const bool reused = options_.reused->Has(cell);
      all.push_back(reused ? options_.reused->RecordsOf(cell) : std::move(computed[next++]));
    }
    return all;
  }

  // Cells of one method under one attack: their metrics read the same pictures.
  void ScoreGroup(const std::vector<size_t>& group, std::vector<std::vector<Record>>* records) {
    const auto& cells = grid_.cells();
    const bool applicable = lab_.methods[cells[group.front()].method].not_applicable.empty();
    std::vector<std::vector<ScoreResult>> scores(group.size());
    try {
      std::vector<MetricUnits> metrics;
      for (const size_t i : group)
        metrics.push_back({cells[i].metric, grid_.UnitsOfCell(cells[i])});
      if (applicable) scores = pipeline_.Scores(metrics);
    } catch (const std::exception& error) {
      ScoreResult failed;
      failed.problem = FirstLine(error);
      scores.assign(group.size(), std::vector<ScoreResult>(lab_.concepts.size() + 1, failed));
    }
    for (size_t i = 0; i < group.size(); ++i) {
      (*records)[group[i]] = RecordsOfCell(lab_, grid_, cells[group[i]], scores[i]);
    }
    AddBudgets(group, records);
  }

  // What was spent is not asked where nothing came of it.
  void AddBudgets(const std::vector<size_t>& group, std::vector<std::vector<Record>>* records) {
    const auto scored = [&](size_t cell) {
      const std::vector<Record>& own = (*records)[cell];
      return std::any_of(own.begin(), own.end(), [](const Record& r) { return r.status == "ok"; });
    };
    if (std::none_of(group.begin(), group.end(), scored)) return;
    const Json budgets = BudgetsOf(grid_.cells()[group.front()]);
    for (const size_t cell : group) {
      for (size_t i = 0; i < budgets.size(); ++i) {
        if (!budgets[i].is_null()) (*records)[cell][i].protocol["budget"] = budgets[i];
      }
    }
  }

  // What the cell's attack spent, a concept and over all.
  Json BudgetsOf(const Cell& cell) {
    std::vector<std::vector<Ledger>> spent;
    try {
      for (const CellUnits& subject : grid_.UnitsOfCell(cell)) {
        spent.emplace_back();
        for (const Unit* unit : subject.units) {
          if (unit->replicate != 0) continue;
          const std::vector<Ledger> more = pipeline_.Spent(*unit);
          spent.back().insert(spent.back().end(), more.begin(), more.end());
        }
      }
    } catch (const std::exception&) {
      return Json::array();  // the attack failed, and the cell's records say so
    }
    return BudgetsByConcept(lab_.TraitsOf(cell.attack), spent);
  }

  void Rows(Results* results) {
    const auto& units = grid_.units();
    std::vector<std::vector<Row>> rows(units.size());
    Stage(
        "rows", "units", units.size(), [](size_t) { return true; },
        [&](size_t i) { return Label(units[i].method, units[i].subject); },
        [&](size_t i) {
          if (IsEmbeddedGroup(units[i].group)) return;
          // Pictures first: where they have to be drawn anew, they are judged anew.
          const UnitPictures pictures = pipeline_.Generate(units[i]);
          rows[i] = RowsOfUnit(lab_, units[i], pictures, pipeline_.Judge(units[i]));
        });
    if (options_.reused != nullptr) rows = InOrder(std::move(rows));
    for (std::vector<Row>& some : rows) {
      for (Row& row : some) results->rows.push_back(std::move(row));
    }
  }

  // The grid's units, with those of reused cells in their places.
  std::vector<std::vector<Row>> InOrder(std::vector<std::vector<Row>> computed) const {
    std::map<UnitName, size_t> here;
    for (size_t i = 0; i < computed.size(); ++i) here[NameOfUnit(lab_, grid_.units()[i])] = i;
    std::vector<std::vector<Row>> all;
    for (const Unit& unit : whole_->units()) {
      const UnitName name = NameOfUnit(lab_, unit);
      const auto found = here.find(name);
      all.push_back(found == here.end() ? options_.reused->RowsOf(name)
                                        : std::move(computed[found->second]));
    }
    return all;
  }

  void Account(std::time_t started, Results* results) const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    results->cost = {{"wall_seconds", seconds_},
                     {"work_seconds", pipeline_.Seconds()},
                     {"peak_memory_mib", usage.ru_maxrss / 1024}};
    const auto iso = [](std::time_t time) {
      return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time));
    };
    results->provenance = {{"host_cpu", HostCpu()},
                           {"workers", options_.workers},
                           {"started", iso(started)},
                           {"finished", iso(std::time(nullptr))}};
    if (options_.reused != nullptr) results->provenance["reused"] = options_.reused->sources();
  }

  const Lab& lab_;
  const Grid& grid_;
  std::optional<Grid> whole_;  // with the cells that are reused, where some are
  const RunOptions& options_;
  Pipeline pipeline_;
  Forecast forecast_;
  std::mutex mutex_;
  std::set<std::string> told_;
  int64_t failures_ = 0;
  std::map<std::string, double> seconds_;
};

}  // namespace

std::string HostCpu() {
  // The processor's own word for itself, which an emulated one has too.
  unsigned brand[12] = {};
  for (unsigned i = 0; i < 3; ++i) {
    if (!__get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                     &brand[4 * i + 3])) {
      return "unknown";
    }
  }
  std::string name(reinterpret_cast<const char*>(brand), sizeof(brand));
  name = Trimmed(name.substr(0, name.find('\0')));
  return name.empty() ? "unknown" : name;
}

std::string TellIdleWorkers(int64_t units, int workers) {
  if (units >= workers) return "";
  return fmt::format(
      "{} of {} workers have nothing to do (units of work: {}): a unit is computed on one thread, "
      "because the number of threads changes the bytes of convolutions, sums and gradients.",
      workers - units, workers, units);
}

RunOutcome RunExperiment(const Lab& lab, const Grid& grid, Store& store,
                         const RunOptions& options) {
  return Runner(lab, grid, store, options).Run();
}

}  // namespace excise
