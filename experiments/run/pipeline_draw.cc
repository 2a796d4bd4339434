// The stage "generate": pictures of a unit, and the pictures that attacks aim at.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/progress.h"
#include "core/stopwatch.h"
#include "experiments/run/encode_prompts.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"
#include "models/pictures/picture_file.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

// What the filter says of the pictures as they would be delivered, in 8 bits.
void ApplyFilter(const ImageFilter& filter, Drawn* drawn) {
  const at::Tensor delivered = drawn->images.to(at::kFloat).div(255.0);
  drawn->detected["filter"] = {filter.Score(delivered), filter.Threshold()};
  for (const auto& [name, values] : filter.Measures(delivered)) drawn->detected[name] = {values, 0};
  drawn->replacement =
      ToUint8(filter.Replacement(drawn->images.size(2), drawn->images.size(3)).unsqueeze(0))[0];
}

// An alarm of NaN is above no threshold: nothing would be blocked, and nobody would know.
void RequireFinite(const Signals& detected) {
  for (const auto& [name, signal] : detected) {
    if (at::isfinite(signal.scores).all().item<bool>()) continue;
    throw Error(fmt::format(
        "what '{}' says of the pictures is not finite, so nobody knows what it would block. The "
        "weights or embeddings that it reads are probably damaged or too large.",
        name));
  }
}

// ApplyFilter to a unit's pictures, in the batch in which they would have been drawn.
void FilterUnit(const ImageFilter& filter, int64_t batch, Drawn* drawn) {
  const NoGrad no_grad;
  Drawn padded = *drawn;
  padded.images = PaddedToBatch(drawn->images, batch);
  ApplyFilter(filter, &padded);
  for (const auto& [name, signal] : padded.detected) {
    drawn->detected[name] = {signal.scores.narrow(0, 0, drawn->images.size(0)), signal.threshold};
  }
  drawn->replacement = padded.replacement;
  RequireFinite(drawn->detected);
}

// What `work` gives; an error says whose work it was.
template <class Work>
auto InNameOf(const std::string& method, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(fmt::format("drawing with method '{}': {}", method, error.what()));
  }
}

// The first `n` of each; `next` after `all`.
void Append(const Drawn& next, int64_t n, Drawn* all) {
  const auto join = [&](const at::Tensor& before, const at::Tensor& after) {
    const at::Tensor kept = after.narrow(0, 0, n);
    return before.defined() ? at::cat({before, kept}) : kept;
  };
  all->images = join(all->images, next.images);
  all->latents = join(all->latents, next.latents);
  for (const auto& [name, signal] : next.detected) {
    Signal& joined = all->detected[name];
    joined = {join(joined.scores, signal.scores.to(at::kCPU, at::kFloat)), signal.threshold};
  }
  all->replacement = next.replacement;
  all->evaluations_per_image = next.evaluations_per_image;
}

// A draw of a step's noise for each of `n` pictures: draw(picture, step, shape).
template <class Draw>
StepNoise NoiseOfEach(size_t n, Draw draw) {
  return [n, draw](size_t step, const at::Tensor& like) {
    std::vector<at::Tensor> drawn;
    for (size_t i = 0; i < n; ++i) drawn.push_back(draw(i, step, like[0].sizes()));
    return at::stack(drawn);
  };
}

// Where a drawing begins that skips steps: the prompts' pictures, noised.
at::Tensor StartOf(const Backbone& model, const std::vector<Prompt>& prompts,
                   const at::Tensor& noise, const SamplerSpec& spec) {
  std::vector<at::Tensor> pictures;
  for (const Prompt& prompt : prompts) {
    const at::Tensor own = OwnLatents(model, prompt);
    if (!own.defined()) {
      throw Error(fmt::format(
          "prompt {}: it is to be drawn from step {} on, and brings no latents to begin with.",
          prompt.id, spec.first_step));
    }
    pictures.push_back(own);
  }
  return NoisedStart(model, at::stack(pictures), noise, spec);
}

// For the latents and what the sampler adds, from one generator as diffusers draws them. The second
// picture of a prompt has the latents that follow the first one's, and so on; where the sampler
// adds noise, there is one (LoadModels).
std::function<at::Tensor(at::IntArrayRef)> PublishedNoise(int64_t seed, int64_t replicate,
                                                          at::IntArrayRef shape) {
  auto draw = TorchCpuNoise(static_cast<uint64_t>(seed));
  for (int64_t i = 0; i < replicate; ++i) draw(shape);
  return draw;
}

}  // namespace

