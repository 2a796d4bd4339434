#include "models/snapshots/backbone.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

ClipConfig TinyClip() {
  ClipConfig config;
  config.text.hidden_size = config.vision.hidden_size = 8;
  config.text.intermediate_size = config.vision.intermediate_size = 16;
  config.text.num_hidden_layers = config.vision.num_hidden_layers = 1;
  config.text.num_attention_heads = config.vision.num_attention_heads = 2;
  config.text.max_position_embeddings = 8;
  config.vision.image_size = 8;
  config.vision.patch_size = 4;
  config.projection_dim = config.text.projection_dim = config.vision.projection_dim = 4;
  return config;
}

UNetConfig TinyUNet() {
  UNetConfig config;
  config.block_out_channels = {8, 8};
  config.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  config.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 8;
  config.norm_num_groups = 4;
  config.num_heads = {2, 2};
  return config;
}

VaeConfig TinyVae() {
  VaeConfig config;
  config.block_out_channels = {4, 8};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  return config;
}

void WriteText(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

// A complete snapshot in Hugging Face layout.
fs::path WriteSnapshot(const std::string& name) {
  const fs::path folder = TestFolder(name);
  fs::create_directories(folder / "tokenizer");
  TrainTokenizer({"a red fox", "a blue fish", "a red fish"}, 20, 8, folder / "tokenizer");
  ClipConfig clip = TinyClip();
  const auto tokenizer = Tokenizer::Load(folder / "tokenizer");
  clip.text.vocab_size = tokenizer->vocab_size();
  clip.text.bos_token_id = tokenizer->bos_id();
  clip.text.eos_token_id = tokenizer->eos_id();
  clip.text.pad_token_id = tokenizer->pad_id();
  WriteText(folder / "text_encoder/config.json", ClipConfigToJson(clip).dump());
  SaveSafetensors(folder / "text_encoder/model.safetensors", InitClip(clip, 1));
  WriteText(folder / "unet/config.json", UNetConfigToJson(TinyUNet()).dump());
  SaveSafetensors(folder / "unet/diffusion_pytorch_model.safetensors", InitUNet(TinyUNet(), 1));
  WriteText(folder / "vae/config.json", VaeConfigToJson(TinyVae()).dump());
  SaveSafetensors(folder / "vae/diffusion_pytorch_model.safetensors", InitVae(TinyVae(), 1));
  WriteText(folder / "scheduler/scheduler_config.json",
            SchedulerConfigToJson(SchedulerConfig{}).dump());
  return folder;
}

}  // namespace

TEST_CASE("a snapshot folder loads whole, with its vision part") {
  const fs::path folder = WriteSnapshot("snapshot");
  const Backbone backbone = LoadBackbone(folder / "");
  CHECK(backbone.name == folder.filename().string());
  CHECK(backbone.unet_config.block_out_channels == TinyUNet().block_out_channels);
  CHECK(backbone.clip.vision.patch_size == 4);
  CHECK(backbone.text_encoder.Contains("vision_model.post_layernorm.weight"));
  const StateDict unet = InitUNet(TinyUNet(), 1);
  REQUIRE(backbone.unet.size() == unet.size());
  for (const auto& [name, tensor] : unet) CHECK(at::equal(backbone.unet.Get(name), tensor));

  NoGrad no_grad;
  const at::Tensor ids = TokenizeBatch(*backbone.tokenizer, {"a red fox", "", "a fish"}, 8);
  REQUIRE(ids.sizes() == at::IntArrayRef({3, 8}));
  CHECK(ids[1][0].item<int64_t>() == backbone.tokenizer->bos_id());
  CHECK(ids[1][1].item<int64_t>() == backbone.tokenizer->eos_id());
  CHECK(ids[0][1].item<int64_t>() == backbone.tokenizer->Encode("a red fox").front());
  const at::Tensor states = EncodeText(backbone, ids);
  CHECK(states.sizes() == at::IntArrayRef({3, 8, 8}));
  SamplerSpec spec;
  spec.steps = 2;
  const at::Tensor latents = SampleLatents(backbone, nullptr, states, states[1].expand({3, 8, 8}),
                                           nn::InitNormal({3, 4, 4, 4}, 1, 1, "latents"), spec);
  const at::Tensor images = DecodeImages(backbone, latents);
  CHECK(images.sizes() == at::IntArrayRef({3, 3, 8, 8}));
  CHECK(images.min().item<double>() >= 0);
  CHECK(images.max().item<double>() <= 1);
  const at::Tensor expected =
      VaeDecode(backbone.vae_config, backbone.vae, latents / 0.18215) / 2 + 0.5;
  CHECK(at::allclose(images, expected.clamp(0, 1)));
}

TEST_CASE("a lone text encoder under the names of transformers 5 is the same model") {
  const fs::path folder = WriteSnapshot("bare_names");
  NoGrad no_grad;
  const Backbone whole = LoadBackbone(folder);
  Json config = ClipConfigToJson(whole.clip)["text_config"];
  config["model_type"] = "clip_text_model";
  WriteText(folder / "text_encoder/config.json", config.dump());
  StateDict bare;
  for (const auto& [name, tensor] : whole.text_encoder) {
    if (StartsWith(name, "text_model.")) bare.Set(name.substr(11), tensor);
  }
  bare.Set("embeddings.position_ids", at::zeros({1, 8}, at::kLong));
  SaveSafetensors(folder / "text_encoder/model.safetensors", bare);
  const Backbone text_only = LoadBackbone(folder);
  const at::Tensor ids = TokenizeBatch(*whole.tokenizer, {"a blue fish"}, 8);
  CHECK(at::equal(EncodeText(text_only, ids), EncodeText(whole, ids)));
  CHECK(text_only.digest != whole.digest);
}

