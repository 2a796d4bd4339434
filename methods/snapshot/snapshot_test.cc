// Method `snapshot` on tests/fixtures/sd1; the LoRAs of tests/fixtures/lora are held against what
// diffusers and peft make of them (tools/make_lora_fixtures.py).
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/text.h"
#include "methods/method.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

const Backbone& Sd1() {
  static const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  return base;
}

Erased Run(const Json& params, const Backbone& base = Sd1()) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("snapshot");
  DecodeParams(params, *method, "test");
  TinyContext context;
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  ApplyErased(base, erased);  // refuses what does not fit
  return erased;
}

void Refused(const Json& params, const std::string& message) {
  INFO(message);
  CHECK_THROWS_WITH(Run(params), Contains(message));
}

fs::path Lora(const std::string& name) { return RepoFile("tests/fixtures/lora") / name; }

double Norm(const at::Tensor& t) { return at::linalg_vector_norm(t).item<double>(); }

// Every change that the reference made is there, as it made it, and no other.
void CheckAgainst(const std::string& reference, const Erased& erased) {
  const std::string prefix = reference + "/";
  size_t checked = 0;
  for (const auto& [name, change] : LoadSafetensors(Lora("expected.safetensors"))) {
    if (!StartsWith(name, prefix)) continue;
    INFO(name);
    const bool unet = name.compare(prefix.size(), 5, "unet.") == 0;
    const std::string tensor = name.substr(prefix.size() + (unet ? 5 : 13));
    const StateDict& out = unet ? erased.unet : erased.text_encoder;
    const StateDict& base = unet ? Sd1().unet : Sd1().text_encoder;
    REQUIRE(out.Contains(tensor));
    const at::Tensor ours = at::sub(out.Get(tensor), base.Get(tensor));
    CHECK(Norm(at::sub(ours, change)) <= 1e-5 * Norm(change));
    ++checked;
  }
  CHECK(checked > 5);
  CHECK(erased.unet.size() + erased.text_encoder.size() == checked);
  CHECK(erased.vae.size() == 0);
}

StateDict SomeLora() {
  StateDict lora;
  const std::string layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q";
  const at::Tensor& weight = Sd1().unet.Get(layer + ".weight");
  lora.Set("unet." + layer + ".lora_A.weight", at::ones({2, weight.size(1)}));
  lora.Set("unet." + layer + ".lora_B.weight", at::ones({weight.size(0), 2}));
  return lora;
}

}  // namespace

TEST_CASE("LoRAs change weights as diffusers and peft do") {
  CheckAgainst("diffusers_peft",
               Run({{"lora", Lora("diffusers_peft.safetensors")}, {"scale", 0.7}}));
  for (const std::string name : {"diffusers_metadata", "attn_processor", "lora_down", "kohya"}) {
    INFO(name);
    CheckAgainst(name, Run({{"lora", Lora(name + ".safetensors")}}));
  }
  for (const std::string name : {"peft_unet", "peft_rslora", "peft_text"}) {
    INFO(name);
    CheckAgainst(name, Run({{"lora", Lora(name)}}));
  }
}

TEST_CASE("a LoRA that cannot be meant is refused by file and tensor") {
  const fs::path folder = TestFolder("lora"), file = folder / "bad.safetensors";
  const auto refused = [&](const StateDict& tensors, const std::string& message) {
    SaveSafetensors(file, tensors);
    Refused({{"lora", file}}, message);
  };
  const std::string stem = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q";
  StateDict lora = SomeLora();
  lora.Set(stem + ".lora_magnitude_vector", at::ones({4}));
  refused(lora, "DoRA");
  lora = SomeLora();
  lora.Set("lora_te2_text_model_x.lora_down.weight", at::ones({2, 2}));
  refused(lora, "SDXL");
  lora = SomeLora();
  lora.Set("unet.no.such.layer.lora_A.weight", at::ones({2, 2}));
  lora.Set("unet.no.such.layer.lora_B.weight", at::ones({2, 2}));
  refused(lora, "'unet.no.such.layer' is none of");
  lora = SomeLora();
  lora.Set("conv_in.weight", at::ones({2, 2}));
  refused(lora, "parameter 'tensors'");
  lora = SomeLora();
  lora.Set(stem + ".lora_A.weight", at::ones({3, 16}));
  refused(lora, "do not make a change of the shape");
  lora = SomeLora();
  lora.Set(stem + ".lora_B.weight", at::ones({7, 2}));
  refused(lora, "do not make a change of the shape");
  StateDict half;
  half.Set(stem + ".lora_A.weight", at::ones({2, 16}));
  refused(half, "has no 'up' part");
  lora = SomeLora();
  lora.Set(stem + ".lora_A.other.weight", at::ones({2, 16}));
  refused(lora, "two adapters");
  lora = SomeLora();
  lora.Set("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q.lora_down.weight",
           at::ones({2, 32}));
  lora.Set("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q.lora_up.weight",
           at::ones({32, 2}));
  refused(lora, "both change");
  refused({}, "holds no tensor");
  std::ofstream(folder / "lora.bin") << "x";
  Refused({{"lora", folder / "lora.bin"}}, "never read");
  std::ofstream(folder / "cut.safetensors") << "x";
  Refused({{"lora", folder / "cut.safetensors"}}, "cut.safetensors");
  Refused({{"lora", RepoFile("tests/fixtures/sd1/unet")}}, "adapter_model.safetensors");
  // The strength stands beside the file.
  Refused({{"lora", Lora("peft_unet/adapter_model.safetensors")}}, "Name the folder");
  Refused({{"lora", folder / "none.safetensors"}}, "there is no such file");
}

