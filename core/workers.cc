#include "core/workers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/progress.h"

namespace excise {
namespace {

// Hands out units in order. Every unit handed out is finished, so the failure with the lowest index
// is the same for any number of workers.
class HandOut {
 public:
  HandOut(int64_t n, const std::function<void(int64_t)>& work) : n_(n), work_(work) {}

  void Work() {
    while (!stop_) {
      const int64_t unit = next_++;
      if (unit >= n_) return;
      try {
        if (InterruptRequested()) throw Interrupted{};
        work_(unit);
      } catch (const Interrupted&) {
        stop_ = true;
        Note(unit);
      } catch (...) {
        Note(unit);
      }
    }
  }

  void Rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void Note(int64_t unit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_ && failed_unit_ <= unit) return;
    failed_unit_ = unit;
    failure_ = std::current_exception();
  }

  const int64_t n_;
  const std::function<void(int64_t)>& work_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  int64_t failed_unit_ = 0;
  std::exception_ptr failure_;
};

std::optional<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// "" where it is not set.
std::string Variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

int64_t IntegerVariable(const char* name) {
  const std::string text = Variable(name);
  const std::optional<int64_t> value = ParseInteger(text);
  if (value) return *value;
  throw UsageError(
      fmt::format("The environment variable {}='{}' is not an integer. Unset it or "
                  "pass --shard=i/n.",
                  name, Escape(text, Format::kTerminal)));
}

Shard Checked(int64_t index, int64_t count, const std::string& origin) {
  constexpr int64_t kMost = 1'000'000;
  if (count < 1 || count > kMost || index < 0 || index >= count) {
    throw UsageError(
        fmt::format("{}: shard {} of {} does not exist; the index runs from 0 to "
                    "count - 1, and there are {} at most.",
                    origin, index, count, kMost));
  }
  return {index, count};
}

// What a launcher sets for every process that it starts.
struct Launcher {
  const char* name;
  std::vector<const char*> variables;  // the index and the count first
};

// The innermost first: torchrun and mpirun are started by Slurm, not the other way round. A batch
// script and the shell of salloc have SLURM_PROCID and SLURM_NTASKS, but are no step of many tasks.
const std::vector<Launcher>& Launchers() {
  static const std::vector<Launcher> launchers = {
      {"torchrun",
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
        "TORCHELASTIC_RUN_ID"}},
      {"Open MPI",
       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE"}},
      {"a Slurm step", {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "SLURM_STEP_ID"}}};
  return launchers;
}
const Launcher& SlurmArray() {
  static const Launcher array = {
      "a Slurm array",
      {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN",
       "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"}};
  return array;
}

// Whether all of the launcher's variables are set. Of an index and a count without the others a
// note is left.
bool IsSet(const Launcher& launcher, ShardChoice* choice) {
  std::vector<const char*> missing;
  for (const char* name : launcher.variables) {
    if (Variable(name).empty()) missing.push_back(name);
  }
  const char* index = launcher.variables[0];
  const char* count = launcher.variables[1];
  const bool told = !Variable(index).empty() && !Variable(count).empty() && Variable(count) != "1";
  if (!missing.empty() && told) {
    choice->notes.push_back(fmt::format(
        "{}={} and {}={} are not heeded, for {} sets {} with them, and they are not here. A part "
        "of a run is --shard=i/n.",
        index, Variable(index), count, Variable(count), launcher.name, fmt::join(missing, ", ")));
  }
  return missing.empty();
}

// The part that the launcher's process has of the part so far.
void Take(const Launcher& launcher, int64_t index, ShardChoice* choice) {
  const Shard part =
      Checked(index, IntegerVariable(launcher.variables[1]),
              fmt::format("{} ({})", launcher.name, fmt::join(launcher.variables, ", ")));
  if (part.count == 1) return;
  Shard& shard = choice->shard;
  shard = {shard.index * part.count + part.index, shard.count * part.count};
  const char* first = launcher.variables[0];
  const char* second = launcher.variables[1];
  choice->origin += fmt::format("{}{} ({}={}, {}={})", choice->origin.empty() ? "" : " and ",
                                launcher.name, first, Variable(first), second, Variable(second));
  choice->variables.push_back(first);
  choice->variables.push_back(second);
}

// Task ids start at MIN and go up by STEP.
int64_t ArrayIndex() {
  const int64_t id = IntegerVariable("SLURM_ARRAY_TASK_ID"),
                min = IntegerVariable("SLURM_ARRAY_TASK_MIN"),
                step = IntegerVariable("SLURM_ARRAY_TASK_STEP");
  if (step >= 1 && (id - min) % step == 0) return (id - min) / step;
  throw UsageError(
      fmt::format("SLURM_ARRAY_TASK_ID={} is not MIN={} plus a multiple of STEP={}. "
                  "Pass --shard=i/n.",
                  id, min, step));
}

ShardChoice ShardOfLauncher() {
  ShardChoice choice;
  if (IsSet(SlurmArray(), &choice)) Take(SlurmArray(), ArrayIndex(), &choice);
  for (const Launcher& launcher : Launchers()) {
    if (!IsSet(launcher, &choice)) continue;
    Take(launcher, IntegerVariable(launcher.variables[0]), &choice);
    break;
  }
  if (choice.shard.count == 1) return choice;
  choice.notes.insert(
      choice.notes.begin(),
      fmt::format("this run does part {} of {}, counted from 0, because {} says so. --shard=0/1 "
                  "makes it whole.",
                  choice.shard.index, choice.shard.count, choice.origin));
  return choice;
}

}  // namespace

void RunUnits(int64_t n, int workers, const std::function<void(int64_t)>& work) {
  if (workers < 1) {
    throw UsageError(fmt::format("--workers={}: at least one worker is needed.", workers));
  }
  HandOut units(n, work);
  std::vector<std::thread> threads;
  const int64_t count = std::min<int64_t>(workers, n);
  for (int64_t i = 0; count > 1 && i < count; ++i) {
    try {
      threads.emplace_back([&units] { units.Work(); });
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run do the work
    }
  }
  if (threads.empty()) units.Work();
  for (std::thread& thread : threads) thread.join();
  units.Rethrow();
}

ShardChoice ChooseShard(const std::string& text) {
  if (text.empty()) return ShardOfLauncher();
  const size_t slash = text.find('/');
  const std::string_view view = text;
  const auto index = ParseInteger(view.substr(0, slash));
  const auto count =
      slash == std::string::npos ? std::nullopt : ParseInteger(view.substr(slash + 1));
  if (!index || !count) {
    throw UsageError(fmt::format("--shard='{}' is not of the form i/n, such as 0/4.",
                                 Escape(text, Format::kTerminal)));
  }
  ShardChoice choice;
  choice.shard = Checked(*index, *count, "--shard=" + text);
  return choice;
}

}  // namespace excise
