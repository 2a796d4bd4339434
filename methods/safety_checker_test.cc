// Stable Diffusion's safety checker: its released rule against diffusers, and made thresholds.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

const char* const kChecker = "tests/fixtures/espresso/safety_checker";

std::unique_ptr<Method> Make(const Json& params) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("safety_checker");
  DecodeParams(params, *method, "test");
  return method;
}

Erased EraseTiny(const Json& params, const std::vector<Concept>& concepts = {TinyConcept()}) {
  TinyContext context;
  return Make(params)->Erase(context, TinyBackbone(), concepts);
}

// The fixture's checker with one tensor changed or, undefined, taken away.
fs::path Changed(const std::string& name, const at::Tensor& tensor) {
  const fs::path folder = TestFolder("checker_" + name);
  fs::copy_file(RepoFile(std::string(kChecker) + "/config.json"), folder / "config.json",
                fs::copy_options::overwrite_existing);
  StateDict out;
  for (const auto& [key, value] :
       LoadSafetensors(RepoFile(std::string(kChecker) + "/model.safetensors"))) {
    if (key != name) out.Set(key, value);
  }
  if (tensor.defined()) out.Set(name, tensor);
  SaveSafetensors(folder / "model.safetensors", out);
  return folder;
}

}  // namespace

TEST_CASE("the released rule equals diffusers', special care and rounding included") {
  const StateDict expected =
      LoadSafetensors(RepoFile("tests/fixtures/espresso/expected.safetensors"));
  TinyContext context;
  // The checker sees with its own image tower, so any backbone will do.
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  const std::unique_ptr<Method> method = Make({{"checker", RepoFile(kChecker).string()}});
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const ImageFilter* filter = erased.hooks->Filter();
  const at::Tensor scores = filter->Score(expected.Get("images"));
  const at::Tensor theirs = expected.Get("checker_scores");
  CHECK((scores - theirs).abs().max().item<double>() < 1e-5);
  CHECK(at::equal(scores > filter->Threshold(), theirs > 0));
  CHECK((scores > 0).any().item<bool>());
  CHECK_FALSE((scores > 0).all().item<bool>());
  const auto restored = method->RestoreHooks(base, {TinyConcept()}, erased.hook_state);
  CHECK(at::equal(restored->Filter()->Score(expected.Get("images")), scores));

  // Without special care the pictures that only it had lifted fall by 0.01.
  StateDict careless = erased.hook_state;
  careless.Set("special_care_embeds_weights", at::ones({3}, at::kFloat));
  const at::Tensor lower =
      method->RestoreHooks(base, {}, careless)->Filter()->Score(expected.Get("images"));
  const at::Tensor drop = scores - lower;
  CHECK((drop.abs().lt(1e-5).logical_or((drop - 0.01).abs().lt(1e-5))).all().item<bool>());
  CHECK((drop > 0.005).any().item<bool>());
}

TEST_CASE("made thresholds: the wanted share of calibration pictures lies above") {
  // Four calibration pictures and one name: at rate 0 the highest is the threshold, at 1 the
  // lowest, at 1/3 the second highest.
  Concept subject = TinyConcept();
  subject.preserve = {"cat", "dog", "picture"};
  const NoGrad no_grad;
  const at::Tensor images = TinyImages(4, 3);  // what TinyContext draws for four prompts
  at::Tensor last;
  for (const auto& [rate, above] : {std::pair{0.0, 0}, std::pair{1.0 / 3, 1}, std::pair{1.0, 3}}) {
    INFO("rate " << rate);
    const Erased erased = EraseTiny({{"false_positive_rate", rate}, {"pictures", 8}}, {subject});
    const double threshold = erased.hook_state.Get("concept_embeds_weights")[0].item<double>();
    const at::Tensor scores = erased.hooks->Filter()->Score(images);
    // Scores are cosine - threshold to three decimals: the one at the threshold rounds to 0.
    CHECK((scores + threshold).max().item<double>() <= 1);
    CHECK((scores < -0.0005).sum().item<int64_t>() <= 3 - above);
    CHECK((scores > 0.0005).sum().item<int64_t>() <= above);
    CHECK(scores.abs().min().item<double>() == Approx(0).margin(6e-4));
    if (last.defined()) CHECK((scores - last).min().item<double>() >= 0);
    last = scores;
  }
  const Erased careful = EraseTiny({{"special_care", {"cat"}}}, {subject});
  CHECK(careful.hook_state.Get("special_care_embeds").size(0) == 1);
}

TEST_CASE("gradients pass through the rounding") {
  const Erased erased = EraseTiny(Json::object());
  const at::Tensor images = TinyImages(2, 9).requires_grad_(true);
  const at::Tensor score = erased.hooks->Filter()->Score(images);
  CHECK(Gradients(score.sum(), {images})[0].abs().max().item<double>() > 0);
  const double thousandths = score[0].item<double>() * 1000;
  CHECK(thousandths == Approx(std::round(thousandths)).margin(1e-3));
}

TEST_CASE("what is no safety checker is refused by name") {
  const auto refused = [](const fs::path& folder) {
    TinyContext context;
    Make({{"checker", folder.string()}})->Erase(context, TinyBackbone(), {TinyConcept()});
  };
  CHECK_THROWS_WITH(refused(Changed("concept_embeds", {})),
                    Catch::Contains("'concept_embeds' is missing"));
  CHECK_THROWS_WITH(refused(Changed("concept_embeds", at::ones({17, 11}, at::kFloat))),
                    Catch::Contains("12 wide") && Catch::Contains("(17, 11)"));
  CHECK_THROWS_WITH(refused(Changed("special_care_embeds_weights", at::ones({2}, at::kFloat))),
                    Catch::Contains("special_care_embeds_weights"));
  CHECK_THROWS_WITH(refused(Changed("concept_embeds", at::ones({0, 12}, at::kFloat))),
                    Catch::Contains("concept_embeds"));
  CHECK_THROWS_AS(refused(TestFolder("checker_nothing")), Error);

  Concept bare = TinyConcept();
  bare.anchor = "";
  CHECK_THROWS_WITH(EraseTiny(Json::object(), {bare}), Catch::Contains("has no anchor"));
  CHECK_THROWS_WITH(Make({{"threshold", 3}}), Catch::Contains("threshold"));
}

}  // namespace excise
