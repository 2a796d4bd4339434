// Batches of scenes as tensors, drawn ahead by one step on another thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <future>
#include <string>
#include <vector>

#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/concept.h"
#include "pretraining/stages/recipe.h"

namespace excise {

struct SceneBatch {
  at::Tensor images;          // (batch, 3, 64, 64) float in [0,1]
  at::Tensor classes;         // (batch) int64; number of classes for garbage
  at::Tensor styles;          // (batch) int64
  std::vector<Scene> scenes;  // parallel; a default Scene for garbage
  std::vector<bool> garbage;
};

struct SceneRequest {
  uint64_t seed = 0;
  std::string id;  // names the stream: "judge", "vae", "bars/vae"
  int64_t count = 0;
  double garbage_share = 0;
  // Whether a scene may be used (retrained: no target); null = all.
  std::function<bool(const Scene&)> allowed;
  // Class of sample i, or -1 for a random one.
  std::function<int(int64_t)> pick;
};

SceneBatch MakeScenes(const EmojiWorld& world, const SceneRequest& request, uint64_t step);
// uint8 planar pictures -> (n, 3, 64, 64) float in [0,1].
at::Tensor ToTensor(const std::vector<Image8>& images);

// True for scenes that show no concept of `folder` (classes and styles that a concept targets).
std::function<bool(const Scene&)> WithoutConcepts(const EmojiWorld& world,
                                                  const std::filesystem::path& folder);

// The same for a recipe that leaves concepts out, else null: every scene.
std::function<bool(const Scene&)> AllowedScenes(const Workshop& shop);

// make(step) computed ahead on a thread of its own; a pure function of step, so resuming repeats
// it.
template <class Batch>
class Prefetch {
 public:
  explicit Prefetch(std::function<Batch(int64_t)> make) : make_(std::move(make)) {}
  Batch Get(int64_t step) {
    Batch batch = (ready_.valid() && ready_step_ == step) ? ready_.get() : make_(step);
    ready_step_ = step + 1;
    ready_ = std::async(std::launch::async, make_, ready_step_);
    return batch;
  }

 private:
  std::function<Batch(int64_t)> make_;
  std::future<Batch> ready_;
  int64_t ready_step_ = -1;
};

}  // namespace excise
