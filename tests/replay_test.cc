// The same bytes on processors of two vendors: the table program on tests/replay.json, natively and
// under qemu-user (Debian's qemu-user) as an Intel Haswell and as an AMD EPYC; and what a processor
// without AVX2 is reported. An emulated processor does 20 to 40 million floating-point operations a
// second, so the encoders and the judge are the embedded backbone's, but U-Net and VAE are small
// ones with random weights. With EXCISE_REPLAY_GOLDEN=FILE the golden files are written there, with
// the name of every processor that gave its bytes.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <memory>

#include "core/files.h"
#include "experiments/check/golden.h"
#include "experiments/results/record.h"
#include "models/nets/unet.h"
#include "models/nets/vae.h"
#include "models/tensors/safetensors.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

std::string Emulator() {
  for (const char* path : {"/usr/bin/qemu-x86_64", "/usr/local/bin/qemu-x86_64"}) {
    if (fs::exists(path)) return path;
  }
  return "";
}

#define REQUIRE_MODELS_AND_EMULATOR()                                                         \
  if (!HaveModels() || Emulator().empty()) {                                                  \
    WARN(                                                                                     \
        "SKIPPED: needs models/emoji and qemu-x86_64 (Debian package qemu-user). That other " \
        "processors give the same bytes was not tested.");                                    \
    return;                                                                                   \
  }

// A folder that holds the backbone "replay".
fs::path Models() {
  static const fs::path models = [] {
    const fs::path folder = TestFolder("replay_models"), to = folder / "replay";
    const fs::path from = RepoFile("models/emoji/model_index.json").parent_path();
    fs::create_directories(to / "vae");
    for (const auto& entry : fs::directory_iterator(from)) {
      const std::string name = entry.path().filename().string();
      if (name != "unet" && name != "vae" && name != "retrained") {
        fs::create_symlink(fs::absolute(entry.path()), to / name);
      }
    }
    UNetConfig unet =
        ParseUNetConfig(ReadJsonFile(from / "unet" / "config.json"), "models/emoji/unet");
    unet.block_out_channels = {16, 32};
    unet.norm_num_groups = 8;
    unet.num_heads = {2, 2};
    fs::create_directories(to / "unet");
    WriteFileAtomically(to / "unet" / "config.json", UNetConfigToJson(unet).dump(1));
    SaveSafetensors(to / "unet" / "diffusion_pytorch_model.safetensors", InitUNet(unet, 5));
    VaeConfig config;
    config.sample_size = 64;
    config.block_out_channels = {8, 8, 16, 16};
    config.layers_per_block = 1;
    config.norm_num_groups = 4;
    config.scaling_factor = 1;
    WriteFileAtomically(to / "vae" / "config.json", VaeConfigToJson(config).dump(1));
    SaveSafetensors(to / "vae" / "diffusion_pytorch_model.safetensors", InitVae(config, 7));
    return folder;
  }();
  return models;
}

std::vector<std::string> Arguments(const fs::path& cache) {
  return {RepoFile("tests/replay.json").string(), "--models=" + Models().string(),
          "--cache=" + cache.string(), "--workers=1"};
}

// The table program as `cpu` ("Haswell") runs it.
std::unique_ptr<Process> StartAs(const std::string& cpu,
                                 const std::vector<std::string>& arguments) {
  setenv("EXCISE_EMULATOR", Emulator().c_str(), 1);
  std::vector<std::string> words = {"-cpu", cpu,
                                    fs::absolute(std::getenv("EXCISE_TABLE")).string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return std::make_unique<Process>("EXCISE_EMULATOR", words);
}

Json ResultsIn(const fs::path& cache) {
  return ReadJsonFile(cache / "results" / "replay-default.json");
}

std::string Rows(const fs::path& cache) {
  return ReadBytes(cache / "results" / "replay-default.rows.jsonl");
}

const fs::path& NativeRun() {
  static const fs::path cache = [] {
    const fs::path folder = TestFolder("replay_native");
    const ProcessResult result = RunProcess("EXCISE_TABLE", Arguments(folder));
    INFO(result.err);
    REQUIRE(result.code == 0);
    return folder;
  }();
  return cache;
}

// Every number, every row and the numerics' fingerprint.
void RequireSameBytes(const std::string& cpu, const fs::path& cache) {
  const CheckReport report = CompareResults(DeterministicPart(ResultsIn(NativeRun())),
                                            DeterministicPart(ResultsIn(cache)));
  INFO(cpu << report.Lines());
  CHECK(report.agreement == Agreement::kSame);
  CHECK(Rows(cache) == Rows(NativeRun()));
}

// An emulated run takes minutes: at every commit the EPYC stands for both, for its vendor's kernels
// differ most, and with --config=nightly the Haswell runs as well.
std::vector<std::string> EmulatedCpus() {
  if (Nightly()) return {"Haswell", "EPYC"};
  WARN("the Haswell was left to --config=nightly");
  return {"EPYC"};
}

}  // namespace

TEST_CASE("an Intel Haswell and an AMD EPYC give the native bytes", "[slow]") {
  REQUIRE_MODELS_AND_EMULATOR();
  NativeRun();
  std::map<std::string, fs::path> caches;
  std::map<std::string, std::unique_ptr<Process>> runs;
  for (const std::string& cpu : EmulatedCpus()) {
    caches[cpu] = TestFolder("replay_" + cpu);
    runs[cpu] = StartAs(cpu, Arguments(caches[cpu]));
  }
  std::vector<std::string> seen = {ResultsIn(NativeRun()).at("provenance").at("host_cpu")};
  for (auto& [cpu, run] : runs) {
    const ProcessResult result = run->Wait();
    INFO(cpu << "\n" << result.err);
    REQUIRE(result.code == 0);
    RequireSameBytes(cpu, caches[cpu]);
    // The processor was another one indeed.
    const std::string name = ResultsIn(caches[cpu]).at("provenance").at("host_cpu");
    CHECK(name != seen[0]);
    seen.push_back(name);
  }
  const char* golden = std::getenv("EXCISE_REPLAY_GOLDEN");
  if (golden == nullptr) return;
  for (const std::string& name : seen) UpdateGolden(ResultsIn(NativeRun()), name, golden);
}

TEST_CASE("this machine gives the committed bytes of the replay, or says other numerics") {
  if (!HaveModels()) {
    WARN("SKIPPED: models/emoji is not there.");
    return;
  }
  const Golden golden = ReadGolden(RepoFile("results/checks/golden/replay.json"));
  const GoldenCheck check = CompareWithGolden(ResultsIn(NativeRun()), golden, /*narrowed=*/false);
  INFO(GoldenSummary(check));
  CHECK(check.report.Passed());
}

TEST_CASE("a processor without AVX2 is told so, and no instruction is illegal") {
  REQUIRE_MODELS_AND_EMULATOR();
  std::map<std::string, std::unique_ptr<Process>> runs;
  for (const std::string cpu : {"Nehalem", "SandyBridge"}) {
    runs[cpu] = StartAs(cpu, Arguments(TestFolder("replay_" + cpu)));
  }
  for (auto& [cpu, run] : runs) {
    const ProcessResult result = run->Wait();
    INFO(cpu << "\n" << result.err);
    CHECK(result.code == 1);
    CHECK_THAT(result.err, Contains("error: ") && Contains("no AVX2"));
    CHECK(result.out.empty());
  }
}

}  // namespace excise
