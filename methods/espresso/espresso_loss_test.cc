// Espresso's losses, rules and radii against closed forms, values by hand and PyTorch.
#include "methods/espresso/espresso_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "methods/clip_filter.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

at::Tensor Normal(at::IntArrayRef shape, std::string_view id) {
  at::Tensor x = at::empty(shape, at::kFloat);
  Philox rng({3, id});
  rng.FillNormal(x.data_ptr<float>(), static_cast<size_t>(x.numel()));
  return x.to(at::kDouble);
}

EspressoPairs RandomPairs(int64_t n) {
  return {nn::Normalised(Normal({n, 6}, "xu")), nn::Normalised(Normal({n, 6}, "xa")),
          nn::Normalised(Normal({n, 6}, "pu")), nn::Normalised(Normal({n, 6}, "pa"))};
}

double Largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

StateDict Expected() {
  return LoadSafetensors(RepoFile("tests/fixtures/espresso/expected.safetensors"));
}

}  // namespace

TEST_CASE("the released loss of group 1 is -alpha |tu - ta|^2 / B, and so is its gradient") {
  for (const double alpha : {1.0, 0.3}) {
    EspressoPairs pairs = RandomPairs(5);
    const at::Tensor tu = Normal({5, 6}, "tu").requires_grad_(true);
    const at::Tensor ta = Normal({5, 6}, "ta").requires_grad_(true);
    pairs.unacceptable_texts = nn::Normalised(tu);
    pairs.acceptable_texts = nn::Normalised(ta);
    const at::Tensor loss = ReleasedOppositesLoss(pairs, 100, alpha);
    const at::Tensor left =
        (pairs.unacceptable_texts - pairs.acceptable_texts).square().sum() * (-alpha / 5);
    CHECK(loss.item<double>() == Approx(left.item<double>()).margin(1e-12));
    const auto gradients = Gradients(loss, {tu, ta}, /*retain=*/true);
    const auto expected = Gradients(left, {tu, ta});
    for (int i : {0, 1}) CHECK(Largest(gradients[i] - expected[i]) < 1e-12);
    CHECK(Largest(expected[0]) > 1e-3);
  }
}

TEST_CASE("the released loss of groups 2 and 3 is the constant -sqrt(B), without a gradient") {
  for (const int64_t batch : {1, 4, 10}) {
    const at::Tensor tu = Normal({batch, 6}, "tu").requires_grad_(true);
    const at::Tensor ta = Normal({batch, 6}, "ta").requires_grad_(true);
    const at::Tensor loss = ReleasedDistanceLoss(tu, ta);
    CHECK(loss.item<double>() == Approx(-std::sqrt(static_cast<double>(batch))).margin(1e-12));
    for (const at::Tensor& gradient : Gradients(loss, {tu, ta})) CHECK(Largest(gradient) < 1e-12);
  }
  CHECK(ReleasedDistanceLoss(Normal({10, 6}, "tu"), Normal({10, 6}, "ta")).item<double>() ==
        Approx(-3.16227766).margin(1e-8));
}

TEST_CASE("the objectives as we read the paper: values by hand, and a gradient") {
  // Two orthogonal pairs: a picture's logits over both texts are (s, 0), so that every cross
  // entropy of a matching pair is log(1 + e^-s), of a crossed one log(1 + e^s).
  const at::Tensor one = at::tensor({1.0, 0.0, 0.0, 1.0}).to(at::kDouble).view({2, 2});
  const at::Tensor other = at::tensor({0.0, 1.0, 1.0, 0.0}).to(at::kDouble).view({2, 2});
  const double s = 3, match = std::log1p(std::exp(-s)), crossed = std::log1p(std::exp(s));
  // xu = pu, xa = pa, and texts crossed: 2m - 2c + 2m - 2c - sum of squares (4), over 2.
  const at::Tensor loss = EspressoOppositesLoss({one, other, one, other}, s, 0.5);
  CHECK(loss.item<double>() == Approx((4 * match - 4 * crossed - 4) * 0.5 / 2));
  CHECK(EspressoDistanceLoss(one, other).item<double>() == Approx(-2.0));
  CHECK(EspressoDistanceLoss(one, one.neg()).item<double>() == Approx(-std::sqrt(8.0)));

  // Unlike the released form it is not blind to the pictures.
  EspressoPairs pairs = RandomPairs(4);
  const double before = EspressoOppositesLoss(pairs, 10, 1).item<double>();
  const double released = ReleasedOppositesLoss(pairs, 10, 1).item<double>();
  std::swap(pairs.unacceptable_images, pairs.acceptable_images);
  CHECK(std::abs(EspressoOppositesLoss(pairs, 10, 1).item<double>() - before) > 0.1);
  CHECK(ReleasedOppositesLoss(pairs, 10, 1).item<double>() == Approx(released).margin(1e-12));
}

