// sample, forward and tokenize as a user meets them: as processes, on the folders of
// tests/fixtures. The build says where the programs are (EXCISE_SAMPLE, EXCISE_FORWARD,
// EXCISE_TOKENIZE).
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/text.h"
#include "models/pictures/picture_file.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/noise.h"
#include "models/tensors/safetensors.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

// Runs the program that `variable` names, from the folder `where`.
ProcessResult Run(const char* variable, const std::vector<std::string>& arguments,
                  const std::string& input = "", const fs::path& where = {}) {
  ProcessSetup setup;
  setup.input = input;
  setup.where = where;
  return Process(variable, arguments, setup).Wait();
}

fs::path Fixture(const std::string& name) { return RepoFile("tests/fixtures/" + name); }

void CheckClose(const std::string& name, const at::Tensor& actual, const at::Tensor& expected) {
  INFO(name);
  REQUIRE(actual.sizes() == expected.sizes());
  const double error = at::linalg_vector_norm(at::sub(actual, expected)).item<double>();
  CHECK(error <= 1e-5 * at::linalg_vector_norm(expected).item<double>());
}

// Runs `module` on the tensors of inputs.safetensors that start with `in_prefix` and compares every
// output with the expected tensor of `out_prefix` + its name. `count` outputs must be there.
void CheckForward(const std::string& fixture, const std::string& module, const fs::path& model,
                  const std::string& in_prefix, const std::string& out_prefix, size_t count) {
  const StateDict inputs = LoadSafetensors(Fixture(fixture) / "inputs.safetensors");
  const StateDict expected = LoadSafetensors(Fixture(fixture) / "expected.safetensors");
  StateDict given;
  for (const auto& [name, tensor] : inputs) {
    if (StartsWith(name, in_prefix)) given.Set(name.substr(in_prefix.size()), tensor);
  }
  const fs::path folder = TestFolder("forward");
  fs::remove(folder / "out.safetensors");
  SaveSafetensors(folder / "in.safetensors", given);
  const ProcessResult result =
      Run("EXCISE_FORWARD",
          {"--model", model.string(), "--module=" + module, "--threads=1", "--in",
           (folder / "in.safetensors").string(), "--out", (folder / "out.safetensors").string()});
  INFO(module << ": " << result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
  const StateDict out = LoadSafetensors(folder / "out.safetensors");
  CHECK(out.size() == count);
  for (const auto& [name, tensor] : out) {
    CheckClose(module + " " + name, tensor, expected.Get(out_prefix + name));
  }
}

std::vector<std::string> SampleArguments(const std::string& fixture, const fs::path& out) {
  return {"--model",    Fixture(fixture).string(),
          "--prompt",   "a picture of a poodle on a red background",
          "--out",      out.string(),
          "--threads=1"};
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("tokenize prints transformers' ids, one array a line") {
  const std::string fixture = GENERATE(as<std::string>{}, "sd1", "sd2");
  std::string lines;
  std::vector<Json> cases;
  for (const Json& c : ReadJsonFile(Fixture(fixture) / "tokenizer_expected.json")) {
    if (c["text"].get<std::string>().find('\n') != std::string::npos) continue;
    lines += c["text"].get<std::string>() + "\n";
    cases.push_back(c);
  }
  REQUIRE(cases.size() > 15);
  const auto tokenizer = Tokenizer::Load(Fixture(fixture) / "tokenizer");
  for (const bool pad : {false, true}) {
    // A pipeline's folder, then the tokenizer's own.
    const fs::path model = pad ? Fixture(fixture) / "tokenizer" : Fixture(fixture);
    std::vector<std::string> arguments = {"--model=" + model.string()};
    if (pad) arguments.push_back("--pad");
    const ProcessResult result = Run("EXCISE_TOKENIZE", arguments, lines);
    REQUIRE(result.code == 0);
    CHECK(result.err.empty());
    std::istringstream out(result.out);
    std::string line;
    for (const Json& c : cases) {
      INFO(c["text"]);
      REQUIRE(std::getline(out, line));
      Json expected = c["padded"];
      if (!pad) {
        expected = Json::array({tokenizer->bos_id()});
        for (const Json& id : c["ids"]) expected.push_back(id);
        expected.push_back(tokenizer->eos_id());
      }
      CHECK(ParseJson(line, "stdout") == expected);
    }
    CHECK_FALSE(std::getline(out, line));
  }
  CHECK(Run("EXCISE_TOKENIZE", {"--model=" + Fixture(fixture).string()}).out.empty());
}

TEST_CASE("forward equals the reference for every module, from a pipeline or a model's folder") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const fs::path pipeline = Fixture(name);
  CheckForward(name, "text_encoder", pipeline, "text.", "text.", 2);
  CheckForward(name, "unet", pipeline, "unet.", "unet.", 1);
  CheckForward(name, "unet", pipeline / "unet", "unet.", "unet.", 1);
  CheckForward(name, "vae_encoder", pipeline, "vae_encoder.", "vae_encoder.", 2);
  CheckForward(name, "vae_decoder", pipeline / "vae", "vae_decoder.", "vae_decoder.", 1);
}

TEST_CASE("forward runs whole CLIP models") {
  const std::string name = GENERATE(as<std::string>{}, "clip_quick_gelu", "clip_legacy");
  const fs::path model = Fixture(name);
  CheckForward(name, "vision_model", model, "", "vision.", 3);
  const StateDict inputs = LoadSafetensors(model / "inputs.safetensors");
  const StateDict expected = LoadSafetensors(model / "expected.safetensors");
  const fs::path folder = TestFolder("clip");
  const auto run = [&](const std::string& module, const StateDict& given) {
    SaveSafetensors(folder / "in.safetensors", given);
    const ProcessResult result =
        Run("EXCISE_FORWARD", {"--model=" + model.string(), "--module=" + module,
                               "--in=" + (folder / "in.safetensors").string(),
                               "--out=" + (folder / "out.safetensors").string(), "--threads=1"});
    INFO(result.err);
    REQUIRE(result.code == 0);
    return LoadSafetensors(folder / "out.safetensors");
  };
  StateDict given;
  given.Set("input_ids", inputs.Get("input_ids"));
  for (const auto& [output, tensor] : run("text_encoder", given)) {
    CheckClose(output, tensor, expected.Get("text." + output));
  }
  given.Set("pixel_values", inputs.Get("pixel_values"));
  const StateDict both = run("clip", given);
  for (const char* output : {"text_embeds", "image_embeds", "logits_per_image"}) {
    CheckClose(output, both.Get(output), expected.Get(std::string("clip.") + output));
  }
  given.Set("attention_mask", inputs.Get("attention_mask"));
  const StateDict masked = run("text_encoder", given);
  for (const char* output : {"last_hidden_state", "pooler_output"}) {
    CheckClose(output, masked.Get(output), expected.Get(std::string("masked.") + output));
  }
}

TEST_CASE("sample draws diffusers' picture from the same latents") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const StateDict expected = LoadSafetensors(Fixture(name) / "expected.safetensors");
  const fs::path folder = TestFolder("sample");
  const std::vector<std::string> common = {
      "--steps=6", "--latents=" + (Fixture(name) / "inputs.safetensors").string(),
      name == "sd1" ? "--guidance=7.5" : "--guidance=3"};
  for (const bool ddim : {true, false}) {
    const std::vector<std::string> flags =
        common +
        (ddim ? std::vector<std::string>{"--scheduler=ddim"}
              : std::vector<std::string>{"--scheduler=pndm", "--negative_prompt=a blue dog"});
    const ProcessResult result =
        Run("EXCISE_SAMPLE", SampleArguments(name, folder / "a.safetensors") + flags);
    INFO(result.err);
    REQUIRE(result.code == 0);
    CHECK(result.out.empty());
    const StateDict out = LoadSafetensors(folder / "a.safetensors");
    CHECK(out.size() == 1);
    const at::Tensor image = out.Get("image");
    CheckClose(name, image, expected.Get(ddim ? "ddim.image" : "pndm.image"));

    REQUIRE(Run("EXCISE_SAMPLE", SampleArguments(name, folder / "a.png") + flags).code == 0);
    CHECK(ReadPicture(folder / "a.png").equal(ToUint8(image)[0]));
  }
}

