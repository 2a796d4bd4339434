#include "experiments/pipeline.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "experiments/erase_context.h"
#include "experiments/record.h"
#include "models/autograd.h"
#include "models/noise.h"
#include "models/safetensors.h"

namespace excise {
namespace {

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

constexpr const char* kModules[] = {"text_encoder/", "unet/", "vae/"};

StateDict Join(const Erased& erased) {
  StateDict all;
  const StateDict* parts[] = {&erased.text_encoder, &erased.unet, &erased.vae};
  for (int i = 0; i < 3; ++i) {
    for (const auto& [name, tensor] : *parts[i]) all.Set(kModules[i] + name, tensor);
  }
  return all;
}

Erased Part(const StateDict& all) {
  Erased erased;
  StateDict* parts[] = {&erased.text_encoder, &erased.unet, &erased.vae};
  for (const auto& [name, tensor] : all) {
    for (int i = 0; i < 3; ++i) {
      const std::string module = kModules[i];
      if (name.compare(0, module.size(), module) == 0) {
        parts[i]->Set(name.substr(module.size()), tensor);
      }
    }
  }
  return erased;
}

std::string BytesOf(const at::Tensor& images) {
  const at::Tensor flat = images.contiguous();
  return std::string(reinterpret_cast<const char*>(flat.data_ptr<uint8_t>()),
                     static_cast<size_t>(flat.numel()));
}

at::Tensor ImagesFrom(const std::string& bytes, const Json& shape, const std::string& where) {
  at::Tensor images = at::empty(shape.get<std::vector<int64_t>>(), at::kByte);
  if (static_cast<size_t>(images.numel()) != bytes.size()) {
    throw Error(fmt::format("{}: {} bytes of pictures where the shape wants {}.", where,
                            bytes.size(), images.numel()));
  }
  std::memcpy(images.data_ptr<uint8_t>(), bytes.data(), bytes.size());
  return images;
}

Json LedgerToJson(const Ledger& ledger) {
  return {{"victim_queries", ledger.victim_queries},
          {"candidate_evaluations", ledger.candidate_evaluations},
          {"gradient_steps", ledger.gradient_steps},
          {"unet_evaluations", ledger.unet_evaluations},
          {"text_evaluations", ledger.text_evaluations}};
}

Ledger LedgerFromJson(const Json& json) {
  return {json.at("victim_queries"), json.at("candidate_evaluations"), json.at("gradient_steps"),
          json.at("unet_evaluations"), json.at("text_evaluations")};
}

}  // namespace

Json PromptToJson(const Prompt& prompt) {
  return {{"id", prompt.id},
          {"root_id", prompt.root_id},
          {"text", prompt.text},
          {"token_ids", prompt.token_ids},
          {"round_trip", prompt.round_trip},
          {"expected_class", prompt.expected_class},
          {"expected_style", prompt.expected_style}};
}

Prompt PromptFromJson(const Json& json) {
  Prompt prompt;
  prompt.id = json.at("id");
  prompt.root_id = json.at("root_id");
  prompt.text = json.at("text");
  prompt.token_ids = json.at("token_ids").get<std::vector<int64_t>>();
  prompt.round_trip = json.at("round_trip");
  prompt.expected_class = json.at("expected_class");
  prompt.expected_style = json.at("expected_style");
  return prompt;
}

void Pipeline::Spend(const std::string& stage, double seconds) {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  seconds_[stage] += seconds;
}

std::map<std::string, double> Pipeline::Seconds() const {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  return seconds_;
}

const ErasedModel& Pipeline::Base() {
  std::call_once(base_once_, [this] { base_.model = lab_.backbone; });
  return base_;
}

Pipeline::Memo& Pipeline::MemoOf(size_t method, size_t subject) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Memo>& memo = memos_[{method, subject}];
  if (!memo) memo = std::make_unique<Memo>();
  return *memo;
}

const ErasedModel& Pipeline::Erase(size_t method, size_t subject) {
  Memo& memo = MemoOf(method, subject);
  // A failure is kept, so that a method that throws is tried once and not once a unit.
  std::call_once(memo.once, [&] {
    try {
      memo.value = EraseOrLoad(method, subject);
    } catch (...) {
      memo.problem = std::current_exception();
    }
  });
  if (memo.problem) std::rethrow_exception(memo.problem);
  return memo.value;
}

