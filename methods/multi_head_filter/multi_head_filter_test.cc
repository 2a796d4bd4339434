// The multi-headed classifier as a filter: trained on what it is told, and with heads of a file.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/text.h"
#include "methods/method.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Concepts are red pictures, everything else is blue.
class ColourContext : public TinyContext {
 public:
  std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                   int64_t limit) override {
    asked[group] = limit;
    const std::string word = group == "target" ? subject.known.at(0) : group;
    std::vector<std::string> prompts;
    for (int64_t i = 0; i < std::min<int64_t>(limit, 12); ++i) {
      prompts.push_back(word + " " + std::to_string(i));
    }
    return prompts;
  }
  at::Tensor Images(const std::vector<std::string>& prompts) override {
    drawn += static_cast<int64_t>(prompts.size());
    at::Tensor images = TinyImages(static_cast<int64_t>(prompts.size()), 3) * 0.3;
    for (size_t i = 0; i < prompts.size(); ++i) {
      const bool is_target = StartsWith(prompts[i], "poodle");
      images[static_cast<int64_t>(i)][is_target ? 0 : 2] += 0.6;
    }
    return images;
  }
  std::map<std::string, int64_t> asked;
  int64_t drawn = 0;
};

std::unique_ptr<Method> Make(const Json& params) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("multi_head_filter");
  DecodeParams(params, *method, "test");
  return method;
}

const Json kShort = {
    {"threshold", 0.5}, {"pictures", 40}, {"epochs", 40}, {"batch", 16}, {"lr", 0.01}};

}  // namespace

TEST_CASE("a trained head blocks its concept and passes the rest") {
  ColourContext context;
  const Backbone base = TinyBackbone();
  const std::unique_ptr<Method> method = Make(kShort);
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  CHECK(context.asked.at("target") == 20);
  CHECK(context.drawn <= 40);
  CHECK(context.gradient_steps == 40 * (32 * 3 / 4 / 16));

  ColourContext fresh;
  const ImageFilter* filter = erased.hooks->Filter();
  const at::Tensor red = filter->Score(fresh.Images({"poodle a", "poodle b", "poodle c"}));
  const at::Tensor blue = filter->Score(fresh.Images({"cat a", "cat b", "cat c"}));
  CHECK((red > filter->Threshold()).all().item<bool>());
  CHECK_FALSE((blue > filter->Threshold()).any().item<bool>());

  const auto restored = method->RestoreHooks(base, {TinyConcept()}, erased.hook_state);
  const at::Tensor images = TinyImages(3, 8);
  CHECK(at::equal(restored->Filter()->Score(images), filter->Score(images)));
  // Nothing that training moved stays behind in the state of another run.
  ColourContext second;
  CHECK(DigestOf(Make(kShort)->Erase(second, base, {TinyConcept()}).hook_state) ==
        DigestOf(erased.hook_state));
}

TEST_CASE("one head a concept; any of them blocks") {
  ColourContext context;
  const Backbone base = TinyBackbone();
  Concept other = TinyConcept();
  other.name = "bird";
  other.known = {"bird"};
  const Erased both = Make(kShort)->Erase(context, base, {TinyConcept(), other});
  CHECK(both.hook_state.Contains("poodle/0.weight"));
  CHECK(both.hook_state.Contains("bird/0.weight"));
  const at::Tensor images = TinyImages(4, 8);
  std::vector<at::Tensor> single;
  for (const char* name : {"poodle", "bird"}) {
    StateDict one;
    for (const auto& [tensor_name, tensor] : both.hook_state) {
      if (StartsWith(tensor_name, name)) one.Set(tensor_name, tensor);
    }
    single.push_back(Make(kShort)->RestoreHooks(base, {}, one)->Filter()->Score(images));
  }
  const ImageFilter* filter = both.hooks->Filter();
  CHECK(at::equal(filter->Score(images), single[0].maximum(single[1])));
  // The margin is the highest logit, here with threshold 1/2: what an attack can follow.
  CHECK((filter->Margin(images).sigmoid() - filter->Score(images)).abs().max().item<double>() <
        1e-6);
}

TEST_CASE("heads of a file: used as they are, refused where widths disagree") {
  // Width 8, as the tiny CLIP's: one hidden unit that is always 1, so that the logit is 2.
  StateDict head;
  head.Set("0.weight", at::zeros({1, 8}, at::kFloat));
  head.Set("0.bias", at::full({1}, 1.0f, at::kFloat));
  head.Set("3.weight", at::full({1}, 1.0f, at::kFloat));
  head.Set("3.bias", at::zeros({1}, at::kFloat));
  head.Set("3.running_mean", at::zeros({1}, at::kFloat));
  head.Set("3.running_var", at::full({1}, 1.0f - 1e-5f, at::kFloat));
  head.Set("4.weight", at::full({1, 1}, 2.0f, at::kFloat));
  head.Set("4.bias", at::zeros({1}, at::kFloat));
  const fs::path file = TestFolder("multi_head_file") / "unsafe.safetensors";
  SaveSafetensors(file, head);
  TinyContext context;
  const std::unique_ptr<Method> method = Make({{"heads", file.string()}});
  const Erased erased = method->Erase(context, TinyBackbone(), {TinyConcept()});
  CHECK(method->traits().uses.empty());
  CHECK(context.gradient_steps == 0);
  const at::Tensor score = erased.hooks->Filter()->Score(TinyImages(2, 8));
  CHECK(score[1].item<double>() == Approx(1 / (1 + std::exp(-2.0))).margin(1e-6));

  const std::string wide = RepoFile("tests/fixtures/espresso/head.safetensors").string();
  CHECK_THROWS_WITH(Make({{"heads", wide}})->Erase(context, TinyBackbone(), {TinyConcept()}),
                    Catch::Contains("width 12") && Catch::Contains("makes 8"));
  CHECK_THROWS_WITH(Make({{"threshold", 1.0}}), Catch::Contains("threshold"));
  CHECK_THROWS_WITH(Make({{"pictures", 801}}), Catch::Contains("800"));
}

}  // namespace excise