// The largest difference of two pictures.
double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return at::sub(a, b).abs().max().item<double>();
}

TEST_CASE("12 steps of a snapshot's own sampler give diffusers' picture, at odd sizes as well") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2", "sd_zero_snr");
  const fs::path folder = TestFolder("own_sampler");
  const StateDict runs = LoadSafetensors(Fixture("pipelines.safetensors"));
  StateDict given;
  given.Set("latents", runs.Get(name + ".latents"));
  SaveSafetensors(folder / "latents.safetensors", given);
  const std::string guidance = name == "sd1" ? "7.5" : name == "sd2" ? "3" : "2";
  const ProcessResult result =
      Run("EXCISE_SAMPLE",
          SampleArguments(name, folder / "a.safetensors") +
              std::vector<std::string>{"--negative_prompt=a blue dog", "--steps=12",
                                       "--guidance=" + guidance,
                                       "--latents=" + (folder / "latents.safetensors").string()});
  INFO(name << ": " << result.err);
  REQUIRE(result.code == 0);
  CHECK(MaxDifference(LoadSafetensors(folder / "a.safetensors").Get("image"),
                      runs.Get(name + ".own.image")) <= 1e-3);
}

TEST_CASE("--noise=torch_cpu draws latents and step noise as diffusers does from one generator") {
  const fs::path folder = TestFolder("torch_cpu");
  const StateDict runs = LoadSafetensors(Fixture("pipelines.safetensors"));
  const ProcessResult result = Run(
      "EXCISE_SAMPLE",
      SampleArguments("sd1", folder / "a.safetensors") +
          std::vector<std::string>{"--negative_prompt=a blue dog", "--steps=12", "--guidance=7.5",
                                   "--scheduler=EulerAncestralDiscreteScheduler",
                                   "--noise=torch_cpu", "--seed=652"});
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(MaxDifference(LoadSafetensors(folder / "a.safetensors").Get("image"),
                      runs.Get("sd1.euler_ancestral.image")) <= 1e-3);
}

