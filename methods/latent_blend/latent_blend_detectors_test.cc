#include "methods/latent_blend/latent_blend_detectors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

at::Tensor Rows(const std::vector<std::vector<float>>& rows) {
  std::vector<at::Tensor> out;
  for (const std::vector<float>& row : rows) out.push_back(at::tensor(row));
  return at::stack(out);
}

// One prompt of two tokens whose mean is (a, b).
at::Tensor States(float a, float b) { return Rows({{a - 1, b + 2}, {a + 1, b - 2}}).unsqueeze(0); }

}  // namespace

TEST_CASE("latent_blend: the text detector by hand") {
  // Cosines with the name's direction: targets 1 and 0.7071, harmless 0 and -1; halfway 0.35355.
  const TextDetector::Example right{Rows({{1, 0}}), Rows({{0, 0}}), Rows({{2, 0}, {1, 1}}),
                                    Rows({{0, 1}, {-1, 0}})};
  const double halfway = std::sqrt(0.5) / 2;
  const TextDetector one = TextDetector::Fit({right});
  CHECK(TextDetector::Features(States(3, 4)).equal(Rows({{3, 4}})));
  CHECK(one.Score(States(3, 4)).item<double>() == Approx(0.6 - halfway).margin(1e-6));
  CHECK(one.Score(States(-3, 4)).item<double>() == Approx(-0.6 - halfway).margin(1e-6));
  const at::Tensor both = at::cat({States(3, 4), States(-3, 4)});
  CHECK(one.Score(both)[0].item<double>() == Approx(0.6 - halfway).margin(1e-6));

  // Of several names and concepts the nearest counts, each from its own anchor.
  const TextDetector::Example up{Rows({{1, 2}, {1, 1.5}}), Rows({{1, 1}}), Rows({{1, 3}}),
                                 Rows({{3, 1}})};  // cosines 1 and 0: halfway 0.5
  const TextDetector two = TextDetector::Fit({right, up});
  CHECK(two.Score(States(-3, 4)).item<double>() == Approx(3 / 5.0 - 0.5).margin(1e-6));
  CHECK(two.Score(States(3, 1)).item<double>() ==
        Approx(3 / std::sqrt(10.0) - halfway).margin(1e-6));

  StateDict saved;
  two.Save(&saved);
  CHECK(TextDetector::Load(saved)->Score(both).equal(two.Score(both)));
  CHECK_FALSE(TextDetector::Load({}).has_value());
  const TextDetector::Example same{Rows({{1, 0}}), Rows({{1, 0}}), right.targets, right.harmless};
  CHECK_THROWS_WITH(TextDetector::Fit({same}), Catch::Contains("anchor"));
}

TEST_CASE("latent_blend: the latent detector by hand") {
  // One cell v and its square. The square never changes; v is +-1: weight 1 / (1 + ridge).
  const at::Tensor features = Rows({{1, 1}, {-1, 1}});
  const auto x0 = [](float v) { return at::full({1, 1, 1, 1}, v); };
  CHECK(LatentDetector::Features(x0(-2)).equal(Rows({{-2, 4}})));
  const LatentDetector detector = LatentDetector::Fit(features, {true, false}, 1, 0.2);
  CHECK(detector.Score(x0(2)).item<double>() == Approx(1).margin(1e-4));
  CHECK(detector.Score(x0(-0.5)).item<double>() == Approx(-0.25).margin(1e-4));
  // More examples of one class change nothing.
  const LatentDetector more = LatentDetector::Fit(Rows({{1, 1}, {1, 1}, {1, 1}, {-1, 1}}),
                                                  {true, true, true, false}, 1, 0.2);
  CHECK(more.Score(x0(2)).item<double>() == Approx(1).margin(1e-4));
  // v = 1, 3 against 0, 0: mean 1, variance 1.5, z = (0, 2, -1, -1) / sqrt(1.5); z y / 4 sums to
  // 1 / sqrt(1.5), z z / 4 to 1; weight 1 / 1.5 / (1 + ridge).
  const LatentDetector wider =
      LatentDetector::Fit(Rows({{1, 0}, {3, 0}, {0, 0}, {0, 0}}), {true, true, false, false}, 3, 0);
  CHECK(wider.Score(x0(4)).item<double>() == Approx(3 / 1.5 / 4).margin(1e-4));
  CHECK(wider.Score(x0(1)).item<double>() == Approx(0).margin(1e-4));

  StateDict saved;
  detector.Save(&saved);
  const LatentDetector loaded = *LatentDetector::Load(saved);
  CHECK(loaded.Score(x0(2)).equal(detector.Score(x0(2))));
  CHECK(loaded.StepOf(20) == 4);
  CHECK_FALSE(LatentDetector::Load({}).has_value());

  // Larger latents are averaged to 8 x 8 cells, so another size of picture still fits.
  CHECK(LatentDetector::Features(at::full({2, 4, 64, 64}, 1.0)).sizes() ==
        at::IntArrayRef({2, 2 * 4 * 64}));
  CHECK_THROWS_WITH(detector.Score(at::full({1, 1, 2, 2}, 1.0)), Catch::Contains("another size"));
  CHECK_THROWS_WITH(LatentDetector::Fit(features, {true, true}, 1, 0),
                    Catch::Contains("names to preserve"));
}

TEST_CASE("latent_blend: the latent detector speaks before the last step") {
  CHECK(LatentDetector::StepAt(0.1, 20) == 2);
  CHECK(LatentDetector::StepAt(0.1, 4) == 0);
  CHECK(LatentDetector::StepAt(0.9, 4) == 2);
  CHECK(LatentDetector::StepAt(0.9, 1) == 0);
  CHECK(LatentDetector::StepAt(0, 50) == 0);
}

}  // namespace excise
