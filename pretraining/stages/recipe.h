// What the embedded backbone is trained with. One struct, so that the whole recipe can be read on a
// page and is written into the metadata of every file that comes out of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/params.h"
#include "datasets/emoji/emoji_world.h"

namespace excise {

struct Recipe : Parameterised {
  int64_t seed = 1;
  bool bf16 = true;
  int64_t threads = 2;
  int64_t judge_steps = 2400, oracle_steps = 1200, judge_batch = 128;
  int64_t search_prompts = 5, shown_pictures = 1056;
  int64_t vae_steps = 5000, vae_batch = 16;
  int64_t clip_steps = 3600, clip_batch = 128;
  int64_t reference_steps = 1800, surrogate_steps = 1000;
  int64_t cached_scenes = 48000;
  int64_t trunk_steps = 1500, branch_steps = 2000, unet_batch = 64;
  int64_t checkpoint_every = 200;
  // A world without the concepts: no stage sees a scene of theirs.
  bool without_concepts = false;
  double vae_scale = 0;

  void Fields(ParamVisitor& v) override;
};

// Where a stage reads and writes.
struct Workshop {
  std::shared_ptr<const EmojiWorld> world;
  Recipe recipe;
  std::filesystem::path out;       // the snapshot folder (models/emoji)
  std::filesystem::path scratch;   // checkpoints
  std::filesystem::path concepts;  // datasets/concepts: what `retrained` must never see

  // safetensors metadata: recipe as JSON, digests of fonts and annotations, stage.
  std::map<std::string, std::string> Metadata(const std::string& stage) const;
};

struct Stage {
  std::string name;
  std::filesystem::path product;  // relative to `out`; the stage is done when it exists
  void (*run)(const Workshop&, const Stage&);
  bool in_scratch = false;  // the product is no part of the snapshot: it is in `scratch`
};
// In an order that satisfies every dependency.
const std::vector<Stage>& Stages();

// What the oracle's networks are trained on beside scenes: pictures that models draw.
void DrawOraclePicturesStage(const Workshop& shop, const Stage& stage);
// The reporting judge, or one of the oracle's networks.
void TrainJudgeStage(const Workshop& shop, const Stage& stage);
void TrainVaeStage(const Workshop& shop, const Stage& stage);
void TrainClipStage(const Workshop& shop, const Stage& stage);
void TrainUnetStage(const Workshop& shop, const Stage& stage);
// model_index.json, scheduler/ and whatever else makes the folder a snapshot.
void WriteSnapshotFiles(const Workshop& shop);

}  // namespace excise
