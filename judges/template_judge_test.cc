#include "judges/template_judge.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

namespace excise {
namespace {

at::Tensor Tensor(Image8 image) {
  return at::from_blob(image.pixels.data(), {1, 3, kSceneSize, kSceneSize}, at::kByte).clone();
}

Philox Draw(const char* name, uint64_t step) {
  StreamKey key;
  key.seed = 424242;
  key.id = name;
  key.stream = Stream::kData;
  key.step = step;
  return Philox(key);
}

}  // namespace

TEST_CASE("the template judge names plain scenes and rejects what shows nothing") {
  const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  const std::shared_ptr<const TemplateJudge> judge = TemplateJudge::Build(*world);
  int right = 0, n = 0;
  for (uint64_t i = 0; i < 120; ++i) {
    Philox rng = Draw("template_judge_test", i);
    Scene scene = world->SampleScene(rng);
    scene.style = SceneStyle::kPlain;
    const TemplateJudge::Match match = judge->Report(Tensor(world->Render(scene)))[0];
    ++n;
    right += match.class_id == world->classes()[scene.emoji].id;
    UNSCOPED_INFO(world->classes()[scene.emoji].id << " as " << match.class_id << " "
                                                   << match.score);
  }
  CHECK(right >= 0.95 * n);

  CHECK(judge->Report(at::zeros({1, 3, kSceneSize, kSceneSize}, at::kByte))[0].class_id.empty());
  int rejected = 0;
  for (uint64_t i = 0; i < 20; ++i) {  // uniform noise
    Philox rng = Draw("template_judge_noise", i);
    at::Tensor noise = at::zeros({1, 3, kSceneSize, kSceneSize}, at::kByte);
    for (int64_t k = 0; k < noise.numel(); ++k) {
      noise.data_ptr<uint8_t>()[k] = static_cast<uint8_t>(rng.Below(256));
    }
    rejected += judge->Report(noise)[0].class_id.empty();
  }
  CHECK(rejected == 20);
}

}  // namespace excise
