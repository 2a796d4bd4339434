// A user's prompts, in rows a second: the file alone, the filter alone, and the whole of
// prompts_csv. What is promised is 100,000 rows a second.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "core/csv.h"
#include "core/files.h"
#include "datasets/formats/dataset.h"
#include "datasets/formats/user_prompts.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRows = 100'000;

std::string PromptOf(int64_t i) {
  static constexpr const char* kThings[] = {"poodle", "lighthouse", "bicycle", "castle", "violin"};
  static constexpr const char* kPlaces[] = {"on a hill", "at the sea", "in a library", "by night"};
  return fmt::format(
      "a detailed painting of a {} {}, golden hour, 35mm, highly detailed, number {}",
      kThings[i % 5], kPlaces[i % 4], i);
}

const fs::path& PromptsFile() {
  static const auto* const file = [] {
    auto* path = new fs::path(fs::temp_directory_path() / ("excise" + UniqueSuffix() + ".csv"));
    std::ofstream out(*path);
    out << "prompt,concept,group\r\n";
    for (int64_t i = 0; i < kRows; ++i) out << CsvLine({PromptOf(i), "poodle", "target"});
    std::atexit([] { fs::remove(PromptsFile()); });
    return path;
  }();
  return *file;
}

void BM_ReadRows(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(ReadRows(PromptsFile()).rows.size());
  state.SetItemsProcessed(state.iterations() * kRows);
}

void BM_ReasonToExclude(benchmark::State& state) {
  int64_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(ReasonToExclude(PromptOf(i++)));
  state.SetItemsProcessed(state.iterations());
}

void BM_PromptsCsv(benchmark::State& state) {
  Concept subject;
  subject.name = "poodle";
  for (auto _ : state) {
    const std::unique_ptr<Dataset> set = Registry<Dataset>::Get().Make("prompts_csv");
    DecodeParams(Json{{"file", PromptsFile().string()}}, *set, "benchmark");
    benchmark::DoNotOptimize(set->Prompts(subject, "target", Split::kTest, -1).prompts.size());
  }
  state.SetItemsProcessed(state.iterations() * kRows);
}

BENCHMARK(BM_ReadRows)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ReasonToExclude);
BENCHMARK(BM_PromptsCsv)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace excise
