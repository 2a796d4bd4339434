// EfficientNet-lite0 with its published weights, and what the judge does with bad files.
#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>

#include <catch2/catch.hpp>

#include "core/data_file.h"
#include "core/error.h"
#include "core/files.h"
#include "judges/judge.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

std::unique_ptr<Judge> Opened(const std::filesystem::path& weights, double threshold = 0) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("imagenet");
  DecodeParams({{"weights", weights.string()}, {"threshold", threshold}}, *judge, "test");
  judge->Open(JudgeSource());
  return judge;
}

}  // namespace

TEST_CASE("imagenet: EfficientNet-lite0 says of real pictures what its own code says") {
  const std::unique_ptr<Judge> judge = Opened(DataFile("judges/efficientnet_lite0.safetensors"));
  const std::vector<JudgedPicture> judged = JudgedPictures("lite0");
  REQUIRE(judged.size() >= 4);
  double furthest = 0;
  for (const JudgedPicture& one : judged) {
    const at::Tensor expected = at::softmax(one.said, 0);
    const Judgement said = judge->Report(one.picture);
    furthest = std::max(furthest, (said.scores[0] - expected).abs().max().item<double>());
    const auto best = static_cast<size_t>(expected.argmax().item<int64_t>());
    CHECK(said.verdicts[0].class_id == said.names[best].name);
    CHECK(judge->Features(one.picture).sizes() == at::IntArrayRef({1, 1280}));
  }
  INFO(judged.size() << " pictures");
  CHECK(furthest < 1e-4);
  // A cat and a cup of coffee: the names stand where the network was taught them.
  const std::vector<std::string> expected = {"Egyptian cat", "espresso"};
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(judge->Report(judged[i].picture).verdicts[0].class_id == expected[i]);
  }
}

TEST_CASE("imagenet: below the threshold a picture shows no class") {
  const std::filesystem::path file = TestFolder("imagenet") / "small.safetensors";
  SaveSafetensors(file, FormulaResNet(4));
  const at::Tensor picture = JudgedPictures("resnet")[0].picture;
  const std::unique_ptr<Judge> always = Opened(file);
  const Verdict named = always->Report(picture).verdicts[0];
  CHECK_FALSE(always->traits().rejects);
  CHECK_FALSE(named.class_id.empty());
  const std::unique_ptr<Judge> strict = Opened(file, 0.9);
  CHECK(strict->traits().rejects);
  CHECK(strict->traits().threshold == 0.9);
  const Verdict none = strict->Report(picture).verdicts[0];
  CHECK(none.class_id.empty());
  CHECK(none.class_probability == Approx(1 - named.class_probability));
  CHECK(Opened(file, named.class_probability - 1e-6)->Report(picture).verdicts[0].class_id ==
        named.class_id);
  CHECK(strict->digest() == always->digest());
}

TEST_CASE("imagenet: a missing, foreign or damaged file is an error that names it") {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("imagenet");
  CHECK_THAT(MissingSetting(*judge), Contains("weights"));
  CHECK_THROWS_WITH(DecodeParams({{"weights", "no/such/file.safetensors"}}, *judge, "test"),
                    Contains("no/such/file.safetensors"));
  const std::filesystem::path folder = TestFolder("imagenet_bad");
  WriteFileAtomically(folder / "net.onnx", "not safetensors");
  CHECK_THROWS_WITH(Opened(folder / "net.onnx"), Contains("net.onnx"));
  StateDict other;
  other.Set("unet.weight", FormulaResNet(4).Get("fc.weight"));
  SaveSafetensors(folder / "other.safetensors", other);
  CHECK_THROWS_WITH(Opened(folder / "other.safetensors"),
                    Contains("other.safetensors") && Contains("neither an EfficientNet-lite0"));
}

}  // namespace excise
