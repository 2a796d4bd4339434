#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "judges/judge.h"
#include "judges/template_judge.h"
#include "tests/testdata.h"

namespace excise {
namespace {

std::unique_ptr<Judge> Opened(const Json& params = Json::object()) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("emoji_template");
  DecodeParams(params, *judge, "test");
  JudgeSource source;
  source.backbone = TestFolder("nothing_in_it");
  judge->Open(source);
  return judge;
}

// A plain scene of each class, the first `n` of them, and a uniform picture.
at::Tensor Pictures(const EmojiWorld& world, int n, float size = 50) {
  std::vector<at::Tensor> pictures;
  for (int i = 0; i < n; ++i) {
    Scene scene;
    scene.emoji = i;
    scene.size = size;
    Image8 image = world.Render(scene);
    pictures.push_back(
        at::from_blob(image.pixels.data(), {3, kSceneSize, kSceneSize}, at::kByte).clone());
  }
  pictures.push_back(at::zeros({3, kSceneSize, kSceneSize}, at::kByte));
  return at::stack(pictures);
}

}  // namespace

TEST_CASE("the template judge needs nothing of the backbone, and keeps a score a class") {
  const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  const std::unique_ptr<Judge> judge = Opened();
  const Judgement said = judge->Report(Pictures(*world, 4));
  CHECK(NamesOfKind(said.names, "class").size() == world->classes().size());
  CHECK(NamesOfKind(said.names, "style").empty());
  for (int64_t i = 0; i < 4; ++i) {
    const Verdict& verdict = said.verdicts[static_cast<size_t>(i)];
    CHECK(verdict.class_id == world->classes()[static_cast<size_t>(i)].id);
    CHECK(verdict.style.empty());
    CHECK(verdict.class_probability == Approx(said.scores[i].max().item<double>()));
    CHECK(verdict.class_probability >= 0.7);
  }
  // A uniform picture is like nothing, and that is sure.
  CHECK(said.verdicts[4].class_id.empty());
  CHECK(said.verdicts[4].class_probability == 1);
  CHECK(said.scores[4].abs().max().item<double>() == 0);
}

TEST_CASE("the threshold decides what shows nothing, and the scores stay") {
  const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  const at::Tensor pictures = Pictures(*world, 1, /*size=*/48.5);  // no template's
  const std::unique_ptr<Judge> strict = Opened({{"threshold", 1.0}});
  CHECK(strict->traits().threshold == 1.0);
  const Judgement said = strict->Report(pictures);
  const double best = said.scores[0].max().item<double>();
  CHECK(best < 1);
  CHECK(said.verdicts[0].class_id.empty());
  CHECK(said.verdicts[0].class_probability == 1 - best);
  CHECK(said.scores.equal(Opened()->Report(pictures).scores));
}

TEST_CASE("the template judge refuses other sizes, and has no oracle and no features") {
  const std::unique_ptr<Judge> judge = Opened();
  CHECK_THROWS_WITH(judge->Report(at::zeros({1, 3, 32, 64}, at::kByte)),
                    Catch::Contains("64 x 64") && Catch::Contains("64 x 32"));
  CHECK_THROWS_WITH(judge->oracle_digest(), Catch::Contains("no oracle"));
  CHECK_THROWS_WITH(judge->Features(at::zeros({1, 3, 64, 64}, at::kByte)),
                    Catch::Contains("no features"));
  CHECK_THROWS_AS(Opened({{"threshold", 2}}), UsageError);
  CHECK_THROWS_WITH(Opened({{"treshold", 0.5}}), Catch::Contains("Did you mean 'threshold'?"));
}

}  // namespace excise