TEST_CASE("--latents may bring the noise of every step") {
  const fs::path folder = TestFolder("step_noise");
  const StateDict runs = LoadSafetensors(Fixture("pipelines.safetensors"));
  const auto draw = TorchCpuNoise(651);  // as in the fixture
  std::vector<at::Tensor> noise;
  for (int i = 0; i < 12; ++i) noise.push_back(draw({1, 4, 8, 8}));
  const auto sample = [&](const std::string& scheduler, const at::Tensor& step_noise) {
    StateDict given;
    given.Set("latents", runs.Get("sd1.latents"));
    given.Set("step_noise", step_noise);
    SaveSafetensors(folder / "in.safetensors", given);
    return Run("EXCISE_SAMPLE",
               SampleArguments("sd1", folder / "a.safetensors") +
                   std::vector<std::string>{"--negative_prompt=a blue dog", "--steps=12",
                                            "--guidance=7.5", "--scheduler=" + scheduler,
                                            "--latents=" + (folder / "in.safetensors").string()});
  };
  const Backbone backbone = LoadBackbone(Fixture("sd1"));
  for (const std::string scheduler : {"ddpm", "euler_ancestral", "ddim"}) {
    const ProcessResult result = sample(scheduler, at::stack(noise));
    INFO(scheduler << ": " << result.err);
    REQUIRE(result.code == 0);
    const bool unused = result.err.find("'step_noise' is not used") != std::string::npos;
    CHECK(unused == (scheduler == "ddim"));
    CHECK(MaxDifference(LoadSafetensors(folder / "a.safetensors").Get("image"),
                        DecodeImages(backbone, runs.Get("sd1." + scheduler + ".final"))) <= 1e-3);
  }
  const ProcessResult result = sample("ddpm", noise[0]);
  CHECK(result.code == 1);
  CHECK_THAT(result.err, Contains("(12, 1, 4, 8, 8)"));
}

