#include "tests/tiny_models.h"

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/hash.h"
#include "models/nets/judge_net.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

at::Tensor Noise(at::IntArrayRef shape, std::string_view id, uint64_t seed) {
  StreamKey key;
  key.seed = seed;
  key.id = id;
  key.stream = Stream::kData;
  Philox rng(key);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  rng.FillNormal(tensor.data_ptr<float>(), tensor.numel());
  return tensor;
}

// Normalised rows of the groups that have embeddings; undefined for the others.
at::Tensor TinyEmbeddings(const std::string& group, int64_t sample, uint64_t seed) {
  if (group != "quadruplets" && group != "unseen" && group != "zero_shot") return {};
  const at::Tensor rows = Noise({4, 8}, group + std::to_string(sample), seed);
  return rows.div(rows.norm(2, -1, /*keepdim=*/true));
}

ClipConfig TinyClipConfig(const Tokenizer& tokenizer) {
  ClipConfig config;
  config.text.vocab_size = tokenizer.vocab_size();
  config.text.hidden_size = 16;
  config.text.intermediate_size = 32;
  config.text.num_hidden_layers = 2;
  config.text.num_attention_heads = 2;
  config.text.max_position_embeddings = 16;
  config.text.projection_dim = 8;
  config.text.bos_token_id = tokenizer.bos_id();
  config.text.eos_token_id = tokenizer.eos_id();
  config.text.pad_token_id = tokenizer.pad_id();
  config.vision.hidden_size = 16;
  config.vision.intermediate_size = 32;
  config.vision.num_hidden_layers = 1;
  config.vision.num_attention_heads = 2;
  config.vision.image_size = 64;
  config.vision.patch_size = 16;
  config.vision.projection_dim = 8;
  config.projection_dim = 8;
  return config;
}

UNetConfig TinyUNetConfig() {
  UNetConfig config;
  config.sample_size = 8;
  config.block_out_channels = {16, 32};
  config.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  config.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 16;
  config.norm_num_groups = 4;
  config.num_heads = {2, 2};
  return config;
}

}  // namespace

std::shared_ptr<const Tokenizer> TinyTokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    const std::filesystem::path folder = TestFolder("tiny_tokenizer");
    TrainTokenizer({"a picture of a poodle", "a picture of a dog", "a picture of a cat",
                    "poodle dog cat picture of a", "a poodle on a red background"},
                   60, 16, folder);
    return Tokenizer::Load(folder);
  }();
  return tokenizer;
}

ClipModel TinyClip(uint64_t seed) {
  ClipModel clip;
  clip.tokenizer = TinyTokenizer();
  clip.config = TinyClipConfig(*clip.tokenizer);
  clip.weights = InitClip(clip.config, seed);
  clip.digest = "tiny-clip-" + std::to_string(seed);
  return clip;
}

Backbone TinyBackbone(const std::filesystem::path& folder) {
  Backbone backbone;
  const ClipModel clip = TinyClip();
  backbone.name = "tiny";
  backbone.folder = folder;
  backbone.clip = clip.config;
  backbone.tokenizer = clip.tokenizer;
  backbone.text_encoder = clip.weights;
  backbone.unet_config = TinyUNetConfig();
  backbone.unet = InitUNet(backbone.unet_config, 11);
  backbone.vae_config.sample_size = 64;
  backbone.vae_config.block_out_channels = {4, 4, 8, 8};
  backbone.vae_config.layers_per_block = 1;
  backbone.vae_config.norm_num_groups = 4;
  backbone.vae = InitVae(backbone.vae_config, 13);
  backbone.digest = "tiny";
  if (!folder.empty()) {
    std::filesystem::create_directories(folder / "retrained" / "unet");
    SaveSafetensors(folder / "retrained" / "unet" / "diffusion_pytorch_model.safetensors",
                    InitUNet(backbone.unet_config, 12));
  }
  return backbone;
}

