#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "judges/judge.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Catch::Contains;

std::unique_ptr<Judge> Made(const Json& params) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("clip_zero_shot");
  DecodeParams(params, *judge, "test");
  return judge;
}

std::unique_ptr<Judge> Opened(const Json& params, const ClipModel& clip,
                              const ClipModel* other = nullptr) {
  std::unique_ptr<Judge> judge = Made(params);
  JudgeSource source;
  source.reference_clip = &clip;
  source.independent_clip = other;
  judge->Open(source);
  return judge;
}

std::vector<double> Unit(const at::Tensor& row) {
  const at::Tensor values = row.to(at::kDouble).contiguous();
  std::vector<double> unit(values.data_ptr<double>(), values.data_ptr<double>() + values.numel());
  double sum = 0;
  for (const double x : unit) sum += x * x;
  for (double& x : unit) x /= std::sqrt(sum);
  return unit;
}

}  // namespace

TEST_CASE("clip_zero_shot: softmax of scaled cosines with the mean of a class's texts") {
  const ClipModel clip = TinyClip();
  const std::vector<std::string> classes = {"poodle", "cat", "picture"};
  const std::unique_ptr<Judge> judge =
      Opened({{"classes", classes}, {"templates", {"a photo of a {}", "{}"}}}, clip);
  const at::Tensor pictures = ToUint8(TinyImages(3, 8));
  const Judgement said = judge->Report(pictures);
  REQUIRE(said.scores.sizes() == at::IntArrayRef({3, 3}));
  const double scale = std::exp(clip.weights.Get("logit_scale").item<double>());
  for (int64_t row = 0; row < 3; ++row) {
    const std::vector<double> picture =
        Unit(EmbedPictures(clip, pictures.narrow(0, row, 1).to(at::kFloat) / 255)[0]);
    std::vector<double> logits;
    double total = 0;
    for (const std::string& name : classes) {
      const std::vector<double> one = Unit(EmbedTexts(clip, {"a photo of a " + name})[0]);
      const std::vector<double> two = Unit(EmbedTexts(clip, {name})[0]);
      double dot = 0, length = 0;
      for (size_t i = 0; i < one.size(); ++i) {
        const double mean = (one[i] + two[i]) / 2;
        dot += picture[i] * mean;
        length += mean * mean;
      }
      logits.push_back(scale * dot / std::sqrt(length));
      total += std::exp(logits.back());
    }
    size_t best = 0;
    for (size_t i = 0; i < classes.size(); ++i) {
      CHECK(said.scores[row][static_cast<int64_t>(i)].item<double>() ==
            Approx(std::exp(logits[i]) / total).margin(1e-5));
      if (logits[i] > logits[best]) best = i;
    }
    CHECK(said.verdicts[static_cast<size_t>(row)].class_id == classes[best]);
  }
}

TEST_CASE("clip_zero_shot: its oracle is another CLIP, or there is none") {
  const ClipModel clip = TinyClip(7), other = TinyClip(8);
  const Json params = {{"classes", {"poodle", "cat"}}};
  const at::Tensor pictures = ToUint8(TinyImages(2, 8));
  const std::unique_ptr<Judge> judge = Opened(params, clip, &other);
  CHECK(judge->oracle_digest() != judge->digest());
  CHECK_FALSE(judge->ConsultOracle(pictures).scores.equal(judge->Report(pictures).scores));
  CHECK_THROWS_WITH(Opened(params, clip, &clip)->oracle_digest(), Contains("no oracle"));
  CHECK_THROWS_WITH(Opened(params, clip)->ConsultOracle(pictures), Contains("no oracle"));
}

TEST_CASE("clip_zero_shot: what cannot be meant is refused") {
  const ClipModel clip = TinyClip();
  CHECK_THAT(MissingSetting(*Made(Json::object())), Contains("classes"));
  CHECK_THROWS_WITH(Opened({{"classes", {"a", "a"}}}, clip), Contains("'a'"));
  CHECK_THROWS_WITH(Opened({{"classes", {" "}}}, clip), Contains("empty"));
  CHECK_THROWS_WITH(Opened({{"classes", {"a"}}, {"templates", {"a photo"}}}, clip),
                    Contains("'a photo'"));
  CHECK_THROWS_WITH(Opened({{"classes", {"a"}}, {"templates", Json::array()}}, clip),
                    Contains("no template"));
  CHECK_THROWS_WITH(Made({{"classes", {"a"}}})->Open(JudgeSource()), Contains("judge.params.clip"));
}

}  // namespace excise
