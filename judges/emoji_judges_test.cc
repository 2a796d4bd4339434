#include "judges/emoji_judges.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
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

TEST_CASE("without an oracle it cannot be asked") {
  const std::shared_ptr<const EmojiJudges> panel = EmojiJudges::Load(Write(SmallConfig()));
  CHECK_THROWS_WITH(panel->ConsultOracle(ToUint8(TinyImages(2, 8))),
                    Catch::Contains("judges/oracle"));
  CHECK_THROWS_WITH(panel->oracle_digest(), Catch::Contains("judges/oracle"));
}

TEST_CASE("the oracle's scores are the mean over its networks and views of the picture") {
  JudgeConfig config = SmallConfig();
  const std::filesystem::path folder = Write(config);
  config.architecture = "plain";
  config.channels = {8, 8, 8, 8};
  WriteJudge(folder / "oracle" / "0", config, 6);
  WriteJudge(folder / "oracle" / "1", config, 7);
  const std::shared_ptr<const EmojiJudges> panel = EmojiJudges::Load(folder);
  REQUIRE(panel->oracle().size() == 2);
  const at::Tensor images = ToUint8(TinyImages(6, 8));
  const Judgement said = panel->ConsultOracle(images);
  CHECK((said.names == panel->names()));
  // The view pixel by pixel: (y, x) shows what was at (y - d, x - d), the border repeated.
  const auto view = [&](int64_t d) {
    at::Tensor moved = images.clone();
    for (int64_t y = 0; y < 64; ++y) {
      for (int64_t x = 0; x < 64; ++x) {
        const int64_t from_y = std::clamp<int64_t>(y - d, 0, 63);
        const int64_t from_x = std::clamp<int64_t>(x - d, 0, 63);
        moved.select(2, y).select(2, x).copy_(images.select(2, from_y).select(2, from_x));
      }
    }
    return moved.to(at::kFloat).div(255);
  };
  at::Tensor mean = at::zeros({6, 6}, at::kDouble);
  for (const int64_t d : {0, 2, -2}) {
    for (const JudgeNet& net : panel->oracle()) {
      const JudgeOutput out = JudgeForward(config, net.weights, view(d));
      const at::Tensor classes = at::softmax(out.class_logits, 1);
      const at::Tensor styles = at::softmax(out.style_logits, 1);
      for (int64_t i = 0; i < 6; ++i) {
        for (int64_t k = 0; k < 6; ++k) {
          const double p = (k < 3 ? classes[i][k] : styles[i][k - 3]).item<double>();
          mean[i][k] += p / 6;  // two networks, three views
        }
      }
    }
  }
  CHECK(said.scores.sub(mean).abs().max().item<double>() < 1e-6);
}

TEST_CASE("the oracle sees what most of its networks see, and nothing where they disagree") {
  const JudgeConfig config = SmallConfig();
  const std::filesystem::path folder = Write(config);
  const at::Tensor images = ToUint8(TinyImages(4, 8));
  // Heads without weights say what their bias says: exp(4) / (exp(4) + 2) = .965 for one class.
  const auto write = [&](const std::string& name, int64_t seen, int64_t style, uint64_t seed) {
    WriteJudge(folder / "oracle" / name, config, seed);
    const std::filesystem::path file = folder / "oracle" / name / "model.safetensors";
    StateDict weights = LoadSafetensors(file);
    for (const char* head : {"class_head", "style_head"}) {
      const std::string prefix = head;
      weights.Set(prefix + ".weight", at::zeros_like(weights.Get(prefix + ".weight")));
      at::Tensor bias = at::zeros({3}, at::kFloat);
      bias[prefix == "class_head" ? seen : style] = 4;
      weights.Set(prefix + ".bias", bias);
    }
    SaveSafetensors(file, weights);
  };
  const auto verdict = [&] { return EmojiJudges::Load(folder)->ConsultOracle(images).verdicts[0]; };
  Concept sepia = TinyConcept();
  sepia.judge.kind = "style";
  sepia.judge.target = {"sepia"};

  write("0", /*seen=*/0, /*style=*/1, 6);
  write("1", 0, 1, 7);
  CHECK(verdict().class_id == "poodle");
  CHECK(verdict().style == "sepia");
  CHECK(verdict().class_probability == Approx(std::exp(4) / (std::exp(4) + 2)));
  CHECK(OutcomeOf(verdict(), TinyConcept()) == Outcome::kTarget);
  CHECK(OutcomeOf(verdict(), sepia) == Outcome::kTarget);
  const std::string digest = EmojiJudges::Load(folder)->oracle_digest();

  // One of three sees another class and another style: it is outvoted.
  write("2", 1, 0, 8);
  CHECK(verdict().class_id == "poodle");
  CHECK(verdict().style == "sepia");
  CHECK(verdict().class_probability == Approx((2 * std::exp(4) + 1) / (3 * (std::exp(4) + 2))));
  CHECK(EmojiJudges::Load(folder)->oracle_digest() != digest);

  // Three opinions, one of which is that there is nothing: no class and no style has a majority.
  write("1", 2, 2, 7);
  CHECK(verdict().class_id.empty());
  CHECK(verdict().style.empty());
  CHECK(verdict().class_probability == Approx(1. / 3));
  CHECK(OutcomeOf(verdict(), TinyConcept()) == Outcome::kGarbage);
  CHECK(OutcomeOf(verdict(), sepia) == Outcome::kGarbage);

  // Two of three see nothing, and agree on the style.
  write("2", 2, 2, 8);
  CHECK(verdict().class_id.empty());
  CHECK(verdict().style == "line");
}

TEST_CASE("an oracle of one network lies in its own folder or in a folder of it") {
  const std::filesystem::path folder = Write(SmallConfig());
  WriteJudge(folder / "oracle", SmallConfig(), 6);
  CHECK(EmojiJudges::Load(folder)->oracle().size() == 1);
  // Both at once: which of them is meant?
  WriteJudge(folder / "oracle" / "0", SmallConfig(), 7);
  CHECK_THROWS_WITH(EmojiJudges::Load(folder), Catch::Contains("Remove one"));
  std::filesystem::remove(folder / "oracle" / "model.safetensors");
  CHECK(EmojiJudges::Load(folder)->oracle().size() == 1);
  std::filesystem::remove_all(folder / "oracle" / "0");
  CHECK_THROWS_WITH(EmojiJudges::Load(folder), Catch::Contains("oracle/0"));
}

TEST_CASE("networks of other classes are no oracle together") {
  const std::filesystem::path folder = Write(SmallConfig());
  JudgeConfig other = SmallConfig();
  other.class_ids = {"dog", "poodle"};
  WriteJudge(folder / "oracle" / "0", SmallConfig(), 6);
  WriteJudge(folder / "oracle" / "1", other, 7);
  CHECK_THROWS_WITH(EmojiJudges::Load(folder), Catch::Contains("class_ids"));
}

TEST_CASE("an oracle with the reporting judge's weights is refused") {
  const std::filesystem::path folder = Write(SmallConfig());
  WriteJudge(folder / "oracle" / "0", SmallConfig(), 6);
  WriteJudge(folder / "oracle" / "1", SmallConfig(), 5);
  CHECK_THROWS_WITH(EmojiJudges::Load(folder), Catch::Contains("another network"));
}

TEST_CASE("a judge of another shape is refused") {
  JudgeConfig config = SmallConfig();
  config.num_styles = 2;
  CHECK_THROWS_WITH(EmojiJudges::Load(Write(config)), Catch::Contains("styles"));
  CHECK_THROWS_AS(EmojiJudges::Load(TestFolder("no_judges")), Error);
}

}  // namespace excise