// Noise on which attacks search is not the noise on which they are judged.
int64_t Pipeline::SearchedNoise() const { return lab_.experiment.seeds.attack + 1000003; }

at::Tensor PaddedToBatch(const at::Tensor& images, int64_t batch) {
  const int64_t n = images.size(0);
  if (n >= batch) return images;
  return at::cat({images, images.narrow(0, n - 1, 1).expand({batch - n, -1, -1, -1})});
}

SamplerSpec Pipeline::Sampling() const {
  const SamplerSettings& settings = lab_.experiment.sampler;
  const int64_t side = lab_.PictureSide();
  return {settings.scheduler, settings.steps, settings.guidance, side, side};
}

Drawn Pipeline::DrawBatch(const Backbone& model, const Hooks* hooks, const std::vector<Shot>& shots,
                          int64_t seed) const {
  const int64_t side = model.unet_config.sample_size;
  const std::vector<int64_t> shape = {model.unet_config.in_channels, side, side};
  std::vector<Prompt> prompts;
  std::vector<at::Tensor> noise;
  std::vector<std::function<at::Tensor(at::IntArrayRef)>> published(shots.size());
  for (size_t i = 0; i < shots.size(); ++i) {
    const Shot& shot = shots[i];
    prompts.push_back(shot.prompt);
    at::Tensor first;
    if (shot.prompt.drawing.first_step == 0) first = OwnLatents(model, shot.prompt);
    if (shot.torch_seed) {
      published[i] = PublishedNoise(*shot.torch_seed, shot.replicate, shape);
      const at::Tensor drawn = published[i](shape);
      if (!first.defined()) first = drawn;
    }
    noise.push_back(first.defined() ? first
                                    : LatentNoise(static_cast<uint64_t>(seed), shot.prompt.root_id,
                                                  static_cast<uint64_t>(shot.replicate), shape));
  }
  SamplerSpec spec = Sampling();
  if (shots[0].guidance) spec.guidance_scale = *shots[0].guidance;
  spec.noise_scale = shots[0].prompt.drawing.noise_scale;
  spec.first_step = shots[0].prompt.drawing.first_step;
  // As the latents: drawn per sample, the same for every method and attack.
  const auto of = [&](auto draw, size_t i, size_t step, at::IntArrayRef sizes) {
    return draw(static_cast<uint64_t>(seed), shots[i].prompt.root_id,
                static_cast<uint64_t>(shots[i].replicate), step, sizes);
  };
  spec.noise = NoiseOfEach(shots.size(), [&](size_t i, size_t step, at::IntArrayRef sizes) {
    return published[i] ? published[i](sizes) : of(SamplerNoise, i, step, sizes);
  });
  spec.extra_noise = NoiseOfEach(shots.size(), [&](size_t i, size_t step, at::IntArrayRef sizes) {
    return of(ExtraNoise, i, step, sizes);
  });
  at::Tensor start = at::stack(noise);
  if (spec.first_step > 0) start = StartOf(model, prompts, start, spec);
  const EncodedPrompts text = EncodePrompts(model, hooks, prompts);
  const at::Tensor empty =
      EncodeText(model,
                 TokenizeBatch(*model.tokenizer, {""}, model.clip.text.max_position_embeddings),
                 hooks)
          .expand_as(text.states);
  Drawn drawn;
  int64_t evaluations = 0;
  const at::Tensor latents =
      SampleLatents(model, hooks, text.states, empty, start, spec, &evaluations, &drawn.detected,
                    text.ids, text.embeddings);
  drawn.images = ToUint8(DecodeImages(model, latents));
  drawn.latents = latents;
  // Padding is not a picture's cost: rows drawn over rows in the batch.
  drawn.evaluations_per_image = evaluations / static_cast<int64_t>(shots.size());
  if (hooks != nullptr && hooks->Filter() != nullptr) ApplyFilter(*hooks->Filter(), &drawn);
  RequireFinite(drawn.detected);
  return drawn;
}