TEST_CASE("an adapter_config.json that asks for more than a LoRA is refused") {
  const fs::path folder = TestFolder("adapter");
  SaveSafetensors(folder / "adapter_model.safetensors", SomeLora());
  const auto refused = [&](const std::string& config, const std::string& message) {
    std::ofstream(folder / "adapter_config.json") << config;
    Refused({{"lora", folder}}, message);
  };
  refused(R"({"peft_type": "LORA", "use_dora": true})", "DoRA");
  refused(R"({"peft_type": "LOHA"})", "peft_type LOHA");
  refused(R"({"init_lora_weights": "pissa_niter_4"})", "moves the base");
  refused(R"({"lora_alpha": "four"})", "is no number");
  refused(R"({"alpha_pattern": {"(": 3}})", "alpha_pattern");
  refused(R"([1])", "expected an object");
}

TEST_CASE("an alpha_pattern is matched as peft does, and never for long") {
  const fs::path folder = TestFolder("alpha_pattern");
  SaveSafetensors(folder / "adapter_model.safetensors", SomeLora());
  const std::string name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight";
  // How far the one weight moves; up times down is 2 everywhere, and alpha / rank is alpha / 2.
  const auto change = [&](const Json& config) {
    std::ofstream(folder / "adapter_config.json") << config.dump();
    const at::Tensor moved = at::sub(Run({{"lora", folder}}).unet.Get(name), Sd1().unet.Get(name));
    return moved.mean().item<double>();
  };
  CHECK(change({{"lora_alpha", 2}}) == Approx(2).epsilon(1e-4));
  for (const char* pattern : {"attn2\\.to_[qk]", "to_q", "mid_block.*|nothing"}) {
    INFO(pattern);
    CHECK(change({{"lora_alpha", 2}, {"alpha_pattern", {{pattern, 6}}}}) ==
          Approx(6).epsilon(1e-4));
  }
  // For the whole end of the name, from a dot on.
  for (const char* pattern : {"o_q", "attn2", "to_q\\.weight"}) {
    INFO(pattern);
    CHECK(change({{"lora_alpha", 2}, {"alpha_pattern", {{pattern, 6}}}}) ==
          Approx(2).epsilon(1e-4));
  }
  const auto refused = [&](const Json& patterns, const std::string& message) {
    std::ofstream(folder / "adapter_config.json") << Json{{"alpha_pattern", patterns}}.dump();
    Refused({{"lora", folder}}, message);
  };
  // 2 to the power of 57 ways to take the name apart.
  refused({{"(([a-z0-9_.])+)+!", 1}}, "takes too long to match");
  refused({{"(.*)*(.*)*(.*)*\\1\\2\\3!", 1}}, "takes too long to match");
  refused({{std::string(100'000, '('), 1}}, "100000 bytes; at most 1000");
  refused({{std::string(900, '('), 1}}, "is no regular expression");
  Json many = Json::object();
  for (int i = 0; i <= 2000; ++i) many[std::to_string(i)] = 1;
  refused(many, "2001 entries; at most 2000");
}

TEST_CASE("replacement tensors are found by their names, with and without prefix") {
  const std::string key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
  const std::string fc1 = "text_model.encoder.layers.0.mlp.fc1.weight";
  const at::Tensor k = at::add(Sd1().unet.Get(key), 1), f = at::add(Sd1().text_encoder.Get(fc1), 1);
  const fs::path folder = TestFolder("tensors"), file = folder / "edit.safetensors";
  for (const bool prefix : {false, true}) {
    StateDict tensors;
    tensors.Set((prefix ? "unet." : "") + key, k.to(at::kHalf));
    tensors.Set(prefix ? "text_encoder." + fc1 : fc1, f);
    tensors.Set("conv_in.bias", Sd1().unet.Get("conv_in.bias"));  // not changed: stays shared
    SaveSafetensors(file, tensors);
    const Erased erased = Run({{"tensors", file}});
    CHECK(erased.unet.size() == 1);
    CHECK(erased.unet.Get(key).equal(k.to(at::kHalf).to(at::kFloat)));
    CHECK(erased.text_encoder.size() == 1);
    CHECK(erased.text_encoder.Get(fc1).equal(f));
    CHECK(erased.vae.size() == 0);
  }
  const auto refused = [&](const std::string& name, const at::Tensor& tensor,
                           const std::string& message) {
    StateDict tensors;
    tensors.Set(name, tensor);
    SaveSafetensors(file, tensors);
    Refused({{"tensors", file}}, message);
  };
  refused(key, at::zeros({3, 3}), "is [3, 3], the base model's");
  refused("model.diffusion_model.x", k, "none of the base model's");
  refused("vae." + key, k, "none of the base model's");
  std::ofstream(folder / "esd.pt") << "x";
  Refused({{"tensors", folder / "esd.pt"}}, "never read");
}

TEST_CASE("a folder replaces what differs: a pipeline, a part of one, a part alone, shards") {
  const fs::path folder = TestFolder("folder");
  fs::copy(RepoFile("tests/fixtures/sd1/unet"), folder / "unet");
  CHECK(Run({{"folder", folder}}).unet.size() == 0);  // the same weights
  const std::string stem = "diffusion_pytorch_model", name = "conv_in.weight";
  StateDict unet = LoadSafetensorsFolder(folder / "unet", stem);
  const at::Tensor edited = at::add(unet.Get(name), 0.5);
  unet.Set(name, edited);
  SaveSafetensors(folder / "unet" / (stem + ".safetensors"), unet);
  for (const fs::path& given : {folder, folder / "unet"}) {
    const Erased erased = Run({{"folder", given}});
    REQUIRE(erased.unet.size() == 1);
    CHECK(erased.unet.Get(name).equal(edited));
    CHECK(erased.text_encoder.size() + erased.vae.size() == 0);
  }
  // The same in two shards.
  StateDict parts[2];
  Json map = Json::object();
  size_t i = 0;
  for (const auto& [tensor, value] : unet) {
    parts[i % 2].Set(tensor, value);
    map[tensor] = i++ % 2 == 0 ? "a.safetensors" : "b.safetensors";
  }
  fs::remove(folder / "unet" / (stem + ".safetensors"));
  SaveSafetensors(folder / "unet" / "a.safetensors", parts[0]);
  SaveSafetensors(folder / "unet" / "b.safetensors", parts[1]);
  std::ofstream(folder / "unet" / (stem + ".safetensors.index.json")) << Json{{"weight_map", map}};
  CHECK(Run({{"folder", folder}}).unet.size() == 1);
  // With a LoRA on top.
  const fs::path lora = TestFolder("both") / "lora.safetensors";
  SaveSafetensors(lora, SomeLora());
  CHECK(Run({{"folder", folder}, {"lora", lora}, {"scale", -1}}).unet.size() == 2);
  CHECK(Run({{"folder", RepoFile("tests/fixtures/sd1/text_encoder")}}).text_encoder.size() == 0);
  CHECK(Run({{"folder", RepoFile("tests/fixtures/sd1/vae")}}).vae.size() == 0);
}

TEST_CASE("a folder of another architecture is refused") {
  const fs::path folder = TestFolder("other");
  Refused({{"folder", folder}}, "neither a pipeline");
  Refused({{"folder", RepoFile("tests/fixtures/sd2/unet")}}, "another architecture");
  Refused({{"folder", Lora("peft_unet")}}, "parameter 'lora'");
  std::ofstream(folder / "config.json") << "{\"_class_name\": \"Transformer2DModel\"}";
  Refused({{"folder", folder}}, "no class that is known");
  const fs::path pipeline = TestFolder("prediction");
  fs::copy(RepoFile("tests/fixtures/sd1/vae"), pipeline / "vae");
  fs::create_directory(pipeline / "scheduler");
  std::ofstream(pipeline / "scheduler" / "scheduler_config.json")
      << "{\"prediction_type\": \"v_prediction\"}";
  Refused({{"folder", pipeline}}, "prediction_type");
}

}  // namespace excise
