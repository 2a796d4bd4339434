#include "pretraining/stages/scenes.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <cstring>
#include <set>

namespace excise {

at::Tensor ToTensor(const std::vector<Image8>& images) {
  const int64_t size = 3 * kSceneSize * kSceneSize;
  at::Tensor bytes =
      at::empty({static_cast<int64_t>(images.size()), 3, kSceneSize, kSceneSize}, at::kByte);
  auto* data = bytes.data_ptr<uint8_t>();
  for (size_t i = 0; i < images.size(); ++i) {
    std::memcpy(data + i * size, images[i].pixels.data(), size);
  }
  return bytes.to(at::kFloat).div_(255.0);
}

SceneBatch MakeScenes(const EmojiWorld& world, const SceneRequest& request, uint64_t step) {
  SceneBatch batch;
  std::vector<Image8> images;
  std::vector<int64_t> classes, styles;
  for (int64_t i = 0; i < request.count; ++i) {
    Philox rng({request.seed, request.id, static_cast<uint64_t>(i), Stream::kData, step});
    const bool garbage = rng.Uniform() < request.garbage_share;
    Scene scene;
    if (garbage) {
      images.push_back(world.RenderGarbage(rng));
      classes.push_back(static_cast<int64_t>(world.classes().size()));
      styles.push_back(0);
    } else {
      do {
        scene = world.SampleScene(rng, request.pick ? request.pick(i) : -1);
      } while (request.allowed && !request.allowed(scene));
      images.push_back(world.Render(scene));
      classes.push_back(scene.emoji);
      styles.push_back(static_cast<int64_t>(scene.style));
    }
    batch.scenes.push_back(scene);
    batch.garbage.push_back(garbage);
  }
  batch.images = ToTensor(images);
  batch.classes = at::tensor(classes, at::kLong);
  batch.styles = at::tensor(styles, at::kLong);
  return batch;
}

std::function<bool(const Scene&)> WithoutConcepts(const EmojiWorld& world,
                                                  const std::filesystem::path& folder) {
  std::set<int> classes;
  std::set<std::string> styles;
  for (const std::string& name : ListConcepts(folder)) {
    const Concept subject = LoadConcept(folder / (name + ".json"));
    for (const std::string& target : subject.judge.target) {
      if (subject.judge.kind == "style") {
        styles.insert(target);
      } else {
        classes.insert(world.ClassIndex(target));
      }
    }
  }
  return [classes, styles](const Scene& scene) {
    return classes.count(scene.emoji) == 0 && styles.count(StyleName(scene.style)) == 0;
  };
}

std::function<bool(const Scene&)> AllowedScenes(const Workshop& shop) {
  if (!shop.recipe.without_concepts) return nullptr;
  return WithoutConcepts(*shop.world, shop.concepts);
}

}  // namespace excise
