// Loading weights against reading their bytes; what is promised is at most 1.5 times.
#include <ATen/ops/empty.h>
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "core/files.h"
#include "core/hash.h"
#include "models/nets/nn.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

// 40 tensors, 320 MiB in float32, in a file that the page cache holds.
const std::filesystem::path& WeightsFile() {
  static const auto* const file = [] {
    auto* path = new std::filesystem::path(std::filesystem::temp_directory_path() /
                                           ("excise-load" + UniqueSuffix() + ".safetensors"));
    StateDict weights;
    const at::Tensor values = nn::InitNormal({1024, 2048}, 1, 1, "values");
    for (int i = 0; i < 40; ++i) weights.Set("layer" + std::to_string(i) + ".weight", values);
    SaveSafetensors(*path, weights);
    std::atexit([] { std::filesystem::remove(WeightsFile()); });
    return path;
  }();
  return *file;
}

void CountBytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(std::filesystem::file_size(WeightsFile())));
}

void BM_ReadFile(benchmark::State& state) {
  const size_t size = std::filesystem::file_size(WeightsFile());
  for (auto _ : state) {
    const Descriptor file(WeightsFile(), O_RDONLY);
    at::Tensor bytes = at::empty({static_cast<int64_t>(size)}, at::kByte);
    for (size_t done = 0; done < size;) {
      const ssize_t n = read(file.get(), static_cast<char*>(bytes.data_ptr()) + done, size - done);
      if (n <= 0) return state.SkipWithError("read failed");
      done += static_cast<size_t>(n);
    }
    benchmark::DoNotOptimize(bytes.data_ptr());
  }
  CountBytes(state);
}

void BM_LoadSafetensors(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(LoadSafetensors(WeightsFile()).size());
  CountBytes(state);
}

void BM_Sha256(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Sha256HexOfFile(WeightsFile()).size());
  CountBytes(state);
}

BENCHMARK(BM_ReadFile)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_LoadSafetensors)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Sha256)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace excise
