// What the bars are measured on: the parts of the snapshot that are there, fresh scenes, captions
// of the part that no training uses, and noise of streams of their own ("bars/...").
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/concept.h"
#include "judges/emoji_judges.h"
#include "models/snapshots/backbone.h"
#include "pretraining/bars/bars.h"
#include "pretraining/stages/scenes.h"

namespace excise {

struct BenchOptions {
  std::filesystem::path model, concepts, sheet;  // sheet: folder for PNG files, or empty
  int64_t n = 16;   // generated pictures a class; judged scenes 4 n, reconstructions 2 n
  int workers = 0;  // 0 = one for every core
  uint64_t seed = 1;
  SamplerSpec sampler;
};

struct VaeModel {
  VaeConfig config;
  StateDict weights;
};

struct Bench {
  BenchOptions options;
  std::shared_ptr<const EmojiWorld> world;
  std::vector<Concept> concepts;
  // What is there.
  std::shared_ptr<const EmojiJudges> judges;
  std::optional<VaeModel> vae;
  std::optional<ClipModel> conditioning, reference;
  std::optional<Backbone> base, retrained;
};
// Parts whose weights are missing are left out; broken ones throw Error.
Bench OpenBench(const BenchOptions& options);

// {"name", "files": {path: sha256}, "training": {path: metadata}}: of every weight file.
Json DescribeSnapshot(const std::filesystem::path& folder);

// work(first, count) over [0, n) in fixed batches, on workers of one thread each and without
// gradients. Results do not depend on the number of workers.
void ForBatches(const Bench& bench, const std::string& label, int64_t n,
                const std::function<void(int64_t first, int64_t count)>& work);

// `per_class` scenes of every class, class by class in turn: scene i shows class i mod classes.
// One object stands for the whole set, which is drawn batch by batch.
struct SceneSet {
  std::string id;  // "bars/judge"
  int64_t per_class = 0;
  bool plain_only = false;
};
int64_t SizeOf(const Bench& bench, const SceneSet& set);
SceneBatch DrawScenes(const Bench& bench, const SceneSet& set, int64_t first, int64_t count);

// How often scenes were recognised.
struct SceneTallies {
  Tally all;
  std::map<std::string, Tally> by_class, by_style;
  void Add(const Bench& bench, const Scene& scene, bool right);
};
// `classify`: images (count, 3, 64, 64) in [0,1] to class indices (count), int64.
SceneTallies ClassifyScenes(const Bench& bench, const SceneSet& set, const std::string& label,
                            const std::function<at::Tensor(const at::Tensor& images)>& classify);
// Into the report's tables by class and by style, under `column`.
void ReportTallies(const SceneTallies& tallies, const std::string& column, BarReport* report);
// The bar `id` of a judge of scenes, and its tables under `column`.
void MeasureScenes(const Bench& bench, const std::string& id, const std::string& column,
                   const std::function<at::Tensor(const at::Tensor& images)>& classify,
                   BarReport* report);

// A caption that is to be drawn.
struct Ask {
  std::string id;  // names its noise
  std::string text;
  int emoji = 0;
  SceneStyle style = SceneStyle::kPlain;
};
// A caption around `thing` ("a poodle") from a withheld combination of template, background and
// style word (-1 = not named), chosen by `id`.
Ask MakeAsk(const Bench& bench, const std::string& id, const std::string& thing, int emoji,
            int style_word);
// The class's English name with its article.
std::string ThingOf(const EmojiClass& emoji);

// uint8 (asks, 3, 64, 64).
at::Tensor DrawPictures(const Bench& bench, const Backbone& model, const std::vector<Ask>& asks,
                        const std::string& label);
std::vector<Verdict> JudgePictures(const Bench& bench, const at::Tensor& pictures);
// One batch: latents (count, 4, 8, 8) of asks [first, first + count); `hooks` may be null.
at::Tensor DrawLatents(const Bench& bench, const Backbone& model, const std::vector<Ask>& asks,
                       int64_t first, int64_t count, const Hooks* hooks);

// uint8 (n, 3, 64, 64) as one PNG with `columns` pictures a row, in the sheet folder if there is
// one.
void WriteSheet(const Bench& bench, const std::string& name, const at::Tensor& pictures,
                int64_t columns);

// One group of bars each. They set what they can measure and explain the rest.
void MeasureJudges(const Bench& bench, BarReport* report);
void MeasureOracle(const Bench& bench, BarReport* report);
void MeasureVae(const Bench& bench, BarReport* report);
void MeasureClips(const Bench& bench, BarReport* report);
void MeasurePictures(const Bench& bench, const std::vector<std::string>& groups, BarReport* report);

}  // namespace excise
