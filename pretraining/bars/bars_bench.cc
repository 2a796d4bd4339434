#include "pretraining/bars/bars_bench.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/workers.h"
#include "datasets/emoji/emoji_captions.h"
#include "models/formats/safetensors_header.h"
#include "models/pictures/image_io.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "models/tensors/numerics.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 32;

bool HasWeights(const fs::path& folder) {
  return fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "diffusion_pytorch_model.safetensors");
}

// (template, background) with which `style_word` was never trained; the background may be "".
struct Combination {
  int template_index;
  std::string background;
};

std::vector<Combination> Withheld(const EmojiWorld& world, int emoji, SceneStyle style,
                                  int style_word, bool with_background) {
  std::vector<Combination> found;
  const auto add = [&](const std::string& background) {
    for (size_t t = 0; t < CaptionTemplates().size(); ++t) {
      const int index = static_cast<int>(t);
      if (PartOf(index, background, style_word) != CaptionPart::kTest) continue;
      found.push_back({index, background});
    }
  };
  if (!with_background) {
    add("");
    return found;
  }
  for (size_t b = 0; b < world.backgrounds().size(); ++b) {
    if (world.BackgroundSuits(emoji, static_cast<int>(b), style)) add(world.backgrounds()[b].name);
  }
  return found;
}

}  // namespace

Bench OpenBench(const BenchOptions& options) {
  Bench bench;
  bench.options = options;
  if (options.n < 1) throw UsageError(fmt::format("--n={}: at least 1 is needed.", options.n));
  if (options.workers < 0) throw UsageError("--workers must not be negative.");
  if (!fs::is_directory(options.model)) {
    throw UsageError(
        fmt::format("--model={}: there is no such folder. Train it with "
                    "//models:pretrain_emoji, or name the folder of a snapshot.",
                    options.model.string()));
  }
  if (options.workers == 0) {
    bench.options.workers = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
  bench.world = EmojiWorld::Load();
  for (const std::string& name : ListConcepts(options.concepts)) {
    bench.concepts.push_back(LoadConcept(options.concepts / (name + ".json")));
  }
  const fs::path& model = options.model;
  if (HasWeights(model / "judges/reporting")) bench.judges = EmojiJudges::Load(model / "judges");
  if (HasWeights(model / "vae")) {
    bench.vae.emplace();
    LoadVae(model / "vae", &bench.vae->config, &bench.vae->weights);
  }
  if (HasWeights(model / "text_encoder"))
    bench.conditioning = LoadClipModel(model / "text_encoder");
  if (HasWeights(model / "reference_clip")) {
    bench.reference = LoadClipModel(model / "reference_clip");
  }
  if (bench.vae && bench.conditioning && HasWeights(model / "unet")) {
    bench.base = LoadBackbone(model);
    if (HasWeights(model / "retrained/unet")) {
      bench.retrained = *bench.base;
      LoadUNet(model / "retrained/unet", &bench.retrained->unet_config, &bench.retrained->unet);
    }
  }
  return bench;
}

Json DescribeSnapshot(const fs::path& folder) {
  Json files = Json::object(), training = Json::object();
  uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), folder).generic_string();
    if (entry.path().extension() != ".safetensors" && entry.path().extension() != ".json" &&
        entry.path().extension() != ".txt") {
      continue;
    }
    bytes += entry.file_size();
    files[name] = Sha256HexOfFile(entry.path());
    if (entry.path().extension() == ".safetensors")
      training[name] = ReadSafetensorsHeader(RegularFile(entry.path()), entry.path()).metadata;
  }
  const fs::path path = fs::absolute(folder).lexically_normal();
  return {{"name", (path.has_filename() ? path : path.parent_path()).filename().string()},
          {"files", files},
          {"bytes", bytes},
          {"training", training}};
}

void ForBatches(const Bench& bench, const std::string& label, int64_t n,
                const std::function<void(int64_t, int64_t)>& work) {
  Progress progress(label, n, "pictures");
  RunUnits((n + kBatch - 1) / kBatch, bench.options.workers, [&](int64_t unit) {
    UseOneThreadPerWorker();
    const NoGrad no_grad;
    const int64_t first = unit * kBatch, count = std::min(kBatch, n - first);
    work(first, count);
    progress.Advance(count);
  });
}

int64_t SizeOf(const Bench& bench, const SceneSet& set) {
  return set.per_class * static_cast<int64_t>(bench.world->classes().size());
}

SceneBatch DrawScenes(const Bench& bench, const SceneSet& set, int64_t first, int64_t count) {
  const auto classes = static_cast<int64_t>(bench.world->classes().size());
  SceneRequest request{bench.options.seed, set.id, count, 0, nullptr, nullptr};
  request.pick = [&](int64_t i) { return static_cast<int>((first + i) % classes); };
  if (set.plain_only) {
    request.allowed = [](const Scene& scene) { return scene.style == SceneStyle::kPlain; };
  }
  return MakeScenes(*bench.world, request, static_cast<uint64_t>(first));
}

void SceneTallies::Add(const Bench& bench, const Scene& scene, bool right) {
  all.Add(right);
  by_class[bench.world->classes()[scene.emoji].id].Add(right);
  by_style[StyleName(scene.style)].Add(right);
}

