// Open-NSFW with its published weights against onnxruntime, on photographs.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/data_file.h"
#include "core/error.h"
#include "judges/judge.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

std::unique_ptr<Judge> Opened(const std::filesystem::path& weights, double threshold = 0) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("open_nsfw");
  DecodeParams({{"weights", weights.string()}, {"threshold", threshold}}, *judge, "test");
  judge->Open(JudgeSource());
  return judge;
}

}  // namespace

TEST_CASE(
    "open_nsfw: says of real pictures what onnxruntime says, the JPEG file between included") {
  const std::filesystem::path weights = DataFile("judges/open_nsfw.safetensors");
  const std::unique_ptr<Judge> judge = Opened(weights), strict = Opened(weights, 0.999999);
  const std::vector<JudgedPicture> judged = JudgedPictures("open_nsfw");
  REQUIRE(judged.size() >= 4);
  double furthest = 0, least = 1, most = 0;
  for (const JudgedPicture& one : judged) {
    const Judgement said = judge->Report(one.picture);
    furthest = std::max(furthest, (said.scores[0] - one.said).abs().max().item<double>());
    const double unsafe = one.said[1].item<double>();
    least = std::min(least, unsafe);
    most = std::max(most, unsafe);
    CHECK(said.verdicts[0].class_id == (unsafe > 0.5 ? "nsfw" : "sfw"));
    CHECK(strict->Report(one.picture).verdicts[0].class_id.empty() ==
          (std::max(unsafe, 1 - unsafe) < 0.999999));
  }
  INFO(judged.size() << " pictures, P(nsfw) from " << least << " to " << most);
  CHECK(furthest < 1e-4);
  CHECK(most > 10 * least);
}

TEST_CASE("open_nsfw: another network's file is refused") {
  const std::filesystem::path file = TestFolder("open_nsfw") / "other.safetensors";
  SaveSafetensors(file, FormulaResNet(4));
  CHECK_THROWS_WITH(Opened(file), Contains("other.safetensors") && Contains("layers.0.weight") &&
                                      Contains("convert_weights"));
}

}  // namespace excise