TEST_CASE("every scheduler draws something with one step, no guidance and no words") {
  const fs::path folder = TestFolder("one_step");
  for (const std::string& scheduler : SchedulerNames()) {
    const ProcessResult result = Run(
        "EXCISE_SAMPLE", {"--model", Fixture("sd1").string(), "--prompt=", "--steps=1",
                          "--guidance=1", "--scheduler=" + scheduler, "--height=24", "--width=40",
                          "--threads=1", "--out", (folder / (scheduler + ".png")).string()});
    INFO(scheduler << ": " << result.err);
    CHECK(result.code == 0);
    CHECK(ReadPicture(folder / (scheduler + ".png")).sizes() == at::IntArrayRef{3, 24, 40});
  }
}

TEST_CASE("the seed decides the picture; sizes and relative paths work") {
  const fs::path folder = TestFolder("seed");
  const auto draw = [&](const std::string& file, const std::vector<std::string>& flags,
                        const fs::path& where = {}) {
    auto arguments = SampleArguments("sd1", file);
    const ProcessResult result = Run("EXCISE_SAMPLE", arguments + flags, "", where);
    INFO(result.err);
    REQUIRE(result.code == 0);
  };
  draw((folder / "a.png").string(), {"--seed=1", "--steps=2"});
  draw((folder / "b.png").string(), {"--seed=1", "--steps=2"});
  draw((folder / "c.png").string(), {"--seed=2", "--steps=2"});
  CHECK(ReadBytes(folder / "a.png") == ReadBytes(folder / "b.png"));
  CHECK(ReadBytes(folder / "a.png") != ReadBytes(folder / "c.png"));
  draw("wide.png", {"--height=32", "--width=96", "--steps=2", "--negative_prompt="}, folder);
  CHECK(ReadPicture(folder / "wide.png").sizes() == at::IntArrayRef{3, 32, 96});
}

TEST_CASE("wrong command lines exit 2 and say what to do") {
  const fs::path folder = TestFolder("usage");
  const auto sample = [&](const std::vector<std::string>& flags) {
    return Run("EXCISE_SAMPLE", SampleArguments("sd1", folder / "a.png") + flags);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--scheduler=ddmi", "Did you mean 'ddim'?"},
      {"--steps=0", "--steps=0"},
      {"--steps=1001", "1001"},
      {"--guidance=nan", "--guidance"},
      {"--height=33", "multiples of 8"},
      {"--scheduler=heun", "euler_ancestral"},
      {"--scheduler=EulerDiscrete", "euler"},
      {"--noise=torch", "Did you mean 'torch_cpu'?"},
      {"--eta=1.5", "--eta"},
      {"--eta=0.5", "only the scheduler 'ddim'"},
  };
  for (const auto& [flag, message] : cases) {
    const ProcessResult result = sample({flag});
    INFO(flag << ": " << result.err);
    CHECK(result.code == 2);
    CHECK_THAT(result.err, Contains(message));
    CHECK(result.out.empty());
    CHECK_FALSE(fs::exists(folder / "a.png"));
  }
  ProcessResult result = Run("EXCISE_SAMPLE", SampleArguments("sd1", folder / "a.gif"));
  CHECK(result.code == 2);
  CHECK_THAT(result.err, Contains(".png or .safetensors"));
  result = Run("EXCISE_SAMPLE", {"--promt=x"});
  CHECK(result.code == 2);
  CHECK_THAT(result.err, Contains("'--prompt'"));
  result = Run("EXCISE_FORWARD", {"--model=x", "--module=unt", "--in=x", "--out=x"});
  CHECK(result.code == 2);
  CHECK_THAT(result.err, Contains("Did you mean 'unet'?"));
  result = Run("EXCISE_FORWARD", {"--help"});
  CHECK(result.code == 0);
  CHECK_THAT(result.out, Contains("latent_dist.mean"));
  CHECK(result.err.empty());
}

