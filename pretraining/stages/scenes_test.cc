#include "pretraining/stages/scenes.h"

#include <catch2/catch.hpp>
#include <set>

#include "tests/testdata.h"

namespace excise {

TEST_CASE("a recipe without the concepts has no scene that shows one, the others all classes") {
  Workshop shop;
  shop.world = EmojiWorld::Load();
  shop.concepts = RepoFile("datasets/concepts/poodle.json").parent_path();
  CHECK(AllowedScenes(shop) == nullptr);
  shop.recipe.without_concepts = true;
  const std::function<bool(const Scene&)> allowed = AllowedScenes(shop);

  std::set<int> targets, seen, seen_of_all;
  for (const std::string& name : ListConcepts(shop.concepts)) {
    const Concept subject = LoadConcept(shop.concepts / (name + ".json"));
    if (subject.judge.kind == "style") continue;
    for (const std::string& target : subject.judge.target) {
      targets.insert(shop.world->ClassIndex(target));
    }
  }
  REQUIRE(targets.size() >= 5);
  const SceneRequest all{1, "test", 1000, 0, nullptr, nullptr};
  const SceneRequest naive{1, "test", 1000, 0, allowed, nullptr};
  int sepia = 0;
  for (const Scene& scene : MakeScenes(*shop.world, all, 0).scenes) {
    seen_of_all.insert(scene.emoji);
    if (scene.style == SceneStyle::kSepia) ++sepia;
  }
  CHECK(sepia > 0);
  CHECK(seen_of_all.size() == shop.world->classes().size());
  for (const Scene& scene : MakeScenes(*shop.world, naive, 0).scenes) {
    seen.insert(scene.emoji);
    CHECK(scene.style != SceneStyle::kSepia);
  }
  for (const int target : targets) CHECK(seen.count(target) == 0);
  CHECK(seen.size() == shop.world->classes().size() - targets.size());
}

}  // namespace excise