TEST_CASE("margins: by hand, several texts, and as sigmoid a softmax over the two") {
  const at::Tensor u = at::tensor({1.0, 0.0}).view({1, 2});
  const at::Tensor a = at::tensor({0.0, 1.0}).view({1, 1, 2});
  const at::Tensor x = at::tensor({0.8, 0.6, 0.6, 0.8}).view({2, 2});
  const at::Tensor softmax = EspressoMargin("softmax", x, {u, a}, 10);
  CHECK(softmax[0].item<double>() == Approx(2).margin(1e-5));
  CHECK(softmax[1].item<double>() == Approx(-2).margin(1e-5));
  CHECK(softmax[0].sigmoid().item<double>() ==
        Approx(std::exp(8) / (std::exp(8) + std::exp(6))).margin(1e-6));
  // d = (1, -1) / sqrt 2, d.x = 0.2 / sqrt 2, z = (0.1, -0.1): |z - a| - |z - u|.
  const at::Tensor projection = EspressoMargin("projection", x, {u, a}, 10);
  const double expected = std::hypot(0.1, 1.1) - std::hypot(0.9, 0.1);
  CHECK(projection[0].item<double>() == Approx(expected).margin(1e-6));
  CHECK(projection[1].item<double>() == Approx(-expected).margin(1e-6));

  // Of several names the best match counts.
  const at::Tensor two = at::stack({u[0], at::tensor({-1.0, 0.0})});
  const at::Tensor anchors = at::stack({a[0], a[0]});  // one each
  CHECK(EspressoMargin("softmax", x, {two, anchors}, 10)[0].item<double>() ==
        Approx(2).margin(1e-5));
  CHECK(EspressoMargin("softmax", x.neg(), {two, anchors}, 10)[0].item<double>() ==
        Approx(14).margin(1e-5));

  // Of several acceptable texts, too: x.u = 0.8 against x.a = 0.6, and against x.(0.96, 0.28) =
  // 0.936.
  const at::Tensor more = at::tensor({0.0, 1.0, 0.96, 0.28}).view({1, 2, 2});
  CHECK(EspressoMargin("softmax", x, {u, more}, 10)[0].item<double>() ==
        Approx(8 - 9.36).margin(1e-5));
  CHECK(EspressoMargin("softmax", x, {u, more}, 10)[1].item<double>() ==
        Approx(6 - 8).margin(1e-5));
  // The list of each text is its own: (0.96, 0.28) is acceptable beside the first alone, and the
  // second is (-1, 0).
  const at::Tensor lists = at::stack({more[0], at::stack({a[0][0], a[0][0]})});
  CHECK(EspressoMargin("softmax", x.neg(), {two, lists}, 10)[0].item<double>() ==
        Approx(14).margin(1e-5));
  // d = u - a2 = (0.04, -0.28) / 0.2828: the nearer acceptable text decides here, too.
  const double d0 = 0.04 / std::hypot(0.04, 0.28), d1 = -0.28 / std::hypot(0.04, 0.28);
  const double dot = 0.8 * d0 + 0.6 * d1, z0 = dot * d0, z1 = dot * d1;
  const double second = std::hypot(z0 - 0.96, z1 - 0.28) - std::hypot(z0 - 1, z1);
  CHECK(EspressoMargin("projection", x, {u, more}, 10)[0].item<double>() ==
        Approx(std::min(expected, second)).margin(1e-6));
  CHECK_THROWS_WITH(EspressoMargin("cosine", x, {u, a}, 10), Catch::Contains("softmax"));
}