ErasedModel Pipeline::EraseOrLoad(size_t method, size_t subject) {
  const Json key = EraseKey(lab_, method, subject);
  const Concept visible = VisibleToMethods(lab_.concepts[subject]);
  ErasedModel result;
  if (auto artifact = store_.Find(key)) {
    const Json meta = ParseJson(artifact->Read("erased.json"), artifact->folder.string());
    // Hooks are code, not data: a method that acts through hooks erases anew, which is cheap.
    if (!meta.at("hooks").get<bool>()) {
      const Erased erased = Part(LoadSafetensors(artifact->File("tensors.safetensors")));
      result.model = ApplyErased(lab_.backbone, erased);
      result.cost = {meta.at("unet_evaluations"), meta.at("gradient_steps")};
      return result;
    }
  }
  const Stopwatch watch;
  int64_t drawn = 0;
  EraseContext context(lab_, method, visible.name, store_.Scratch(key, "checkpoint.safetensors"),
                       [&](const std::vector<Prompt>& prompts, int64_t seed, int64_t replicate) {
                         return Draw(Base(), prompts, seed, replicate, &drawn);
                       });
  const Erased erased = lab_.methods[method].plugin->Erase(context, lab_.backbone, {visible});
  result.model = ApplyErased(lab_.backbone, erased);
  result.hooks = erased.hooks;
  result.cost = context.cost();
  result.cost.unet_evaluations += drawn;
  const std::filesystem::path file = store_.Scratch(key, "tensors.safetensors");
  SaveSafetensors(file, Join(erased));
  Artifact loose{"", file.parent_path(), {}};
  const Json meta = {{"hooks", erased.hooks != nullptr},
                     {"unet_evaluations", result.cost.unet_evaluations},
                     {"gradient_steps", result.cost.gradient_steps}};
  store_.Put(key, {{"tensors.safetensors", loose.Read("tensors.safetensors")},
                   {"erased.json", CanonicalJson(meta)}});
  Spend("erase", watch.Seconds());
  return result;
}

at::Tensor Pipeline::Draw(const ErasedModel& erased, const std::vector<Prompt>& prompts,
                          int64_t seed, int64_t replicate, int64_t* evaluations) {
  const NoGrad no_grad;
  const Backbone& model = erased.model;
  const SamplerSettings& settings = lab_.experiment.sampler;
  const int64_t factor = int64_t{1} << (model.vae_config.block_out_channels.size() - 1);
  const int64_t side = model.unet_config.sample_size;
  const SamplerSpec spec{settings.scheduler, settings.steps, settings.guidance, side * factor,
                         side * factor};
  const int64_t context = model.clip.text.max_position_embeddings;
  const auto batch = static_cast<size_t>(settings.unit_size);
  std::vector<at::Tensor> images;
  for (size_t start = 0; start < prompts.size(); start += batch) {
    std::vector<std::string> texts;
    std::vector<at::Tensor> noise;
    for (size_t i = start; i < start + batch; ++i) {
      // The last batch is padded with its last prompt: batch size decides bytes.
      const Prompt& prompt = prompts[std::min(i, prompts.size() - 1)];
      texts.push_back(prompt.text);
      noise.push_back(LatentNoise(static_cast<uint64_t>(seed), prompt.root_id,
                                  static_cast<uint64_t>(replicate),
                                  {model.unet_config.in_channels, side, side}));
    }
    const at::Tensor states = EncodeText(model, TokenizeBatch(*model.tokenizer, texts, context));
    const at::Tensor empty = EncodeText(
        model, TokenizeBatch(*model.tokenizer, std::vector<std::string>(batch), context));
    const at::Tensor latents = SampleLatents(model, erased.hooks.get(), states, empty,
                                             at::stack(noise), spec, evaluations);
    const int64_t real = static_cast<int64_t>(std::min(batch, prompts.size() - start));
    images.push_back(ToUint8(DecodeImages(model, latents)).narrow(0, 0, real));
  }
  return at::cat(images);
}

Trajectory Pipeline::Craft(size_t attack, size_t subject, const Prompt& prompt) {
  const Entry<Attack>& entry = lab_.attacks[attack];
  const Json key = AttackKey(lab_, attack, subject, prompt);
  Trajectory trajectory;
  if (auto artifact = store_.Find(key)) {
    const Json list = ParseJson(artifact->Read("trajectory.json"), artifact->folder.string());
    for (const Json& item : list) {
      trajectory.push_back(
          {PromptFromJson(item.at("prompt")), LedgerFromJson(item.at("ledger")), item.at("score")});
    }
    return trajectory;
  }
  const auto* transfer = dynamic_cast<const TransferAttack*>(entry.plugin.get());
  if (transfer == nullptr) {
    throw Error(
        fmt::format("attack '{}': only transfer attacks can be run by this version.", entry.name));
  }
  const Stopwatch watch;
  MeteredTarget target(lab_, entry.name, lab_.surrogate_clip,
                       [&](const std::vector<Prompt>& prompts, int64_t seed, int64_t replicate) {
                         return Draw(Base(), prompts, seed, replicate, nullptr);
                       });
  trajectory = transfer->Craft(target, VisibleToMethods(lab_.concepts[subject]), prompt);
  if (trajectory.empty()) {
    throw Error(
        fmt::format("attack '{}' returned no candidate for prompt '{}'.", entry.name, prompt.id));
  }
  Json list = Json::array();
  for (const Candidate& candidate : trajectory) {
    list.push_back({{"prompt", PromptToJson(candidate.prompt)},
                    {"ledger", LedgerToJson(candidate.ledger)},
                    {"score", candidate.score}});
  }
  store_.Put(key, {{"trajectory.json", CanonicalJson(list)}});
  Spend("attack", watch.Seconds());
  return trajectory;
}

