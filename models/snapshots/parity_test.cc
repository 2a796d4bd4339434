// Our models against transformers 5.23.0 and diffusers 0.42.1 on the small random-weight folders of
// tests/fixtures (tools/make_fixtures.py): outputs, gradients and whole sampling loops.
#include <ATen/Parallel.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "models/nets/clip.h"
#include "models/nets/unet.h"
#include "models/nets/vae.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr double kTolerance = 1e-5;

double RelativeL2(const at::Tensor& actual, const at::Tensor& expected) {
  REQUIRE(actual.defined());
  REQUIRE(actual.sizes() == expected.sizes());
  const double norm = at::linalg_vector_norm(expected).item<double>();
  REQUIRE(norm > 1e-3);  // an expectation of zeros would prove nothing
  return at::linalg_vector_norm(at::sub(actual.detach(), expected)).item<double>() / norm;
}

struct Fixture {
  explicit Fixture(const std::string& name)
      : folder(RepoFile("tests/fixtures/" + name)),
        inputs(LoadSafetensors(folder / "inputs.safetensors")),
        expected(LoadSafetensors(folder / "expected.safetensors")) {}

  at::Tensor In(const std::string& name) const { return inputs.Get(name); }
  // An input that gradients are taken for.
  at::Tensor Leaf(const std::string& name) const { return In(name).clone().requires_grad_(); }
  void Check(const std::string& name, const at::Tensor& actual) const {
    INFO(folder.filename().string() << " " << name);
    CHECK(RelativeL2(actual, expected.Get(name)) <= kTolerance);
  }

  fs::path folder;
  StateDict inputs, expected;
};

at::Tensor WeightedSum(const at::Tensor& out, const at::Tensor& weight) {
  return at::sum(at::mul(out, weight));
}

// `weights` with one tensor replaced by a leaf that gradients are taken for.
StateDict WithLeaf(const StateDict& weights, const std::string& name) {
  StateDict copy = weights;
  copy.Set(name, weights.Get(name).clone().requires_grad_());
  return copy;
}

}  // namespace

TEST_CASE("CLIP equals transformers: text, vision, masked text, gradients") {
  const std::string name = GENERATE(as<std::string>{}, "clip_quick_gelu", "clip_legacy");
  const Fixture fixture(name);
  const fs::path config_file = fixture.folder / "config.json";
  const ClipConfig config = ParseClipConfig(ReadJsonFile(config_file), config_file.string());
  const StateDict weights = LoadSafetensorsFolder(fixture.folder, "model");
  const at::Tensor ids = fixture.In("input_ids");

  const at::Tensor embeddings = ClipTokenEmbeddings(weights, ids).detach().clone().requires_grad_();
  const ClipTextOutput text = ClipTextForward(config.text, weights, embeddings, ids);
  const at::Tensor text_embeds = ClipTextEmbeds(weights, text.pooler_output);
  fixture.Check("text.last_hidden_state", text.last_hidden_state);
  fixture.Check("text.pooler_output", text.pooler_output);
  fixture.Check("text.text_embeds", text_embeds);
  const at::Tensor text_loss = WeightedSum(text_embeds, fixture.In("text_weight"));
  fixture.Check("grad.token_embeddings", Gradients(text_loss, {embeddings})[0]);

  const at::Tensor pixels = fixture.Leaf("pixel_values");
  const ClipVisionOutput vision = ClipVisionForward(config.vision, weights, pixels);
  const at::Tensor image_embeds = ClipImageEmbeds(weights, vision.pooler_output);
  fixture.Check("vision.last_hidden_state", vision.last_hidden_state);
  fixture.Check("vision.pooler_output", vision.pooler_output);
  fixture.Check("vision.image_embeds", image_embeds);
  const at::Tensor image_loss = WeightedSum(image_embeds, fixture.In("image_weight"));
  fixture.Check("grad.pixel_values", Gradients(image_loss, {pixels})[0]);

  const ClipTextOutput masked =
      ClipTextForward(config.text, weights, embeddings, ids, fixture.In("attention_mask"));
  fixture.Check("masked.last_hidden_state", masked.last_hidden_state);
  fixture.Check("masked.pooler_output", masked.pooler_output);
  // The mask must matter here, or the two checks above say nothing about it.
  CHECK(RelativeL2(masked.last_hidden_state, text.last_hidden_state.detach()) > 0.01);
}

