#include "core/workers.h"

#include <fmt/format.h>

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

std::optional<int64_t> FromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::optional<int64_t> value = ParseInteger(text);
  if (!value) {
    throw UsageError(
        fmt::format("The environment variable {}='{}' is not an integer. Unset it or "
                    "pass --shard=i/n.",
                    name, Escape(text, Format::kTerminal)));
  }
  return value;
}

Shard Checked(int64_t index, int64_t count, const std::string& origin) {
  if (count < 1 || index < 0 || index >= count) {
    throw UsageError(
        fmt::format("{}: shard {} of {} does not exist; the index runs from 0 to "
                    "count - 1.",
                    origin, index, count));
  }
  return {index, count};
}

// The place in a Slurm array, or 0 of 1. Task ids start at MIN and go up by STEP.
Shard SlurmArray() {
  const auto id = FromEnvironment("SLURM_ARRAY_TASK_ID");
  const auto count = FromEnvironment("SLURM_ARRAY_TASK_COUNT");
  if (!id || !count) return {};
  const int64_t min = FromEnvironment("SLURM_ARRAY_TASK_MIN").value_or(0);
  const int64_t step = FromEnvironment("SLURM_ARRAY_TASK_STEP").value_or(1);
  if (step < 1 || (*id - min) % step != 0) {
    throw UsageError(
        fmt::format("SLURM_ARRAY_TASK_ID={} is not MIN={} plus a multiple of STEP={}. "
                    "Pass --shard=i/n.",
                    *id, min, step));
  }
  return Checked((*id - min) / step, *count,
                 "Slurm array (SLURM_ARRAY_TASK_ID, _MIN, _STEP, _COUNT)");
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

Shard ParseShard(const std::string& text) {
  if (!text.empty()) {
    const size_t slash = text.find('/');
    const std::string_view view = text;
    const auto index = ParseInteger(view.substr(0, slash));
    const auto count =
        slash == std::string::npos ? std::nullopt : ParseInteger(view.substr(slash + 1));
    if (!index || !count) {
      throw UsageError(fmt::format("--shard='{}' is not of the form i/n, such as 0/4.",
                                   Escape(text, Format::kTerminal)));
    }
    return Checked(*index, *count, "--shard=" + text);
  }
  if (const auto rank = FromEnvironment("RANK"), size = FromEnvironment("WORLD_SIZE");
      rank && size) {
    return Checked(*rank, *size, "torchrun (RANK, WORLD_SIZE)");
  }
  // A job array may start several tasks per element: the shards are then the product.
  const Shard array = SlurmArray();
  const auto task = FromEnvironment("SLURM_PROCID");
  auto tasks = FromEnvironment("SLURM_STEP_NUM_TASKS");
  if (!tasks) tasks = FromEnvironment("SLURM_NTASKS");
  if (task && tasks) {
    const Shard step = Checked(*task, *tasks, "Slurm step (SLURM_PROCID, SLURM_NTASKS)");
    return {array.index * step.count + step.index, array.count * step.count};
  }
  if (array.count > 1) return array;
  if (const auto rank = FromEnvironment("OMPI_COMM_WORLD_RANK"),
      size = FromEnvironment("OMPI_COMM_WORLD_SIZE");
      rank && size) {
    return Checked(*rank, *size, "Open MPI (OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE)");
  }
  return {};
}

}  // namespace excise