UnitPictures Pipeline::Generate(const Unit& unit) {
  UnitPictures result;
  if (auto artifact = store_.Find(unit.key)) {
    const Json meta = ParseJson(artifact->Read("unit.json"), artifact->folder.string());
    result.images = ImagesFrom(artifact->Read("images.u8"), meta.at("shape"), artifact->folder);
    for (const Json& prompt : meta.at("prompts")) result.prompts.push_back(PromptFromJson(prompt));
    result.evaluations_per_image = meta.at("evaluations_per_image");
    return result;
  }
  const bool attacked = unit.group == "target" && lab_.attacks[unit.attack].name != "none";
  for (const Prompt& prompt : unit.prompts) {
    result.prompts.push_back(attacked ? Craft(unit.attack, unit.subject, prompt).back().prompt
                                      : prompt);
  }
  const ErasedModel& erased = Erase(unit.method, unit.subject);
  const Stopwatch watch;
  int64_t evaluations = 0;
  result.images =
      Draw(erased, result.prompts, lab_.experiment.seeds.noise, unit.replicate, &evaluations);
  // Padding is not the picture's cost: rows drawn over rows in the batch.
  result.evaluations_per_image =
      static_cast<double>(evaluations) / static_cast<double>(lab_.experiment.sampler.unit_size);
  Json prompts = Json::array();
  for (const Prompt& prompt : result.prompts) prompts.push_back(PromptToJson(prompt));
  const Json meta = {{"shape", result.images.sizes().vec()},
                     {"prompts", std::move(prompts)},
                     {"evaluations_per_image", result.evaluations_per_image}};
  store_.Put(unit.key, {{"images.u8", BytesOf(result.images)}, {"unit.json", CanonicalJson(meta)}});
  Spend("generate", watch.Seconds());
  return result;
}

std::vector<Verdict> Pipeline::Judge(const Unit& unit) {
  std::vector<Verdict> verdicts;
  if (auto artifact = store_.Find(unit.verdict_key)) {
    const Json list = ParseJson(artifact->Read("verdicts.json"), artifact->folder.string());
    for (const Json& v : list) {
      verdicts.push_back(
          {v.at("class"), v.at("style"), v.at("class_probability"), v.at("style_probability")});
    }
    return verdicts;
  }
  const NoGrad no_grad;
  verdicts = lab_.judges->Report(Generate(unit).images);
  Json list = Json::array();
  for (const Verdict& v : verdicts) {
    list.push_back({{"class", v.class_id},
                    {"style", v.style},
                    {"class_probability", v.class_probability},
                    {"style_probability", v.style_probability}});
  }
  store_.Put(unit.verdict_key, {{"verdicts.json", CanonicalJson(list)}});
  return verdicts;
}

std::vector<Sample> Pipeline::Samples(const Unit& unit, const std::map<std::string, Sample>& base) {
  const UnitPictures pictures = Generate(unit);
  const std::vector<Verdict> verdicts = Judge(unit);
  const EraseCost cost = Erase(unit.method, unit.subject).cost;
  std::vector<Sample> samples;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Sample sample;
    sample.subject = &lab_.concepts[unit.subject];
    sample.prompt = pictures.prompts[i];
    sample.group = unit.group;
    sample.replicate = unit.replicate;
    sample.image = pictures.images[static_cast<int64_t>(i)];
    sample.verdict = verdicts[i];
    sample.erase_cost = cost;
    sample.image_unet_evaluations = pictures.evaluations_per_image;
    const auto it = base.find(fmt::format("{}#{}", sample.prompt.root_id, unit.replicate));
    if (it != base.end()) {
      sample.base_image = it->second.image;
      sample.base_verdict = it->second.verdict;
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

Score Pipeline::ScoreOf(size_t metric, const std::vector<Unit>& units,
                        const std::vector<Unit>& base_units) {
  const Json key = ScoreKey(lab_, metric, units, base_units);
  if (auto artifact = store_.Find(key)) {
    return ScoreFromJson(ParseJson(artifact->Read("score.json"), artifact->folder.string()));
  }
  const NoGrad no_grad;
  std::map<std::string, Sample> base;
  for (const Unit& unit : base_units) {
    for (Sample& sample : Samples(unit, {})) {
      base[fmt::format("{}#{}", sample.prompt.root_id, unit.replicate)] = std::move(sample);
    }
  }
  std::unique_ptr<Metric> plugin = lab_.MakeMetric(metric);
  const MetricModels models{lab_.judges.get(), &lab_.reference_clip};
  for (const Unit& unit : units) plugin->Update(models, Samples(unit, base));
  const Score score = plugin->Compute();
  if (!std::isfinite(score.value) || !std::isfinite(score.low) || !std::isfinite(score.high)) {
    throw Error(fmt::format("metric '{}' is not finite over {} samples.", lab_.metrics[metric].name,
                            score.n));
  }
  store_.Put(key, {{"score.json", CanonicalJson(ScoreToJson(score))}});
  return score;
}

}  // namespace excise