TEST_CASE("the digest depends on the bytes that are used, and on nothing else") {
  const fs::path folder = WriteSnapshot("digest");
  const std::string digest = LoadBackbone(folder).digest;
  CHECK(digest.size() == 64);
  WriteText(folder / "README.md", "not used");
  WriteText(folder / "model_index.json", "{}");
  CHECK(LoadBackbone(folder).digest == digest);
  fs::path other = TestFolder("digest_copy");
  fs::copy(folder, other, fs::copy_options::recursive);
  CHECK(LoadBackbone(other).digest == digest);
  SaveSafetensors(other / "vae/diffusion_pytorch_model.safetensors", InitVae(TinyVae(), 2));
  CHECK(LoadBackbone(other).digest != digest);
}

TEST_CASE("missing files are all named") {
  const fs::path folder = WriteSnapshot("missing");
  fs::remove(folder / "unet/diffusion_pytorch_model.safetensors");
  fs::remove(folder / "scheduler/scheduler_config.json");
  fs::remove(folder / "tokenizer/merges.txt");
  CHECK_THROWS_WITH(LoadBackbone(folder),
                    Catch::Contains("unet/diffusion_pytorch_model.safetensors") &&
                        Catch::Contains("scheduler/scheduler_config.json") &&
                        Catch::Contains("tokenizer/merges.txt") &&
                        !Catch::Contains("vae/config.json"));
  CHECK_THROWS_WITH(LoadBackbone(folder / "nowhere"), Catch::Contains("vae/config.json"));
}

TEST_CASE("half precision variants, shards and mixed parts") {
  const fs::path folder = WriteSnapshot("variants");
  const fs::path unet = folder / "unet";
  const std::string digest = LoadBackbone(folder).digest;
  fs::rename(unet / "diffusion_pytorch_model.safetensors",
             unet / "diffusion_pytorch_model.fp16.safetensors");
  CHECK(LoadBackbone(folder).unet.size() == InitUNet(TinyUNet(), 1).size());

  StateDict first, second;
  Json map = Json::object();
  for (const auto& [name, tensor] : InitUNet(TinyUNet(), 1)) {
    const bool even = first.size() <= second.size();
    (even ? first : second).Set(name, tensor);
    map[name] = even ? "a.safetensors" : "b.safetensors";
  }
  fs::remove(unet / "diffusion_pytorch_model.fp16.safetensors");
  WriteText(unet / "diffusion_pytorch_model.safetensors.index.json",
            Json{{"metadata", Json::object()}, {"weight_map", map}}.dump());
  SaveSafetensors(unet / "a.safetensors", first);
  CHECK_THROWS_WITH(LoadBackbone(folder), Catch::Contains("unet/b.safetensors"));
  SaveSafetensors(unet / "b.safetensors", second);
  CHECK(LoadBackbone(folder).unet.size() == first.size() + second.size());
  CHECK(LoadBackbone(folder).digest != digest);

  UNetConfig wide = TinyUNet();
  wide.cross_attention_dim = 12;
  WriteText(unet / "config.json", UNetConfigToJson(wide).dump());
  CHECK_THROWS_WITH(LoadBackbone(folder), Catch::Contains("attn2.to_k"));
  fs::remove(unet / "diffusion_pytorch_model.safetensors.index.json");
  SaveSafetensors(unet / "diffusion_pytorch_model.safetensors", InitUNet(wide, 1));
  CHECK_THROWS_WITH(LoadBackbone(folder), Catch::Contains("8 wide") && Catch::Contains("12"));
}

TEST_CASE("a CLIP model finds its tokenizer in one of three places") {
  const fs::path folder = WriteSnapshot("clip");
  const ClipModel beside = LoadClipModel(folder / "text_encoder");
  CHECK(beside.weights.Contains("logit_scale"));
  fs::copy(folder / "tokenizer", folder / "text_encoder/tokenizer");
  CHECK(LoadClipModel(folder / "text_encoder").digest == beside.digest);
  fs::copy(folder / "tokenizer", folder / "text_encoder");
  CHECK(LoadClipModel(folder / "text_encoder").digest == beside.digest);
  CHECK_THROWS_WITH(LoadClipModel(folder / "vae"), Catch::Contains("model.safetensors"));
}

TEST_CASE("copies of a backbone share every tensor that was not replaced") {
  Backbone base;
  base.unet = InitUNet(TinyUNet(), 1);
  base.vae = InitVae(TinyVae(), 1);
  Backbone edited = base;
  edited.unet.Set("conv_in.bias", at::zeros({8}));
  for (const auto& [name, tensor] : base.unet) {
    CHECK((edited.unet.Get(name).data_ptr() == tensor.data_ptr()) == (name != "conv_in.bias"));
  }
  for (const auto& [name, tensor] : base.vae) {
    CHECK(edited.vae.Get(name).data_ptr() == tensor.data_ptr());
  }
}

}  // namespace excise