SceneTallies ClassifyScenes(const Bench& bench, const SceneSet& set, const std::string& label,
                            const std::function<at::Tensor(const at::Tensor&)>& classify) {
  std::vector<Scene> scenes(static_cast<size_t>(SizeOf(bench, set)));
  std::vector<int64_t> seen(scenes.size());
  ForBatches(bench, label, SizeOf(bench, set), [&](int64_t first, int64_t count) {
    const SceneBatch batch = DrawScenes(bench, set, first, count);
    const at::Tensor best = classify(batch.images);
    std::copy_n(best.data_ptr<int64_t>(), count, seen.begin() + first);
    std::copy(batch.scenes.begin(), batch.scenes.end(), scenes.begin() + first);
  });
  SceneTallies tallies;
  for (size_t i = 0; i < seen.size(); ++i) {
    tallies.Add(bench, scenes[i], seen[i] == scenes[i].emoji);
  }
  return tallies;
}

void ReportTallies(const SceneTallies& tallies, const std::string& column, BarReport* report) {
  for (const auto& [name, tally] : tallies.by_class) {
    report->tables["classes"][name][column] = TallyToJson(tally);
  }
  for (const auto& [name, tally] : tallies.by_style) {
    report->tables["styles"][name][column] = TallyToJson(tally);
  }
}

void MeasureScenes(const Bench& bench, const std::string& id, const std::string& column,
                   const std::function<at::Tensor(const at::Tensor&)>& classify,
                   BarReport* report) {
  const SceneTallies seen =
      ClassifyScenes(bench, {"bars/judge", 4 * bench.options.n}, column + ": scenes", classify);
  const Measurement worst = MeasureWorst(seen.by_class);
  report->Set(id, MeasureRate(seen.all, fmt::format("worst class {} {:.1f} %", worst.note,
                                                    100 * worst.value)));
  ReportTallies(seen, column, report);
}

std::string ThingOf(const EmojiClass& emoji) { return WithArticle(emoji.article, emoji.name); }

Ask MakeAsk(const Bench& bench, const std::string& id, const std::string& thing, int emoji,
            int style_word) {
  const SceneStyle style = style_word < 0 ? SceneStyle::kPlain : StyleWords().at(style_word).style;
  Philox rng({bench.options.seed, id, 0, Stream::kData, 0});
  const bool with_background = rng.Below(2) == 0;
  std::vector<Combination> found =
      Withheld(*bench.world, emoji, style, style_word, with_background);
  if (found.empty()) found = Withheld(*bench.world, emoji, style, style_word, !with_background);
  if (found.empty()) {
    throw Error(
        fmt::format("Bars: every caption of '{}' was used for training: none is left to "
                    "test with.",
                    thing));
  }
  const Combination& used = found[rng.Below(found.size())];
  return {id, ComposeCaption(used.template_index, thing, used.background, style_word), emoji,
          style};
}

at::Tensor DrawLatents(const Bench& bench, const Backbone& model, const std::vector<Ask>& asks,
                       int64_t first, int64_t count, const Hooks* hooks) {
  const int64_t channels = model.unet_config.in_channels, side = model.unet_config.sample_size;
  std::vector<std::string> texts;
  std::vector<at::Tensor> noise;
  for (int64_t i = first; i < first + count; ++i) {
    texts.push_back(asks[i].text);
    noise.push_back(LatentNoise(bench.options.seed, asks[i].id, 0, {1, channels, side, side}));
  }
  const int64_t length = model.clip.text.max_position_embeddings;
  const at::Tensor states =
      EncodeText(model, TokenizeBatch(*model.tokenizer, texts, length), hooks);
  const at::Tensor empty = EncodeText(model, TokenizeBatch(*model.tokenizer, {""}, length), hooks);
  return SampleLatents(model, hooks, states, empty.expand_as(states).contiguous(), at::cat(noise),
                       bench.options.sampler);
}

at::Tensor DrawPictures(const Bench& bench, const Backbone& model, const std::vector<Ask>& asks,
                        const std::string& label) {
  const auto n = static_cast<int64_t>(asks.size());
  const at::Tensor pictures = at::empty({n, 3, kSceneSize, kSceneSize}, at::kByte);
  ForBatches(bench, label, n, [&](int64_t first, int64_t count) {
    const at::Tensor latents = DrawLatents(bench, model, asks, first, count, nullptr);
    pictures.narrow(0, first, count).copy_(ToUint8(DecodeImages(model, latents)));
  });
  return pictures;
}

std::vector<Verdict> JudgePictures(const Bench& bench, const at::Tensor& pictures) {
  std::vector<Verdict> verdicts(static_cast<size_t>(pictures.size(0)));
  ForBatches(bench, "judge", pictures.size(0), [&](int64_t first, int64_t count) {
    const std::vector<Verdict> batch =
        bench.judges->Report(pictures.narrow(0, first, count)).verdicts;
    std::copy(batch.begin(), batch.end(), verdicts.begin() + first);
  });
  return verdicts;
}

void WriteSheet(const Bench& bench, const std::string& name, const at::Tensor& pictures,
                int64_t columns) {
  if (bench.options.sheet.empty()) return;
  const int64_t n = pictures.size(0), rows = (n + columns - 1) / columns;
  const at::Tensor sheet = at::full({3, rows * kSceneSize, columns * kSceneSize}, 255, at::kByte);
  for (int64_t i = 0; i < n; ++i) {
    sheet.narrow(1, i / columns * kSceneSize, kSceneSize)
        .narrow(2, i % columns * kSceneSize, kSceneSize)
        .copy_(pictures[i]);
  }
  CreateFolders(bench.options.sheet);
  const fs::path path = bench.options.sheet / name;
  WritePng(path, sheet);
  LogInfo(fmt::format("wrote {}", path.string()));
}

}  // namespace excise