TEST_CASE("unusable files exit 1, are named, and leave nothing behind") {
  const fs::path folder = TestFolder("bad_files"), out = folder / "out.safetensors";
  const auto forward = [&](const StateDict& given, const std::string& module,
                           const std::string& model) {
    SaveSafetensors(folder / "in.safetensors", given);
    return Run("EXCISE_FORWARD", {"--model=" + model, "--module=" + module,
                                  "--in=" + (folder / "in.safetensors").string(),
                                  "--out=" + out.string(), "--threads=1"});
  };
  const auto check = [&](const ProcessResult& result, const std::string& message) {
    INFO(result.err);
    CHECK(result.code == 1);
    CHECK_THAT(result.err, Contains(message));
    CHECK_FALSE(fs::exists(out));
  };
  const std::string sd1 = Fixture("sd1").string();
  const at::Tensor sample = at::zeros({1, 4, 8, 8}), time = at::zeros({1}, at::kLong);
  StateDict given;
  given.Set("sample", sample);
  given.Set("timestep", time);
  check(forward(given, "unet", sd1), "'encoder_hidden_states'");
  given.Set("encoder_hidden_states", at::zeros({1, 16, 7}));
  check(forward(given, "unet", sd1), "(1, any, 24)");
  check(forward(given, "unet", (folder / "none").string()), "no such folder");
  check(forward(given, "vision_model", sd1), "no vision part");
  check(forward(given, "unet", folder.string()), "unet/config.json");
  StateDict ids;
  ids.Set("input_ids", at::zeros({1, 16}, at::kLong).add(604));
  check(forward(ids, "text_encoder", sd1), "outside the vocabulary");
  ids.Set("input_ids", at::zeros({1, 17}, at::kLong));
  check(forward(ids, "text_encoder", sd1), "reads 16");
  ids.Set("input_ids", at::zeros({1, 16}));
  check(forward(ids, "text_encoder", sd1), "must be integer");

  std::ofstream(folder / "broken.safetensors") << "not a safetensors file at all";
  check(Run("EXCISE_FORWARD", {"--model=" + sd1, "--module=unet", "--out=" + out.string(),
                               "--in=" + (folder / "broken.safetensors").string()}),
        "broken.safetensors");
  check(Run("EXCISE_SAMPLE",
            SampleArguments("sd1", out) +
                std::vector<std::string>{"--latents=" + (folder / "in.safetensors").string()}),
        "latents");
  check(Run("EXCISE_SAMPLE", {"--model=" + folder.string(), "--prompt=x", "--out=" + out.string()}),
        "tokenizer");
  check(Run("EXCISE_TOKENIZE", {"--model=" + folder.string()}), "vocab.json");
  check(Run("EXCISE_SAMPLE", SampleArguments("sd1", folder / "none" / "a.png")), "none");
}

TEST_CASE("a misspelt optional tensor is reported, and so is a cut prompt") {
  const fs::path folder = TestFolder("warnings");
  StateDict given;
  given.Set("input_ids", at::zeros({1, 16}, at::kLong));
  given.Set("atention_mask", at::zeros({1, 16}, at::kLong));
  SaveSafetensors(folder / "in.safetensors", given);
  ProcessResult result =
      Run("EXCISE_FORWARD", {"--model=" + Fixture("sd1").string(), "--module=text_encoder",
                             "--threads=1", "--in=" + (folder / "in.safetensors").string(),
                             "--out=" + (folder / "out.safetensors").string()});
  CHECK(result.code == 0);
  CHECK_THAT(result.err, Contains("Did you mean 'attention_mask'?"));
  result = Run("EXCISE_SAMPLE",
               {"--model=" + Fixture("sd1").string(), "--steps=1", "--threads=1",
                "--out=" + (folder / "a.png").string(),
                "--prompt=a picture of a poodle, a dog, a cat, a bird, a fish and a lot more"});
  CHECK(result.code == 0);
  CHECK_THAT(result.err, Contains("more than the 14 tokens"));
}

}  // namespace excise