TEST_CASE("the published radius: its known values") {
  const at::Tensor p = at::tensor({0.6, 0.9, 1.0, 0.4, 0.5}).to(at::kDouble);
  const at::Tensor norms = at::tensor({1.0, 1.0, 1.0, 2.0, 7.0}).to(at::kDouble);
  const at::Tensor radius = PublishedRadius(p, norms, 100);
  const double expected[] = {0.0020, 0.0079, 0.0099, 0.0040, 0};
  for (int i = 0; i < 5; ++i) {
    CHECK(radius[i].item<double>() == Approx(expected[i]).margin(6e-5));
  }
  CHECK(radius[2].item<double>() == Approx(1 - 100.0 / 101).margin(1e-12));
}

TEST_CASE("the distance to the boundary: a step of that length reaches it, a shorter one never") {
  const ConceptTexts texts{nn::Normalised(Normal({1, 6}, "u")),
                           nn::Normalised(Normal({1, 1, 6}, "a"))};
  const at::Tensor x = Normal({40, 6}, "x") * 3;
  const double scale = 20;
  const at::Tensor w = texts.unacceptable[0] - texts.acceptable[0][0];
  for (const double threshold : {0.5, 0.8, 0.3}) {
    INFO("threshold " << threshold);
    const at::Tensor distance = BoundaryDistance(x, texts, scale, threshold).to(at::kDouble);
    const double logit = std::log(threshold / (1 - threshold));
    const auto over = [&](const at::Tensor& y) {
      return EspressoMargin("softmax", nn::Normalised(y.unsqueeze(0)), texts, scale)
                 .item<double>() > logit;
    };
    for (int64_t i = 0; i < x.size(0); ++i) {
      // The shortest way lies in the plane of x and w: some direction in it must reach it.
      const at::Tensor e1 = nn::Normalised(x[i]);
      const at::Tensor e2 = nn::Normalised(w - e1 * at::dot(w, e1));
      bool reached = false, early = false;
      for (int turn = 0; turn < 720; ++turn) {
        const double angle = turn * M_PI / 360;
        const at::Tensor step = (e1 * std::cos(angle) + e2 * std::sin(angle)) * distance[i];
        reached = reached || over(x[i] + step * 1.01) != over(x[i]);
        early = early || over(x[i] + step * 0.99) != over(x[i]);
      }
      CHECK(reached);
      CHECK_FALSE(early);
    }
  }
  // At 0.5 the boundary is a plane: |x.w| / |w|. The published radius is a bound on it.
  const at::Tensor exact = BoundaryDistance(x, texts, scale, 0.5).to(at::kDouble);
  CHECK(Largest(exact - x.matmul(w).abs() / w.norm()) < 1e-5);
  const at::Tensor p = EspressoMargin("softmax", nn::Normalised(x), texts, scale).sigmoid();
  const at::Tensor published = PublishedRadius(p, x.norm(2, {-1}), scale);
  CHECK((published - exact).max().item<double>() < 0);
  CHECK(published.min().item<double>() > 0);
}

TEST_CASE("several texts: the nearest boundary for what passes, all of them for what does not") {
  const at::Tensor u = at::tensor({1.0, 0.0, 0.0, 1.0}).to(at::kDouble).view({2, 2});
  const ConceptTexts texts{u, -u.unsqueeze(1)};  // planes x = 0 and y = 0
  const at::Tensor x = at::tensor({-3.0, -2.0, 3.0, 2.0, 3.0, -2.0}).to(at::kDouble).view({3, 2});
  const at::Tensor distance = BoundaryDistance(x, texts, 10, 0.5);
  CHECK(distance[0].item<double>() == Approx(2));  // passes: the nearer plane
  CHECK(distance[1].item<double>() == Approx(3));  // must leave both half-planes: at least 3
  CHECK(distance[2].item<double>() == Approx(3));  // flagged by the first alone
  // One text against two: to be blocked (-3, -2) must pass both planes, so it is at least 3 away;
  // to pass (3, 2) needs to cross one.
  const at::Tensor diagonal = at::tensor({M_SQRT1_2, M_SQRT1_2}).to(at::kDouble).view({1, 2});
  const at::Tensor mirrored = at::stack({-diagonal[0], diagonal[0] * at::tensor({-1.0, 1.0})});
  const ConceptTexts corner{diagonal, mirrored.unsqueeze(0)};  // x + y = 0 and x = 0
  const at::Tensor away = BoundaryDistance(x, corner, 10, 0.5);
  CHECK(away[0].item<double>() == Approx(5 * M_SQRT1_2));  // to x + y = 0, beyond x = 0
  CHECK(away[1].item<double>() == Approx(3));              // x = 0 is nearer than 5 / sqrt 2
  CHECK(away[2].item<double>() == Approx(M_SQRT1_2));      // x + y = 1
  // No direction is above such a threshold: only 0, which has no direction, is no pass.
  CHECK(BoundaryDistance(x, texts, 1, 0.99)[0].item<double>() == Approx(std::hypot(3, 2)));
}