Backbone HandmadeBackbone(const std::map<std::string, std::vector<float>>& embeddings,
                          int64_t context, double layer_norm_eps) {
  Backbone base;
  base.tokenizer = TinyTokenizer();
  const int64_t width = embeddings.begin()->second.size();
  base.clip.text.vocab_size = base.tokenizer->vocab_size();
  base.clip.text.hidden_size = width;
  base.clip.text.num_hidden_layers = 0;
  base.clip.text.num_attention_heads = 1;
  base.clip.text.max_position_embeddings = context;
  base.clip.text.bos_token_id = base.tokenizer->bos_id();
  base.clip.text.eos_token_id = base.tokenizer->eos_id();
  base.clip.text.layer_norm_eps = layer_norm_eps;
  base.unet_config.cross_attention_dim = width;
  at::Tensor table = at::zeros({base.tokenizer->vocab_size(), width});
  for (const auto& [word, values] : embeddings) {
    std::vector<int64_t> ids = {word == "start" ? base.tokenizer->bos_id()
                                                : base.tokenizer->eos_id()};
    if (word != "start" && word != "end") ids = base.tokenizer->Encode(word);
    if (ids.size() != 1) throw Error("'" + word + "' is not one token");
    table[ids[0]].copy_(at::tensor(values));
  }
  const std::string prefix = "text_model.";
  base.text_encoder.Set(prefix + "embeddings.token_embedding.weight", table);
  base.text_encoder.Set(prefix + "embeddings.position_embedding.weight",
                        at::zeros({context, width}));
  base.text_encoder.Set(prefix + "final_layer_norm.weight", at::zeros({width}).add(1));
  base.text_encoder.Set(prefix + "final_layer_norm.bias", at::zeros({width}));
  return base;
}

Concept TinyConcept() {
  Concept subject;
  subject.name = "poodle";
  subject.title = "poodle -> dog";
  subject.category = "object";
  subject.sensitivity = "benign_proxy";
  subject.known = {"poodle"};
  subject.held_out = {"Pudel"};
  subject.anchor = "dog";
  subject.preserve = {"cat"};
  subject.judge.kind = "class";
  subject.judge.target = {"poodle"};
  subject.judge.anchor = {"dog"};
  return subject;
}

namespace {

void WriteJudge(const std::filesystem::path& folder, const std::string& architecture,
                uint64_t seed) {
  JudgeConfig config;
  config.architecture = architecture;
  config.channels = {8, 8, 8, 8};
  config.num_classes = 2;
  config.class_ids = {"poodle", "dog"};
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << JudgeConfigToJson(config).dump();
  SaveSafetensors(folder / "model.safetensors", InitJudge(config, seed));
}

}  // namespace

std::unique_ptr<Judge> TinyJudge(bool oracle, uint64_t reporting_seed, uint64_t oracle_seed) {
  const std::filesystem::path backbone = TestFolder("tiny_judge");
  WriteJudge(backbone / "judges" / "reporting", "resnet", reporting_seed);
  if (oracle) WriteJudge(backbone / "judges" / "oracle", "plain", oracle_seed);
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("emoji");
  JudgeSource source;
  source.backbone = backbone;
  judge->Open(source);
  return judge;
}

at::Tensor TinyImages(int64_t n, uint64_t seed) {
  const at::Tensor coarse = Noise({n, 3, 64, 64}, "tiny/images", seed);
  return at::avg_pool2d(coarse, 9, 1, 4).mul(3).sigmoid();
}

std::string DigestOf(const StateDict& tensors) {
  Sha256 sha;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor bytes = tensor.detach().contiguous();
    sha.Update(name);
    sha.Update(bytes.data_ptr(), bytes.nbytes());
  }
  return sha.Hex();
}

TinyContext::TinyContext(uint64_t erase_seed) : seed_(erase_seed) {
  static std::atomic<int> count{0};  // no context resumes another's training
  folder_ = TestFolder("tiny_context_" + std::to_string(count++));
}

Philox TinyContext::Rng(std::string_view name, uint64_t step) {
  asked_stream = true;
  StreamKey key;
  key.seed = seed_;
  key.id = name;
  key.stream = Stream::kInit;
  key.step = step;
  return Philox(key);
}

std::vector<std::string> TinyContext::Prompts(const Concept& subject, const std::string& group,
                                              int64_t limit) {
  asked[group] = std::max(asked[group], limit);
  std::vector<std::string> names = subject.known;
  if (group == "anchor") names = {subject.anchor};
  if (group == "preserve") names = subject.preserve;
  std::vector<std::string> prompts;
  for (const std::string& name : names) prompts.push_back("a picture of a " + name);
  if (static_cast<int64_t>(prompts.size()) > limit) prompts.resize(limit);
  return prompts;
}

at::Tensor TinyContext::Images(const std::vector<std::string>& prompts) {
  asked_pictures = true;
  return TinyImages(static_cast<int64_t>(prompts.size()), 3);
}

at::Tensor TinyContext::Latents(const std::vector<std::string>& prompts) {
  asked_pictures = true;
  return Noise({static_cast<int64_t>(prompts.size()), 4, 8, 8}, "latents", 3);
}

at::Tensor TinyTarget::ReferenceImages(const Prompt&, int64_t n) {
  ledger_.unet_evaluations += 2 * n;
  return TinyImages(n, 5);
}

std::vector<Prompt> TinyTarget::Seeds() {
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < seeds; ++i) {
    prompts.push_back(TinyPrompt("tiny/seed" + std::to_string(i), "a photo of a poodle"));
  }
  return prompts;
}

