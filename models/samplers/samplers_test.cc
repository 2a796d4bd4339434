// Every sampler and option against whole loops of diffusers' schedulers (tests/fixtures/samplers,
// made by tools/make_sampler_fixtures.py with diffusers 0.42.1).
#include "models/samplers/samplers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tanh.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/error.h"
#include "models/tensors/noise.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSeed = 7;  // of torch's CPU generator in the fixtures

// As in tools/make_sampler_fixtures.py.
at::Tensor Model(const at::Tensor& x, double t) {
  return 0.6 * at::tanh(x) + 0.3 * at::sin(2 * x + t / 300);
}

double RelativeL2(const at::Tensor& actual, const at::Tensor& expected) {
  return (at::linalg_vector_norm(actual - expected) / at::linalg_vector_norm(expected))
      .item<double>();
}

SamplerOptions Options(double eta) {
  return {eta, [draw = TorchCpuNoise(kSeed)](size_t, const at::Tensor& like) {
            return draw(like.sizes());
          }};
}

// The configuration as a snapshot's file gives it, with the sampler that replaces its own.
SchedulerConfig FromFile(const Json& file, const std::string& scheduler) {
  const fs::path path = TestFolder("scheduler") / "scheduler_config.json";
  std::ofstream(path) << file.dump();
  return WithScheduler(ReadSchedulerConfig(path), scheduler);
}

}  // namespace

TEST_CASE("whole loops equal diffusers for every sampler and option") {
  const fs::path folder = RepoFile("tests/fixtures/samplers");
  const Json cases = ReadJsonFile(folder / "cases.json");
  const StateDict loops = LoadSafetensors(folder / "loops.safetensors");
  REQUIRE(cases.size() > 150);
  std::set<std::string> seen;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Json& entry = cases[i];
    INFO(i << ": " << entry["file"].dump() << " as '" << entry["scheduler"] << "', "
           << entry["steps"] << " steps, eta " << entry["eta"]);
    const SchedulerConfig config = FromFile(entry["file"], entry["scheduler"]);
    seen.insert(config.name);
    const auto sampler = MakeSampler(config, entry["steps"], Options(entry["eta"]));
    const auto expected_steps = entry["timesteps"].get<std::vector<double>>();
    REQUIRE(sampler->timesteps().size() == expected_steps.size());
    for (size_t k = 0; k < expected_steps.size(); ++k) {
      CHECK(sampler->timesteps()[k] == Approx(expected_steps[k]).epsilon(1e-6).margin(1e-4));
    }
    const double scale = entry["init_noise_sigma"];
    CHECK(sampler->init_noise_sigma() == Approx(scale).epsilon(1e-6));
    // Latents of 4096, from zero terminal SNR, keep 2e-4 of absolute precision in diffusers' loop.
    const double tolerance = scale > 1000 ? 3e-5 : 1e-5;
    at::Tensor x = loops.Get("latents") * sampler->init_noise_sigma();
    for (size_t k = 0; k < expected_steps.size(); ++k) {
      if (k == expected_steps.size() / 2) {
        CHECK(RelativeL2(x, loops.Get(std::to_string(i) + ".middle")) <= tolerance);
      }
      x = sampler->Step(Model(sampler->ScaleInput(x, k), sampler->timesteps()[k]), k, x);
    }
    CHECK(RelativeL2(x, loops.Get(std::to_string(i) + ".final")) <= tolerance);
  }
  const std::vector<std::string> names = SchedulerNames();
  CHECK(seen == std::set<std::string>(names.begin(), names.end()));
}

}  // namespace excise
