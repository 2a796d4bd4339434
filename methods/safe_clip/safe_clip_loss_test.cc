#include "methods/safe_clip/safe_clip_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "models/tensors/safetensors.h"
#include "tests/gradient_check.h"
#include "tests/testdata.h"

namespace excise {
namespace {

const SafeClipTermSet kAll = ParseSafeClipTerms("1,2,3,4,5,6,7,8");

at::Tensor Rows(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({-1, 2});
}

TEST_CASE("The eight terms by hand, two quadruplets in the plane") {
  const at::Tensor own = Rows({1, 0, 0, 1}), swapped = Rows({0, 1, 1, 0});
  QuadrupletEmbeds embeds = {own * 3, swapped, own, Rows({3, 4, 0, 2}), own, own};
  const SafeClipLoss loss = QuadrupletLoss(embeds, kAll);
  // text_safe, text_nsfw, vision_safe, vision_nsfw: 1 - cos.
  CHECK(loss.terms[0].item<double>() == Approx(0).margin(1e-12));
  CHECK(loss.terms[1].item<double>() == Approx(1));
  CHECK(loss.terms[2].item<double>() == Approx(0).margin(1e-12));
  CHECK(loss.terms[3].item<double>() == Approx((0.4 + 0) / 2));
  // S_Vref and V_Sref: log(1 + e^-100). U_Vref: the wrong pair is 100 nearer.
  CHECK(loss.terms[4].item<double>() == Approx(0).margin(1e-12));
  CHECK(loss.terms[5].item<double>() == Approx(100));
  CHECK(loss.terms[6].item<double>() == Approx(0).margin(1e-12));
  // G_Sref: cosines (.6, 0 | .8, 1). Texts to pictures: log(1 + e^-60), log(1 + e^-20); pictures to
  // texts: log(1 + e^20), log(1 + e^-100).
  CHECK(loss.terms[7].item<double>() ==
        Approx(0.5 * (std::log1p(std::exp(-20)) / 2 + std::log1p(std::exp(20)) / 2)));
  CHECK(loss.total.item<double>() ==
        Approx((0.1 * 1 + 0.2 * 0.2 + 0.25 * 100 + 0.5 * 5) / 1.75 / 8).epsilon(1e-9));
}

TEST_CASE("Names, roles and effective weights are the released ones") {
  const char* names[] = {"text_safe", "text_nsfw", "vision_safe", "vision_nsfw",
                         "S_Vref",    "U_Vref",    "V_Sref",      "G_Sref"};
  const double effective[] = {.00714, .00714, .00714, .01429, .01786, .01786, .01786, .03571};
  double sum = 0;
  for (const SafeClipTerm& term : SafeClipTerms()) sum += term.lambda;
  CHECK(sum == Approx(1.75));
  for (size_t i = 0; i < kSafeClipTerms; ++i) {
    CHECK(std::string(SafeClipTerms()[i].name) == names[i]);
    CHECK(SafeClipTerms()[i].lambda / sum / 8 == Approx(effective[i]).margin(5e-6));
  }
}

QuadrupletEmbeds Generic() {
  // Near each other, as embeddings of one domain are: the contrastive terms do not saturate.
  const auto draw = [](int k) { return SineTensor({4, 5}, k) * 0.05 + SineTensor({5}, 9); };
  return {draw(0), draw(1), draw(2), draw(3), draw(4), draw(5)};
}

TEST_CASE("Gradients equal central differences in double precision") {
  QuadrupletEmbeds e = Generic();
  for (const SafeClipTermSet& terms : {kAll, ParseSafeClipTerms("1,3,5,7")}) {
    const std::vector<at::Tensor> inputs =
        terms == kAll
            ? std::vector<at::Tensor>{e.text_safe, e.text_unsafe, e.vision_safe, e.vision_unsafe}
            : std::vector<at::Tensor>{e.text_safe, e.vision_safe};
    CHECK(GradientError([&] { return QuadrupletLoss(e, terms).total; }, inputs) < 1e-7);
  }
}

TEST_CASE("A term that is off leaves the others' weights as they are") {
  const QuadrupletEmbeds e = Generic();
  const double whole = QuadrupletLoss(e, kAll).total.item<double>();
  double parts = 0;
  for (const char* pair : {"1,3", "2,4", "5,7", "6,8"}) {
    parts += QuadrupletLoss(e, ParseSafeClipTerms(pair)).total.item<double>();
  }
  CHECK(parts == Approx(whole).epsilon(1e-12));
  const SafeClipLoss control = QuadrupletLoss(e, ParseSafeClipTerms("1,3,5,7"));
  CHECK(control.terms[0].defined());
  CHECK_FALSE(control.terms[1].defined());
  // Safe terms read nothing of the unsafe side.
  QuadrupletEmbeds safe = e;
  safe.text_unsafe = safe.vision_unsafe = at::Tensor();
  CHECK(QuadrupletLoss(safe, ParseSafeClipTerms("1,3,5,7")).total.equal(control.total));
  CHECK_FALSE(Reads(ParseSafeClipTerms("1,3,5,7"), &QuadrupletEmbeds::text_unsafe));
  CHECK(Reads(ParseSafeClipTerms("8"), &QuadrupletEmbeds::vision_unsafe));
  CHECK(Reads(ParseSafeClipTerms("8"), &QuadrupletEmbeds::text_reference));
}

TEST_CASE("The loss equals torch's") {
  const StateDict file = LoadSafetensors(RepoFile("tests/fixtures/safe_clip.safetensors"), false);
  const auto get = [&](const char* name) { return file.Get(std::string("loss.") + name); };
  const QuadrupletEmbeds embeds = {get("text_safe"),      get("text_unsafe"),
                                   get("vision_safe"),    get("vision_unsafe"),
                                   get("text_reference"), get("vision_reference")};
  const SafeClipLoss loss = QuadrupletLoss(embeds, kAll);
  for (size_t i = 0; i < kSafeClipTerms; ++i) {
    const double expected = get("terms")[static_cast<int64_t>(i)].item<double>();
    CHECK(loss.terms[i].item<double>() == Approx(expected).epsilon(1e-9));
  }
  CHECK(loss.total.item<double>() == Approx(get("total").item<double>()).epsilon(1e-9));
}

TEST_CASE("The recall sum by hand") {
  // Safe texts and pictures agree: 1 + 1. Unsafe pictures are the second text's both: S->G is a tie
  // for neither text (0), G->S right once of two (.5). Unsafe texts are swapped: 0 + 0.
  const at::Tensor own = Rows({1, 0, 0, 1});
  QuadrupletEmbeds e = {own, Rows({0, 1, 1, 0}), own * 7, Rows({0, 1, 0, 1}), {}, {}};
  CHECK(RecallSum(e) == Approx(2.5));
  e.text_unsafe = e.vision_unsafe = own;
  CHECK(RecallSum(e) == Approx(6));
  e.vision_safe = at::ones({2, 2}, at::kDouble);  // collapsed: only S<->G is left
  CHECK(RecallSum(e) == Approx(2));
}

TEST_CASE("Wrong terms and embeddings are refused by name") {
  for (const char* wrong : {"", "0", "9", "1,1", "1,,2", "1;2", "1,2,", "one", "10", "-1"}) {
    INFO("terms '" << wrong << "'");
    CHECK_THROWS_AS(ParseSafeClipTerms(wrong), UsageError);
  }
  CHECK(ParseSafeClipTerms("3, 1") == SafeClipTermSet{true, false, true});
  QuadrupletEmbeds e = Generic();
  e.vision_reference = SineTensor({4, 6}, 5);
  CHECK_THROWS_WITH(QuadrupletLoss(e, kAll), Catch::Contains("vision_safe") &&
                                                 Catch::Contains("4 x 5") &&
                                                 Catch::Contains("4 x 6"));
  e = Generic();
  e.text_reference = SineTensor({1, 5}, 5);
  CHECK_THROWS_WITH(QuadrupletLoss(e, kAll), Catch::Contains("text_safe"));
  e.text_safe = at::Tensor();
  CHECK_THROWS_WITH(QuadrupletLoss(e, kAll), Catch::Contains("not given"));
  CHECK_THROWS_AS(QuadrupletLoss(e, {}), Error);
}

}  // namespace
}  // namespace excise
