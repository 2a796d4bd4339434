#include "experiments/pipeline.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/progress.h"
#include "experiments/artifacts.h"
#include "experiments/record.h"
#include "models/autograd.h"
#include "models/noise.h"
#include "models/picture_file.h"
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

// Reference pictures' noise is not the noise that an attack is judged on.
constexpr uint64_t kReferenceNoise = 1000003;

std::string PairingId(const Sample& sample) {
  return fmt::format("{}#{}", sample.prompt.root_id, sample.replicate);
}

}  // namespace

std::string FirstLine(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

void Pipeline::Spend(const std::string& stage, double seconds) {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  seconds_[stage] += seconds;
}

std::map<std::string, double> Pipeline::Seconds() const {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  return seconds_;
}

std::optional<Artifact> Pipeline::Find(const Json& key) {
  if (force_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (fresh_.count(Store::Digest(key)) == 0) return std::nullopt;
  }
  return store_.Find(key);
}

void Pipeline::Put(const Json& key, const std::map<std::string, std::string>& files) {
  store_.Put(key, files);
  if (!force_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  fresh_.insert(Store::Digest(key));
}

const ErasedModel& Pipeline::Base() {
  std::call_once(base_once_, [this] { base_.model = Place(lab_.backbone, lab_.compute); });
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
  const auto stored = Find(key);
  ErasedModel result;
  if (stored) {
    const Json meta = ReadJson(*stored, "erased.json");
    result.cost = {meta.at("unet_evaluations"), meta.at("gradient_steps")};
    // Hooks are code, not data: a method that acts through hooks erases anew, which is cheap.
    if (!meta.at("hooks").get<bool>()) {
      result.model = ApplyErased(Base().model,
                                 PartTensors(LoadSafetensors(stored->File("tensors.safetensors"))));
      return result;
    }
  }
  const Stopwatch watch;
  const Concept visible = VisibleToMethods(lab_.concepts[subject]);
  EraseContext context(lab_, method, visible.name, store_.Scratch(key, "checkpoint.safetensors"),
                       [&](const std::vector<Prompt>& prompts) {
                         std::vector<Shot> shots;
                         for (const Prompt& prompt : prompts) shots.push_back({prompt, 0});
                         return Draw(Base(), shots, lab_.experiment.seeds.erase,
                                     lab_.experiment.sampler.unit_size);
                       });
  const Erased erased = lab_.methods[method].plugin->Erase(context, lab_.backbone, {visible});
  result.model = ApplyErased(Base().model, erased);
  result.hooks = erased.hooks;
  if (stored) return result;
  result.cost = context.cost();
  const std::string tensors = TensorBytes(JoinTensors(erased), store_.root() / ".tmp");
  const Json meta = {{"hooks", erased.hooks != nullptr},
                     {"unet_evaluations", result.cost.unet_evaluations},
                     {"gradient_steps", result.cost.gradient_steps}};
  Put(key, {{"tensors.safetensors", tensors}, {"erased.json", CanonicalJson(meta)}});
  Spend("erase", watch.Seconds());
  return result;
}

at::Tensor Pipeline::DrawBatch(const ErasedModel& erased, const std::vector<Shot>& shots,
                               int64_t seed, int64_t* evaluations) {
  const Backbone& model = erased.model;
  const SamplerSettings& settings = lab_.experiment.sampler;
  const int64_t factor = int64_t{1} << (model.vae_config.block_out_channels.size() - 1);
  const int64_t side = model.unet_config.sample_size;
  SamplerSpec spec{settings.scheduler, settings.steps, settings.guidance, side * factor,
                   side * factor};
  const int64_t context = model.clip.text.max_position_embeddings;
  std::vector<std::string> texts;
  std::vector<at::Tensor> noise;
  for (const Shot& shot : shots) {
    texts.push_back(shot.prompt.text);
    noise.push_back(LatentNoise(static_cast<uint64_t>(seed), shot.prompt.root_id,
                                static_cast<uint64_t>(shot.replicate),
                                {model.unet_config.in_channels, side, side}));
  }
  // As the latents: drawn per sample, the same for every method and attack.
  spec.noise = [&](size_t step, const at::Tensor& like) {
    std::vector<at::Tensor> drawn;
    for (const Shot& shot : shots) {
      drawn.push_back(SamplerNoise(static_cast<uint64_t>(seed), shot.prompt.root_id,
                                   static_cast<uint64_t>(shot.replicate), step, like[0].sizes()));
    }
    return at::stack(drawn);
  };
  const at::Tensor states = EncodeText(model, TokenizeBatch(*model.tokenizer, texts, context));
  const at::Tensor empty =
      EncodeText(model, TokenizeBatch(*model.tokenizer, {""}, context)).expand_as(states);
  const at::Tensor latents =
      SampleLatents(model, erased.hooks.get(), states, empty, at::stack(noise), spec, evaluations);
  return ToUint8(DecodeImages(model, latents));
}

Drawn Pipeline::Draw(const ErasedModel& erased, const std::vector<Shot>& shots, int64_t seed,
                     int64_t batch) {
  const NoGrad no_grad;
  const auto size = static_cast<size_t>(batch);
  std::vector<at::Tensor> images;
  Drawn drawn;
  for (size_t start = 0; start < shots.size(); start += size) {
    std::vector<Shot> padded;
    for (size_t i = start; i < start + size; ++i) {
      // The last batch is padded with its last prompt: batch size decides bytes.
      padded.push_back(shots[std::min(i, shots.size() - 1)]);
    }
    int64_t evaluations = 0;
    const auto real = static_cast<int64_t>(std::min(size, shots.size() - start));
    images.push_back(DrawBatch(erased, padded, seed, &evaluations).narrow(0, 0, real));
    // Padding is not a picture's cost: rows drawn over rows in the batch.
    drawn.evaluations_per_image = evaluations / batch;
  }
  drawn.images = at::cat(images);
  return drawn;
}

Drawn Pipeline::Reference(const Prompt& prompt, int64_t n) {
  const Json key = ReferenceKey(lab_, prompt, n);
  Drawn drawn;
  if (const auto artifact = Find(key)) {
    const Json meta = ReadJson(*artifact, "pictures.json");
    drawn.images = PicturesFrom(artifact->Read("images.u8"), meta.at("shape"), artifact->folder);
    drawn.evaluations_per_image = meta.at("evaluations_per_image");
    return drawn;
  }
  std::vector<Shot> shots;
  for (int64_t replicate = 0; replicate < n; ++replicate) shots.push_back({prompt, replicate});
  const uint64_t seed = static_cast<uint64_t>(lab_.experiment.seeds.attack) + kReferenceNoise;
  drawn = Draw(Base(), shots, static_cast<int64_t>(seed), n);
  const Json meta = {{"shape", drawn.images.sizes().vec()},
                     {"evaluations_per_image", drawn.evaluations_per_image}};
  Put(key, {{"images.u8", PictureBytes(drawn.images)}, {"pictures.json", CanonicalJson(meta)}});
  return drawn;
}

Trajectory Pipeline::Craft(size_t attack, size_t subject, const Prompt& prompt) {
  const Entry<Attack>& entry = lab_.attacks[attack];
  const Json key = AttackKey(lab_, attack, subject, prompt);
  if (const auto artifact = Find(key)) {
    return TrajectoryFromJson(ReadJson(*artifact, "trajectory.json"));
  }
  const auto* transfer = dynamic_cast<const TransferAttack*>(entry.plugin.get());
  if (transfer == nullptr) {
    throw Error(
        fmt::format("attack '{}': only transfer attacks can be run by this version.", entry.name));
  }
  const Stopwatch watch;
  MeteredTarget target(lab_, attack, [&](const Prompt& aim, int64_t n) {
    if (aim.id != prompt.id) {
      throw Error(
          fmt::format("attack '{}' asked for pictures of prompt '{}' while it crafts for '{}'.",
                      entry.name, aim.id, prompt.id));
    }
    return Reference(aim, n);
  });
  const Trajectory trajectory =
      transfer->Craft(target, VisibleToMethods(lab_.concepts[subject]), prompt);
  if (trajectory.empty()) {
    throw Error(
        fmt::format("attack '{}' returned no candidate for prompt '{}'.", entry.name, prompt.id));
  }
  Put(key, {{"trajectory.json", CanonicalJson(TrajectoryToJson(trajectory))}});
  Spend("attack", watch.Seconds());
  return trajectory;
}

std::vector<Prompt> Pipeline::PromptsToDraw(const Unit& unit) {
  if (unit.group != "target" || lab_.attacks[unit.attack].name == kUnmodified) return unit.prompts;
  std::vector<Prompt> prompts;
  for (const Prompt& prompt : unit.prompts) {
    prompts.push_back(Craft(unit.attack, unit.subject, prompt).back().prompt);
  }
  return prompts;
}

UnitPictures Pipeline::Import(const Unit& unit) {
  const Stopwatch watch;
  const int64_t side = lab_.PictureSide();
  UnitPictures result;
  result.prompts = PromptsToDraw(unit);
  std::vector<at::Tensor> images;
  for (const Prompt& prompt : unit.prompts) {
    const PictureRow::Picture* picture = PictureOf(lab_, unit, prompt);
    std::string problem;
    if (picture == nullptr) {
      problem = "the manifest has no picture of this prompt";
    } else if (picture->sha256.empty()) {
      problem = picture->file.filename().string() + " is missing";
    } else {
      try {
        images.push_back(CentredSquare(ReadPicture(picture->file), side));
        continue;
      } catch (const Error& error) {
        problem = FirstLine(error);
      }
    }
    LogWarning(
        fmt::format("{}, prompt {}: {}", lab_.methods[unit.method].name, prompt.id, problem));
    result.problems[static_cast<int64_t>(images.size())] = problem;
    images.push_back(at::zeros({3, side, side}, at::kByte));
  }
  result.images = at::stack(images);
  Spend("import", watch.Seconds());
  return result;
}

UnitPictures Pipeline::Generate(const Unit& unit) {
  UnitPictures result;
  if (const auto artifact = Find(unit.key)) {
    const Json meta = ReadJson(*artifact, "unit.json");
    result.images = PicturesFrom(artifact->Read("images.u8"), meta.at("shape"), artifact->folder);
    for (const Json& prompt : meta.at("prompts")) result.prompts.push_back(PromptFromJson(prompt));
    result.evaluations_per_image = meta.at("evaluations_per_image");
    for (const Json& problem : meta.value("problems", Json::array())) {
      result.problems[problem.at(0)] = problem.at(1);
    }
    return result;
  }
  if (lab_.methods[unit.method].pictures != nullptr) {
    result = Import(unit);
  } else {
    result.prompts = PromptsToDraw(unit);
    std::vector<Shot> shots;
    for (const Prompt& prompt : result.prompts) shots.push_back({prompt, unit.replicate});
    const ErasedModel& erased = Erase(unit.method, unit.subject);
    const Stopwatch watch;
    const Drawn drawn =
        Draw(erased, shots, lab_.experiment.seeds.noise, lab_.experiment.sampler.unit_size);
    result.images = drawn.images;
    result.evaluations_per_image = drawn.evaluations_per_image;
    Spend("generate", watch.Seconds());
  }
  Json prompts = Json::array();
  for (const Prompt& prompt : result.prompts) prompts.push_back(PromptToJson(prompt));
  Json meta = {{"shape", result.images.sizes().vec()},
               {"prompts", std::move(prompts)},
               {"evaluations_per_image", result.evaluations_per_image}};
  if (!result.problems.empty()) meta["problems"] = Json(result.problems);
  Put(unit.key, {{"images.u8", PictureBytes(result.images)}, {"unit.json", CanonicalJson(meta)}});
  return result;
}

std::vector<Verdict> Pipeline::Judge(const Unit& unit) {
  if (const auto artifact = Find(unit.verdict_key)) {
    return VerdictsFromJson(ReadJson(*artifact, "verdicts.json"));
  }
  const UnitPictures pictures = Generate(unit);
  const Stopwatch watch;
  const NoGrad no_grad;
  // A batch's size decides bytes here too, so a short unit is padded with its last picture.
  const int64_t n = pictures.images.size(0), size = lab_.experiment.sampler.unit_size;
  const at::Tensor last = pictures.images.narrow(0, n - 1, 1);
  const at::Tensor padded =
      n < size ? at::cat({pictures.images, last.expand({size - n, -1, -1, -1})}) : pictures.images;
  std::vector<Verdict> verdicts = lab_.judges->Report(padded);
  verdicts.resize(static_cast<size_t>(n));
  for (const auto& [i, problem] : pictures.problems) verdicts[static_cast<size_t>(i)] = {};
  Put(unit.verdict_key, {{"verdicts.json", CanonicalJson(VerdictsToJson(verdicts))}});
  Spend("judge", watch.Seconds());
  return verdicts;
}

std::vector<Sample> Pipeline::Samples(const Unit& unit, const std::map<std::string, Sample>& base) {
  const UnitPictures pictures = Generate(unit);
  const std::vector<Verdict> verdicts = Judge(unit);
  const bool ours = lab_.methods[unit.method].pictures == nullptr;
  const EraseCost cost = ours ? Erase(unit.method, unit.subject).cost : EraseCost();
  std::vector<Sample> samples;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Sample sample;
    sample.subject = &lab_.concepts[unit.subject];
    sample.prompt = pictures.prompts[i];
    sample.group = unit.group;
    sample.replicate = unit.replicate;
    if (pictures.problems.count(static_cast<int64_t>(i)) == 0) {
      sample.image = pictures.images[static_cast<int64_t>(i)];
    }
    sample.verdict = verdicts[i];
    sample.erase_cost = cost;
    sample.image_unet_evaluations = static_cast<double>(pictures.evaluations_per_image);
    const auto it = base.find(PairingId(sample));
    if (it != base.end()) {
      if (!it->second.image.defined()) {
        throw Error(fmt::format("the picture of prompt {} that it is compared with cannot be read.",
                                sample.prompt.root_id));
      }
      sample.base_image = it->second.image;
      sample.base_verdict = it->second.verdict;
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::unique_ptr<Metric> Pipeline::Measure(size_t metric, const CellUnits& cell) {
  std::map<std::string, Sample> base;
  for (const Unit& unit : cell.base) {
    for (Sample& sample : Samples(unit, {})) {
      const std::string id = PairingId(sample);
      base[id] = std::move(sample);
    }
  }
  std::unique_ptr<Metric> plugin = lab_.MakeMetric(metric);
  const MetricModels models{lab_.judges.get(), &lab_.reference_clip};
  for (const Unit& unit : cell.units) plugin->Update(models, Samples(unit, base));
  return plugin;
}

Score Pipeline::Keep(size_t metric, const Json& key, const Metric& plugin) {
  const Score score = plugin.Compute();
  for (const double value : {score.value, score.stderr_, score.low, score.high}) {
    if (std::isfinite(value)) continue;
    throw Error(fmt::format("metric '{}' is not finite over {} samples.", lab_.metrics[metric].name,
                            score.n));
  }
  Put(key, {{"score.json", CanonicalJson(ScoreToJson(score))}});
  return score;
}

std::vector<ScoreResult> Pipeline::Scores(size_t metric, const std::vector<CellUnits>& subjects) {
  const NoGrad no_grad;
  const Stopwatch watch;
  std::vector<Json> keys;
  CellUnits all;
  for (const CellUnits& cell : subjects) {
    keys.push_back(ScoreKey(lab_, metric, cell.units, cell.base));
    all.units.insert(all.units.end(), cell.units.begin(), cell.units.end());
    all.base.insert(all.base.end(), cell.base.begin(), cell.base.end());
  }
  keys.push_back(ScoreKey(lab_, metric, all.units, all.base));
  std::vector<ScoreResult> results(keys.size());
  std::vector<bool> stored(keys.size());
  bool complete = true;
  for (size_t i = 0; i < keys.size(); ++i) {
    results[i].digest = Store::Digest(keys[i]);
    if (const auto artifact = Find(keys[i])) {
      results[i].score = ScoreFromJson(ReadJson(*artifact, "score.json"));
      stored[i] = true;
    }
    complete = complete && stored[i];
  }
  if (complete) return results;

  // Each concept's samples are read once: the score over all is merged from theirs.
  const std::unique_ptr<Metric> total = lab_.MakeMetric(metric);
  const auto attempt = [&](size_t i, const auto& work) {
    try {
      work();
    } catch (const std::exception& error) {
      results[i].problem = FirstLine(error);
    }
  };
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (stored[i] && stored.back()) continue;
    attempt(i, [&] {
      const std::unique_ptr<Metric> part = Measure(metric, subjects[i]);
      if (!stored[i]) results[i].score = Keep(metric, keys[i], *part);
      total->Merge(*part);
    });
    if (results[i].problem.empty() || !results.back().problem.empty()) continue;
    results.back().problem = fmt::format("{}: {}", lab_.concepts[i].name, results[i].problem);
  }
  if (!stored.back() && results.back().problem.empty()) {
    attempt(subjects.size(), [&] { results.back().score = Keep(metric, keys.back(), *total); });
  }
  Spend("score", watch.Seconds());
  return results;
}

}  // namespace excise