Philox TinyTarget::Rng(const Prompt& prompt, uint64_t step) {
  return Philox({seed_, prompt.root_id, 0, Stream::kAttack, step});
}

Philox TinyTarget::Rng(const Concept& subject, uint64_t step) {
  return Philox({seed_, "concept/" + subject.name, 0, Stream::kAttack, step});
}

TinyTarget::TinyTarget(const Hooks* hooks, uint64_t attack_seed)
    : victim(TinyBackbone()),
      clip_(TinyClip()),
      unmodified_(TinyBackbone()),
      seed_(attack_seed),
      hooks_(hooks) {
  sampling.steps = 2;
}

std::optional<Answer> TinyTarget::Query(const Prompt& prompt) {
  if (queries_left <= 0) return std::nullopt;
  --queries_left;
  asked.push_back(prompt.text);
  const NoGrad no_grad;
  const int64_t context = victim.clip.text.max_position_embeddings;
  const at::Tensor states =
      EncodeText(victim, TokenizeBatch(*victim.tokenizer, {prompt.text}, context), hooks_);
  const at::Tensor empty =
      EncodeText(victim, TokenizeBatch(*victim.tokenizer, {""}, context), hooks_);
  SamplerSpec spec = sampling;
  spec.noise_scale = prompt.drawing.noise_scale;
  spec.first_step = prompt.drawing.first_step;
  spec.extra_noise = [&](size_t step, const at::Tensor& like) {
    return Noise(like.sizes(), prompt.root_id, 2 + step);
  };
  at::Tensor noise = Noise({1, 4, 8, 8}, prompt.root_id, 1);
  if (!prompt.latents.values.empty()) {
    const at::Tensor own = at::tensor(prompt.latents.values).view({1, 4, 8, 8});
    noise = spec.first_step == 0 ? own : NoisedStart(victim, own, noise, spec);
  }
  const at::Tensor picture = DecodeImages(
      victim,
      SampleLatents(victim, hooks_, states, empty, noise, spec, &ledger().unet_evaluations));
  ++ledger().victim_queries;
  const ImageFilter* filter = hooks_ == nullptr ? nullptr : hooks_->Filter();
  Answer answer;
  answer.picture = picture[0];
  answer.blocked = filter != nullptr && filter->Score(picture).item<double>() > filter->Threshold();
  if (*answer.blocked) return answer;
  answer.target_probability = picture.select(1, 0).mean().item<double>();
  answer.success = answer.target_probability >= red_enough;
  return answer;
}

Prompt TinyPrompt(const std::string& id, const std::string& text) {
  Prompt prompt;
  prompt.id = prompt.root_id = id;
  prompt.text = text;
  prompt.expected_class = "poodle";
  prompt.expected_style = "plain";
  return prompt;
}

std::vector<Sample> TinySamples(const Concept& subject, const std::string& group, int64_t prompts,
                                int64_t replicates) {
  static const char* const kSeen[] = {"poodle", "dog", "cat", "", "poodle"};
  const at::Tensor images = ToUint8(TinyImages(prompts * replicates, 21));
  const at::Tensor base_images = ToUint8(TinyImages(prompts * replicates, 22));
  std::vector<Sample> samples;
  for (int64_t p = 0; p < prompts; ++p) {
    for (int64_t r = 0; r < replicates; ++r) {
      const int64_t i = p * replicates + r;
      Sample sample;
      sample.subject = &subject;
      sample.prompt = TinyPrompt("tiny@00000000/" + group + std::to_string(p));
      sample.group = group;
      sample.replicate = r;
      sample.image = images[i];
      sample.base_image = base_images[i];
      sample.verdict.class_id = kSeen[i % 5];
      sample.verdict.style = i % 7 == 6 ? "sepia" : "plain";
      sample.verdict.votes = {i % 5 == 0, i % 3 == 0};
      sample.base_verdict.class_id = "poodle";
      sample.base_verdict.style = "plain";
      // A filter that is right about the targets, wrong about every fourth other picture.
      sample.detections["filter"] = {group == "target" || i % 4 == 3 ? 0.75 : 0.25, 0.5};
      sample.detections["text_detector"] = sample.detections["filter"];
      sample.detections["certified_radius"] = {0.5 + 0.01 * static_cast<double>(i), 0};
      sample.detections["boundary_distance"] = {1, 0};
      sample.detections["certified_most"] = {2, 0};
      sample.erase_cost = {100, 10};
      sample.image_unet_evaluations = 40;
      sample.search = {{1, false}, {2 + p, p % 2 == 0}};  // the same for every replicate
      sample.embeddings = TinyEmbeddings(group, i, 23);
      sample.base_embeddings = TinyEmbeddings(group, i, 24);
      samples.push_back(sample);
    }
  }
  return samples;
}

}  // namespace excise
