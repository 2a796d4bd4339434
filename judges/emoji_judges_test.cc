#include "judges/emoji_judges.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/softmax.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/error.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

JudgeConfig SmallConfig() {
  JudgeConfig config;
  config.channels = {4, 8, 8, 8};
  config.num_classes = 2;
  config.class_ids = {"poodle", "dog"};
  return config;
}

void WriteJudge(const std::filesystem::path& folder, const JudgeConfig& config, uint64_t seed) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << JudgeConfigToJson(config).dump();
  SaveSafetensors(folder / "model.safetensors", InitJudge(config, seed));
}

std::filesystem::path Write(const JudgeConfig& config) {
  const std::filesystem::path folder = TestFolder("judges");
  WriteJudge(folder / "reporting", config, 5);
  return folder;
}

}  // namespace

TEST_CASE("a report is the arg max of the judge's probabilities, the last class being none") {
  const JudgeConfig config = SmallConfig();
  const std::shared_ptr<const EmojiJudges> panel = EmojiJudges::Load(Write(config));
  const at::Tensor images = ToUint8(TinyImages(12, 8));
  const Judgement said = panel->Report(images);
  const std::vector<Verdict>& verdicts = said.verdicts;
  REQUIRE(verdicts.size() == 12);
  const JudgeOutput output =
      JudgeForward(config, panel->reporting().weights, images.to(at::kFloat).div(255));
  const at::Tensor classes = at::softmax(output.class_logits, 1);
  REQUIRE(classes.size(1) == 3);
  const char* const ids[] = {"poodle", "dog", ""};
  const char* const styles[] = {"plain", "sepia", "line"};
  for (int64_t i = 0; i < 12; ++i) {
    int best = 0, style = 0;
    for (int c = 1; c < 3; ++c) {
      if (classes[i][c].item<double>() > classes[i][best].item<double>()) best = c;
      if (output.style_logits[i][c].item<double>() > output.style_logits[i][style].item<double>()) {
        style = c;
      }
    }
    CHECK(verdicts[i].class_id == ids[best]);
    CHECK(verdicts[i].style == styles[style]);
    CHECK(verdicts[i].class_probability == Approx(classes[i][best].item<double>()));
    CHECK(verdicts[i].class_probability >= 1.0 / 3);
  }
  // All probabilities are kept: of the classes, of none, of the styles.
  const std::vector<ScoreName> names = {{"class", "poodle"}, {"class", "dog"},   {"class", ""},
                                        {"style", "plain"},  {"style", "sepia"}, {"style", "line"}};
  CHECK((said.names == names));
  REQUIRE(said.scores.sizes() == at::IntArrayRef({12, 6}));
  CHECK(said.scores.narrow(1, 0, 3).equal(classes));
  CHECK(said.scores.narrow(1, 3, 3).equal(at::softmax(output.style_logits, 1)));
  CHECK(panel->Features(images).equal(output.pooled));
}

TEST_CASE("a judge whose answer is not finite is an error, not a verdict") {
  const JudgeConfig config = SmallConfig();
  const std::filesystem::path folder = Write(config);
  const std::filesystem::path file = folder / "reporting" / "model.safetensors";
  StateDict weights = LoadSafetensors(file);
  // Finite, and more than float32 holds once they are added up.
  for (const char* name : {"class_head.weight", "class_head.bias"}) {
    weights.Set(name, at::full_like(weights.Get(name), 3e38));
  }
  SaveSafetensors(file, weights);
  CHECK_THROWS_WITH(EmojiJudges::Load(folder)->Report(ToUint8(TinyImages(2, 8))),
                    Catch::Contains("not finite"));
}

TEST_CASE("the oracle is another network") {
  JudgeConfig config = SmallConfig();
  const std::filesystem::path folder = Write(config);
  const at::Tensor images = ToUint8(TinyImages(6, 8));
  CHECK_THROWS_WITH(EmojiJudges::Load(folder)->ConsultOracle(images),
                    Catch::Contains("judges/oracle"));

  config.architecture = "plain";
  config.channels = {8, 8, 8, 8};
  WriteJudge(folder / "oracle", config, 6);
  const std::shared_ptr<const EmojiJudges> panel = EmojiJudges::Load(folder);
  CHECK(panel->oracle().digest != panel->digest());
  const JudgeOutput output =
      JudgeForward(config, panel->oracle().weights, images.to(at::kFloat).div(255));
  const at::Tensor classes = at::softmax(output.class_logits, 1);
  const at::Tensor styles = at::softmax(output.style_logits, 1);
  const Judgement said = panel->ConsultOracle(images);
  CHECK(said.scores.narrow(1, 0, 3).equal(classes));
  CHECK(said.scores.narrow(1, 3, 3).equal(styles));
  for (int64_t i = 0; i < 6; ++i) {
    const int64_t best = classes[i].argmax().item<int64_t>();
    CHECK(said.verdicts[i].class_id == (best < 2 ? config.class_ids[best] : ""));
  }
}

TEST_CASE("an oracle with the reporting judge's weights is refused") {
  const std::filesystem::path folder = Write(SmallConfig());
  WriteJudge(folder / "oracle", SmallConfig(), 5);
  CHECK_THROWS_WITH(EmojiJudges::Load(folder), Catch::Contains("another network"));
}

TEST_CASE("a judge of another shape is refused") {
  JudgeConfig config = SmallConfig();
  config.num_styles = 2;
  CHECK_THROWS_WITH(EmojiJudges::Load(Write(config)), Catch::Contains("styles"));
  CHECK_THROWS_AS(EmojiJudges::Load(TestFolder("no_judges")), Error);
}

}  // namespace excise