TEST_CASE("the U-Net equals diffusers: prediction, gradients of inputs and weights") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const Fixture fixture(name);
  const fs::path config_file = fixture.folder / "unet" / "config.json";
  const UNetConfig config = ParseUNetConfig(ReadJsonFile(config_file), config_file.string());
  const StateDict weights =
      LoadSafetensorsFolder(fixture.folder / "unet", "diffusion_pytorch_model");
  const at::Tensor sample = fixture.Leaf("unet.sample");
  const at::Tensor states = fixture.Leaf("unet.encoder_hidden_states");
  const at::Tensor timestep = fixture.In("unet.timestep");
  const at::Tensor weight = fixture.In("unet.weight");

  const at::Tensor out = UNetForward(config, weights, sample, timestep, states);
  fixture.Check("unet.sample", out);
  const auto gradients = Gradients(WeightedSum(out, weight), {sample, states});
  fixture.Check("unet.grad.sample", gradients[0]);
  fixture.Check("unet.grad.encoder_hidden_states", gradients[1]);

  int weights_checked = 0;
  const std::string prefix = "unet.grad.";
  for (const auto& [full_name, expected] : fixture.expected) {
    if (!StartsWith(full_name, prefix)) continue;
    const std::string tensor = full_name.substr(prefix.size());
    if (tensor == "sample" || tensor == "encoder_hidden_states") continue;
    const StateDict with_leaf = WithLeaf(weights, tensor);
    const at::Tensor loss = WeightedSum(
        UNetForward(config, with_leaf, sample.detach(), timestep, states.detach()), weight);
    fixture.Check(full_name, Gradients(loss, {with_leaf.Get(tensor)})[0]);
    ++weights_checked;
  }
  CHECK(weights_checked == 8);
}

TEST_CASE(
    "the VAE equals diffusers: moments, decoded image, gradients, a size that is not square") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const Fixture fixture(name);
  const Backbone backbone = LoadBackbone(fixture.folder);
  const at::Tensor images = fixture.Leaf("vae_encoder.sample");
  const VaeMoments moments = VaeEncode(backbone.vae_config, backbone.vae, images);
  fixture.Check("vae_encoder.latent_dist.mean", moments.mean);
  fixture.Check("vae_encoder.latent_dist.logvar", moments.logvar);
  const at::Tensor encode_loss = WeightedSum(moments.mean, fixture.In("vae.mean_weight"));
  fixture.Check("vae.grad.images", Gradients(encode_loss, {images})[0]);

  const at::Tensor latents = fixture.Leaf("vae_decoder.sample");
  const at::Tensor decoded = VaeDecode(backbone.vae_config, backbone.vae, latents);
  fixture.Check("vae_decoder.sample", decoded);
  const at::Tensor decode_loss = WeightedSum(decoded, fixture.In("vae.image_weight"));
  fixture.Check("vae.grad.latents", Gradients(decode_loss, {latents})[0]);
}

TEST_CASE("text to image equals diffusers' pipeline with DDIM and PNDM") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const Fixture fixture(name);
  const Backbone backbone = LoadBackbone(fixture.folder);
  CHECK(backbone.scheduler.name == (name == "sd1" ? "pndm" : "ddim"));
  const NoGrad no_grad;
  const auto encode = [&](const std::string& text) {
    return EncodeText(backbone, TokenizeBatch(*backbone.tokenizer, {text}, 16));
  };
  const at::Tensor prompt = encode("a picture of a poodle on a red background");
  for (const std::string scheduler : {"ddim", "pndm"}) {
    SamplerSpec spec;
    spec.scheduler = scheduler;
    spec.steps = 6;
    spec.guidance_scale = name == "sd1" ? 7.5 : 3.0;
    int64_t evaluations = 0;
    const at::Tensor latents =
        SampleLatents(backbone, nullptr, prompt, encode(scheduler == "ddim" ? "" : "a blue dog"),
                      fixture.In("latents"), spec, &evaluations);
    fixture.Check(scheduler + ".latents", latents);
    fixture.Check(scheduler + ".image", DecodeImages(backbone, latents));
    CHECK(evaluations == (scheduler == "ddim" ? 2 * 6 : 2 * 7));  // two streams
  }
}