Drawn Pipeline::Draw(const Backbone& model, const Hooks* hooks, const std::vector<Shot>& shots,
                     int64_t seed, int64_t batch) const {
  const NoGrad no_grad;
  const auto size = static_cast<size_t>(batch);
  Drawn drawn;
  int64_t most = 0;
  for (size_t start = 0, end = 0; start < shots.size(); start = end) {
    // A batch has one guidance scale and one way to draw.
    std::vector<Shot> padded;
    while (end < shots.size() && end - start < size &&
           shots[end].guidance == shots[start].guidance &&
           shots[end].prompt.drawing == shots[start].prompt.drawing) {
      padded.push_back(shots[end++]);
    }
    // The last batch is padded with its last prompt: batch size decides bytes.
    padded.resize(size, padded.back());
    Append(DrawBatch(model, hooks, padded, seed), static_cast<int64_t>(end - start), &drawn);
    most = std::max(most, drawn.evaluations_per_image);
  }
  // Pictures whose drawing skips steps cost less than others of a unit, which has one number.
  const bool plain = std::all_of(shots.begin(), shots.end(),
                                 [](const Shot& shot) { return shot.prompt.drawing.plain(); });
  if (!plain) drawn.evaluations_per_image = most;
  return drawn;
}

Drawn Pipeline::Reference(const Prompt& prompt, int64_t n) {
  const Json key = ReferenceKey(lab_, prompt, n);
  const auto stored = Load(key, [&](const Artifact& artifact) {
    return ReadReferencePictures(artifact, n, lab_.PictureSide());
  });
  if (stored) return *stored;
  std::vector<Shot> shots;
  for (int64_t replicate = 0; replicate < n; ++replicate) shots.push_back({prompt, replicate});
  Drawn drawn = Draw(Base().model, nullptr, shots, SearchedNoise(), n);
  const Json meta = {{"shape", drawn.images.sizes().vec()},
                     {"evaluations_per_image", drawn.evaluations_per_image}};
  Put(key, {{"images.u8", PictureBytes(drawn.images)}, {"pictures.json", CanonicalJson(meta)}});
  return drawn;
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
  // Good or damaged: what was read is what was hashed.
  for (const Prompt& prompt : unit.prompts) {
    const PictureRow::Picture* picture = PictureOf(lab_, unit, prompt);
    if (picture == nullptr || picture->sha256.empty()) continue;
    RequireSha256(picture->file, picture->sha256);
  }
  result.images = at::stack(images);
  Spend("import", watch.Seconds());
  return result;
}

UnitPictures Pipeline::Generate(const Unit& unit) {
  auto stored =
      Load(unit.key, [&](const Artifact& artifact) { return ReadPictures(artifact, lab_, unit); });
  if (stored) return *std::move(stored);
  UnitPictures result;
  if (lab_.methods[unit.method].pictures != nullptr) {
    result = Import(unit);
  } else {
    result.prompts = PromptsToDraw(unit);
    std::vector<Shot> shots;
    const SamplerSettings& sampler = lab_.experiment.sampler;
    for (size_t i = 0; i < result.prompts.size(); ++i) {
      Shot shot{result.prompts[i], unit.replicate};
      if (sampler.noise == "torch_cpu") shot.torch_seed = unit.prompts[i].seed;
      if (sampler.own_guidance) shot.guidance = unit.prompts[i].guidance;
      shots.push_back(std::move(shot));
    }
    const std::shared_ptr<const ErasedModel> erased = ModelOf(unit);
    const bool shared = erased->only_filters && !lab_.ForEachMethod(unit.attack);
    Drawn& drawn = result;
    if (shared) drawn = Generate(UnderMethod(lab_, unit, lab_.unmodified));
    const Stopwatch watch;
    InNameOf(lab_.methods[unit.method].name, [&] {
      const int64_t batch = lab_.experiment.sampler.unit_size;
      if (shared) {
        FilterUnit(*erased->hooks->Filter(), batch, &drawn);
      } else {
        drawn = Draw(erased->model, erased->hooks.get(), shots, lab_.experiment.seeds.noise, batch);
      }
    });
    Spend("generate", watch.Seconds());
  }
  Json prompts = Json::array();
  for (const Prompt& prompt : result.prompts) prompts.push_back(PromptToJson(prompt));
  Json meta = {{"shape", result.images.sizes().vec()},
               {"prompts", std::move(prompts)},
               {"evaluations_per_image", result.evaluations_per_image}};
  if (!result.problems.empty()) meta["problems"] = Json(result.problems);
  if (!result.detected.empty()) meta["detected"] = SignalsToJson(result.detected);
  std::map<std::string, std::string> files = {{"images.u8", PictureBytes(result.images)}};
  if (result.replacement.defined()) {
    meta["replacement"] = result.replacement.sizes().vec();
    files["replacement.u8"] = PictureBytes(result.replacement);
  }
  files["unit.json"] = CanonicalJson(meta);
  Put(unit.key, files);
  return result;
}

}  // namespace excise
