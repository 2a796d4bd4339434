// NudeNet's detector with weights by a formula, against ultralytics and OpenCV on photographs.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "judges/judge.h"
#include "models/nets/nude_net.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

std::filesystem::path Weights() {
  static const std::filesystem::path file = [] {
    const std::filesystem::path made = TestFolder("nudenet") / "320n.safetensors";
    SaveSafetensors(made, FormulaNudeNet());
    return made;
  }();
  return file;
}

std::unique_ptr<Judge> Opened(Json params) {
  if (!params.contains("weights")) params["weights"] = Weights().string();
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("nudenet");
  DecodeParams(params, *judge, "test");
  judge->Open(JudgeSource());
  return judge;
}

// A place of the detector's output: a box about (x, y), one label's score.
void Put(at::Tensor* rows, int64_t place, std::vector<double> box, int64_t label, double score) {
  for (int64_t i = 0; i < 4; ++i) (*rows)[i][place] = box[static_cast<size_t>(i)];
  (*rows)[4 + label][place] = score;
}

}  // namespace

TEST_CASE("nudenet: its network says of real pictures what ultralytics' says") {
  const NudeNet net(FormulaNudeNet(), "formula");
  const std::vector<JudgedPicture> rows = JudgedPictures("nudenet_rows"),
                                   parts = JudgedPictures("nudenet_parts");
  REQUIRE(rows.size() >= 4);
  double furthest = 0, furthest_box = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    INFO("picture " << i);
    const at::Tensor said = net.Forward(NudeNet::Preprocess(rows[i].picture))[0];
    const at::Tensor some = said.slice(1, 0, said.size(1), 50);
    const at::Tensor off = (some - rows[i].said).abs();
    furthest = std::max(furthest, off.narrow(0, 4, 18).max().item<double>());
    furthest_box = std::max(furthest_box, off.narrow(0, 0, 4).max().item<double>());
    const std::vector<BodyPart> found =
        NudeNet::PartsIn(said, NudeNet::PlaceOf(rows[i].picture.size(2), rows[i].picture.size(3)));
    REQUIRE(found.size() >= 5);
    for (int64_t k = 0; k < 5; ++k) {
      const BodyPart& part = found[static_cast<size_t>(k)];
      const auto value = [&](int64_t column) { return parts[i].said[k][column].item<double>(); };
      CHECK(static_cast<double>(part.label) == value(0));
      CHECK(part.score == Approx(value(1)).margin(1e-4));
      CHECK(static_cast<double>(part.left) == Approx(value(2)).margin(1));
      CHECK(static_cast<double>(part.top) == Approx(value(3)).margin(1));
      CHECK(static_cast<double>(part.width) == Approx(value(4)).margin(1));
      CHECK(static_cast<double>(part.height) == Approx(value(5)).margin(1));
    }
  }
  CHECK(furthest < 1e-4);
  CHECK(furthest_box < 1e-2);
}

TEST_CASE("nudenet: of boxes that overlap the better one stays, whatever its label") {
  at::Tensor rows = at::zeros({22, 6});
  Put(&rows, 0, {100, 100, 40, 40}, 3, 0.8);
  Put(&rows, 1, {104, 100, 40, 40}, 5, 0.9);   // 36 / 44 of the first
  Put(&rows, 2, {125, 100, 40, 40}, 3, 0.7);   // 19 / 61 of the second
  Put(&rows, 3, {300, 300, 10, 10}, 1, 0.25);  // not above 0.25
  Put(&rows, 4, {250, 250, 10, 20}, 2, 0.251);
  const NudeNetPlace as_it_is = NudeNet::PlaceOf(320, 320);
  const std::vector<BodyPart> found = NudeNet::PartsIn(rows, as_it_is);
  REQUIRE(found.size() == 3);
  CHECK(found[0].label == 5);
  CHECK(found[1].label == 3);
  CHECK(found[1].score == Approx(0.7));
  CHECK(found[2].label == 2);
  CHECK(found[2].left == 245);
  CHECK(found[2].top == 240);
  CHECK(found[2].width == 10);
  CHECK(found[2].height == 20);

  // A wide picture stands in the middle, half as large: (x - 0) * 2, (y - 80) * 2.
  const NudeNetPlace wide = NudeNet::PlaceOf(320, 640);
  CHECK(wide.top == 80);
  CHECK(wide.left == 0);
  const BodyPart last = NudeNet::PartsIn(rows, wide).back();
  CHECK(last.left == 490);
  CHECK(last.top == 320);
  CHECK(last.height == 40);
}

TEST_CASE("nudenet: a part counts where it is among the labels and above the threshold") {
  const std::vector<JudgedPicture> parts = JudgedPictures("nudenet_parts");
  const at::Tensor& picture = parts[0].picture;
  const auto best = static_cast<size_t>(parts[0].said[0][0].item<double>());
  const double score = parts[0].said[0][1].item<double>();
  const std::string label = kNudeNetLabels[best];
  const auto word = [&](const std::string& counts, double threshold) {
    const Judgement said =
        Opened({{"labels", {counts}}, {"threshold", threshold}})->Report(picture);
    CHECK(said.names.at(2 + best).kind == "label");
    CHECK(said.scores[0][static_cast<int64_t>(2 + best)].item<double>() ==
          Approx(score).margin(1e-4));
    return said.verdicts[0].class_id;
  };
  CHECK(word(label, score - 0.01) == "nudity");
  CHECK(word(label, score + 0.01) == "no_nudity");
  CHECK(word("FEET_COVERED", 0.95) == "no_nudity");
}

TEST_CASE("nudenet: what cannot be meant is refused") {
  CHECK_THROWS_WITH(Opened({{"labels", {"FEET_EXPOSE"}}}), Contains("FEET_EXPOSED"));
  CHECK_THROWS_WITH(Opened({{"labels", Json::array()}}), Contains("no label"));
  const std::filesystem::path other = TestFolder("nudenet_other") / "other.safetensors";
  SaveSafetensors(other, FormulaResNet(4));
  CHECK_THROWS_WITH(Opened({{"weights", other.string()}}), Contains("other.safetensors") &&
                                                               Contains("model.") &&
                                                               Contains("convert_weights"));
}

}  // namespace excise