TEST_CASE(
    "CLIP of other shapes: sharded with end id 2, or a text model as transformers 5 saves it") {
  const std::string name = GENERATE(as<std::string>{}, "clip_sharded", "clip_text_only");
  const Fixture fixture(name);
  ClipConfig config;
  StateDict weights;
  LoadTextEncoder(fixture.folder, &config, &weights);
  const NoGrad no_grad;
  const at::Tensor ids = fixture.In("input_ids");
  const ClipTextOutput text =
      ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids);
  fixture.Check("text.last_hidden_state", text.last_hidden_state);
  fixture.Check("text.text_embeds", ClipTextEmbeds(weights, text.pooler_output));
  if (name == "clip_text_only") return;
  fixture.Check("text.pooler_output", text.pooler_output);
  const ClipVisionOutput vision =
      ClipVisionForward(config.vision, weights, fixture.In("pixel_values"));
  fixture.Check("vision.last_hidden_state", vision.last_hidden_state);
  fixture.Check("vision.pooler_output", vision.pooler_output);
  fixture.Check("vision.image_embeds", ClipImageEmbeds(weights, vision.pooler_output));
}

TEST_CASE("U-Nets of other layouts, at sizes whose way up needs the way down's sizes") {
  const std::string name = GENERATE(as<std::string>{}, "unet_plain", "sd_zero_snr/unet");
  const Fixture fixture(name);
  UNetConfig config;
  StateDict weights;
  LoadUNet(fixture.folder, &config, &weights);
  const NoGrad no_grad;
  const at::Tensor out = UNetForward(config, weights, fixture.In("sample"), fixture.In("timestep"),
                                     fixture.In("encoder_hidden_states"));
  fixture.Check("sample", out);
}

TEST_CASE("a VAE of three levels and another scaling factor") {
  const Fixture fixture("vae_three_levels");
  VaeConfig config;
  StateDict weights;
  LoadVae(fixture.folder, &config, &weights);
  CHECK(config.scaling_factor == 0.13025);
  const NoGrad no_grad;
  const VaeMoments moments = VaeEncode(config, weights, fixture.In("images"));
  fixture.Check("mean", moments.mean);
  fixture.Check("logvar", moments.logvar);
  fixture.Check("image", VaeDecode(config, weights, fixture.In("latents")));
}

TEST_CASE("12 steps of diffusers' pipeline with every sampler, guided by a negative prompt") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2", "sd_zero_snr");
  at::set_num_threads(1);  // on tensors this small, threads cost more than they do
  const StateDict expected = LoadSafetensors(RepoFile("tests/fixtures/pipelines.safetensors"));
  const Backbone backbone = LoadBackbone(RepoFile("tests/fixtures/" + name));
  const NoGrad no_grad;
  const auto encode = [&](const std::string& text) {
    return EncodeText(backbone, TokenizeBatch(*backbone.tokenizer, {text}, 16));
  };
  const at::Tensor prompt = encode("a picture of a poodle on a red background");
  const at::Tensor negative = encode("a blue dog");
  std::vector<std::string> schedulers = SchedulerNames();
  schedulers.insert(schedulers.begin(), "");
  for (const std::string& scheduler : schedulers) {
    SamplerSpec spec;
    spec.scheduler = scheduler;
    spec.steps = 12;
    spec.guidance_scale = name == "sd1" ? 7.5 : name == "sd2" ? 3.0 : 2.0;
    spec.noise = [draw = TorchCpuNoise(651)](size_t, const at::Tensor& like) {
      return draw(like.sizes());
    };
    const at::Tensor latents =
        SampleLatents(backbone, nullptr, prompt, negative, expected.Get(name + ".latents"), spec);
    const std::string key = name + "." + (scheduler.empty() ? "own" : scheduler);
    CAPTURE(key);
    // The U-Net of random weights amplifies rounding from step to step.
    CHECK(RelativeL2(latents, expected.Get(key + ".final")) <= 1e-4);
    if (!scheduler.empty()) continue;
    const at::Tensor difference =
        at::sub(DecodeImages(backbone, latents), expected.Get(key + ".image"));
    CHECK(difference.abs().max().item<double>() <= 1e-3);
  }
}

TEST_CASE("the text encoder of a pipeline equals transformers, end id 2 included") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const Fixture fixture(name);
  const Backbone backbone = LoadBackbone(fixture.folder);
  const at::Tensor ids = fixture.In("text.input_ids");
  CHECK(TokenizeBatch(*backbone.tokenizer, {"a picture of a poodle", ""}, 16).equal(ids));
  const at::Tensor embeddings = ClipTokenEmbeddings(backbone.text_encoder, ids);
  const ClipTextOutput out =
      ClipTextForward(backbone.clip.text, backbone.text_encoder, embeddings, ids);
  fixture.Check("text.last_hidden_state", out.last_hidden_state);
  fixture.Check("text.pooler_output", out.pooler_output);
  fixture.Check("text.last_hidden_state", EncodeText(backbone, ids));
}

}  // namespace excise