TEST_CASE(
    "at any threshold and with several texts the certificate is no longer than the distance") {
  const ConceptTexts texts{nn::Normalised(Normal({2, 6}, "u")),
                           nn::Normalised(Normal({2, 3, 6}, "a"))};
  const at::Tensor x = Normal({200, 6}, "x") * 3;
  for (const double scale : {2.0, 7.0, 29.0}) {
    const at::Tensor margin = EspressoMargin("softmax", nn::Normalised(x), texts, scale);
    for (const double threshold : {0.05, 0.5, 0.7, 0.99}) {
      INFO("scale " << scale << ", threshold " << threshold);
      const at::Tensor p = (margin - Logit(threshold)).sigmoid();
      const at::Tensor certified = PublishedRadius(p, x.norm(2, {-1}), scale);
      const at::Tensor distance = BoundaryDistance(x, texts, scale, threshold);
      CHECK((certified - distance).max().item<double>() < 1e-6);
      // And no step of that length changes the answer.
      const at::Tensor step = nn::Normalised(Normal({200, 6}, "step")) * certified.unsqueeze(1);
      const at::Tensor moved = EspressoMargin("softmax", nn::Normalised(x + step), texts, scale);
      CHECK(at::equal(moved > Logit(threshold), margin > Logit(threshold)));
    }
  }
}

TEST_CASE("the filter's own cross entropy, by hand and with a gradient") {
  const at::Tensor u = at::tensor({1.0, 0.0}).to(at::kDouble).view({1, 2}).requires_grad_(true);
  const ConceptTexts texts{u, at::tensor({0.0, 1.0}).to(at::kDouble).view({1, 1, 2})};
  const at::Tensor bad = at::tensor({0.8, 0.6}).to(at::kDouble).view({1, 2});
  const at::Tensor good = at::tensor({0.6, 0.8, 1.0, 0.0}).to(at::kDouble).view({2, 2});
  // Margins: 2 for `bad`; -2 and 10 for `good`. p_u = 1 / (1 + e^-margin).
  const at::Tensor loss = EspressoPicturesLoss("softmax", bad, good, texts, 10);
  const double miss = std::log1p(std::exp(-2.0));
  const double alarms = (std::log1p(std::exp(-2.0)) + std::log1p(std::exp(10.0))) / 2;
  CHECK(loss.item<double>() == Approx((miss + alarms) / 2));
  // d/du: 10 x weighted by p_u - label, over the pictures of each kind, halved.
  const double p2 = 1 / (1 + std::exp(-2.0)), p10 = 1 / (1 + std::exp(-10.0));
  const at::Tensor gradient = Gradients(loss, {u})[0][0];
  CHECK(gradient[0].item<double>() ==
        Approx(5 * ((p2 - 1) * 0.8 + ((1 - p2) * 0.6 + p10 * 1.0) / 2)));
  CHECK(gradient[1].item<double>() == Approx(5 * ((p2 - 1) * 0.6 + (1 - p2) * 0.8 / 2)));
}

TEST_CASE("losses, rules and radii equal PyTorch's") {
  const StateDict expected = Expected();
  const EspressoPairs pairs{expected.Get("pairs_xu"), expected.Get("pairs_xa"),
                            expected.Get("pairs_pu"), expected.Get("pairs_pa")};
  const double scale = std::exp(2.0);
  const at::Tensor losses = expected.Get("losses");
  const at::Tensor ours[] = {
      EspressoOppositesLoss(pairs, scale, 1), ReleasedOppositesLoss(pairs, scale, 1),
      EspressoDistanceLoss(pairs.unacceptable_texts, pairs.acceptable_texts),
      ReleasedDistanceLoss(pairs.unacceptable_texts, pairs.acceptable_texts)};
  for (int i = 0; i < 4; ++i) {
    INFO("loss " << i);
    CHECK(ours[i].item<double>() == Approx(losses[i].item<double>()).margin(1e-5));
  }
}

}  // namespace excise
