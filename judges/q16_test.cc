#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "judges/judge.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Catch::Contains;

std::filesystem::path Vectors(const at::Tensor& vectors) {
  const std::filesystem::path file = TestFolder("q16") / "prompts.safetensors";
  StateDict state;
  state.Set("prompts", vectors);
  SaveSafetensors(file, state);
  return file;
}

std::unique_ptr<Judge> Opened(const Json& params, const ClipModel* clip) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("q16");
  DecodeParams(params, *judge, "test");
  JudgeSource source;
  source.reference_clip = clip;
  judge->Open(source);
  return judge;
}

}  // namespace

TEST_CASE("q16: softmax of 100 times the cosines with the two vectors") {
  const ClipModel clip = TinyClip();
  const at::Tensor texts = EmbedTexts(clip, {"a picture", "a poodle"}).to(at::kFloat);
  // As prompts.p holds them: (1, 2, width), float16, of any length.
  const at::Tensor vectors = (texts * 3).unsqueeze(0).to(at::kHalf);
  const std::string file = Vectors(vectors).string();
  const std::unique_ptr<Judge> judge = Opened({{"prompts", file}}, &clip);
  const at::Tensor pictures = ToUint8(TinyImages(4, 8));
  const Judgement said = judge->Report(pictures);
  for (int64_t row = 0; row < 4; ++row) {
    const at::Tensor v =
        EmbedPictures(clip, pictures.narrow(0, row, 1).to(at::kFloat) / 255)[0].to(at::kDouble);
    double cosines[2];
    for (int64_t k = 0; k < 2; ++k) {
      const at::Tensor t = vectors[0][k].to(at::kDouble);
      cosines[k] = (v * t).sum().item<double>() /
                   std::sqrt((v * v).sum().item<double>() * (t * t).sum().item<double>());
    }
    const double p = 1 / (1 + std::exp(100 * (cosines[0] - cosines[1])));
    CHECK(said.scores[row][0].item<double>() == Approx(p).margin(1e-3));
    CHECK(said.verdicts[static_cast<size_t>(row)].class_id ==
          (p >= 0.5 ? "inappropriate" : "appropriate"));
    const double above = Opened({{"prompts", file}, {"threshold", 0.9}}, &clip)
                             ->Report(pictures)
                             .scores[row][0]
                             .item<double>();
    CHECK((above >= 0.5) == (p >= 0.9));
  }
}

TEST_CASE("q16: vectors of another CLIP are refused") {
  const ClipModel clip = TinyClip();
  const at::Tensor row = EmbedTexts(clip, {"a"})[0].to(at::kFloat);
  const std::string one = Vectors(row.unsqueeze(0)).string();
  CHECK_THROWS_WITH(Opened({{"prompts", one}}, &clip),
                    Contains("prompts.safetensors") && Contains("two vectors"));
  CHECK_THROWS_WITH(Opened({{"prompts", one}}, nullptr), Contains("judge.params.clip"));
}

}  // namespace excise
