// Espresso end to end on random weights of SD 1.4's and ViT-L/14's layout, against PyTorch.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logit.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "core/error.h"
#include "methods/espresso/espresso_filter.h"
#include "methods/method.h"
#include "models/pictures/image_io.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

StateDict Expected() {
  return LoadSafetensors(RepoFile("tests/fixtures/espresso/expected.safetensors"));
}

// The reduced ViT-L/14 beside its tokenizer.
fs::path ClipFolder() {
  const fs::path folder = TestFolder("espresso_clip");
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::copy_file(RepoFile(std::string("tests/fixtures/espresso/clip/") + name), folder / name,
                  fs::copy_options::overwrite_existing);
  }
  fs::copy(RepoFile("tests/fixtures/sd1/tokenizer"), folder / "tokenizer",
           fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  return folder;
}

// What the reference was fine-tuned on.
class FixtureContext : public TinyContext {
 public:
  std::vector<std::string> Prompts(const Concept&, const std::string& group,
                                   int64_t limit) override {
    std::vector<std::string> prompts = {"a photo of a dog", "the red dog"};
    if (group == "anchor") prompts = {"a photo of a cat", "the red cat"};
    prompts.resize(std::min<size_t>(prompts.size(), static_cast<size_t>(limit)));
    return prompts;
  }
  at::Tensor Images(const std::vector<std::string>& prompts) override {
    const int64_t begin = prompts[0].find("dog") != std::string::npos ? 0 : 2;
    return Expected().Get("images").narrow(0, begin, static_cast<int64_t>(prompts.size()));
  }
};

// As many prompts as are asked for, and other pictures for other names.
class PictureContext : public TinyContext {
 public:
  std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                   int64_t limit) override {
    const std::string name = TinyContext::Prompts(subject, group, limit).at(0);
    std::vector<std::string> prompts;
    for (int64_t i = 0; i < limit; ++i) prompts.push_back(name + " " + std::to_string(i));
    return prompts;
  }
  at::Tensor Images(const std::vector<std::string>& prompts) override {
    return TinyImages(static_cast<int64_t>(prompts.size()), prompts[0].size());
  }
};

Concept DogConcept(const std::string& category) {
  Concept subject = TinyConcept();
  subject.known = {"dog"};
  subject.anchor = "cat";
  subject.category = category;
  return subject;
}

// The paper's form, but for `params`.
std::unique_ptr<Method> Make(const Json& params) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("espresso");
  Json all = method->presets().at("paper");
  all.update(params);
  DecodeParams(all, *method, "test");
  return method;
}

Erased EraseTiny(const Json& params, const Concept& subject = TinyConcept()) {
  TinyContext context;
  return Make(params)->Erase(context, TinyBackbone(), {subject});
}

double LargestDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("scores and radii on a snapshot of SD 1.4's layout equal PyTorch's") {
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  const StateDict expected = Expected();
  FixtureContext context;
  for (const std::string rule : {"softmax", "projection"}) {
    const std::unique_ptr<Method> method =
        Make({{"variant", "none"}, {"rule", rule}, {"clip", ClipFolder().string()}});
    const Erased erased = method->Erase(context, base, {DogConcept("object")});
    CHECK(erased.text_encoder.size() + erased.unet.size() + erased.vae.size() == 0);
    const ImageFilter* filter = erased.hooks->Filter();
    REQUIRE(filter != nullptr);
    const at::Tensor score = filter->Score(expected.Get("images"));
    CHECK(LargestDifference(score, expected.Get(rule)) < 1e-5);
    const auto measures = filter->Measures(expected.Get("images"));
    if (rule == "projection") {
      CHECK(measures.empty());
      continue;
    }
    for (const char* name : {"published_radius", "boundary_distance"}) {
      INFO(name);
      const bool published = std::string(name) == "published_radius";
      CHECK(LargestDifference(measures.at(published ? "certified_radius" : name),
                              expected.Get(name)) < 1e-5);
    }
    // This filter's CLIP is not the generator's: its text embeddings say nothing here.
    CHECK_FALSE(erased.hooks->TextMargin({{}, {}, {}, expected.Get("pairs_pu")}).defined());
  }
}

TEST_CASE("fine-tuned texts equal PyTorch's, in every variant") {
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  const StateDict expected = Expected();
  for (const std::string variant : {"paper", "released"}) {
    for (const std::string objective : {"opposites", "distance"}) {
      INFO(variant << " " << objective);
      FixtureContext context;
      const Erased erased =
          Make({{"variant", variant},
                {"pairs", 2},
                {"batch", 2},
                {"epochs", 3},
                {"clip", ClipFolder().string()}})
              ->Erase(context, base, {DogConcept(objective == "opposites" ? "unsafe" : "object")});
      const at::Tensor tuned = expected.Get("tuned_" + variant + "_" + objective);
      CHECK(LargestDifference(erased.hook_state.Get("unacceptable")[0], tuned[0]) < 1e-5);
      CHECK(LargestDifference(erased.hook_state.Get("acceptable")[0], tuned[1]) < 1e-5);
      CHECK(context.gradient_steps == 3);
      // Far enough from where it started that the comparison says something.
      const Erased untuned = Make({{"variant", "none"}, {"clip", ClipFolder().string()}})
                                 ->Erase(context, base, {DogConcept("object")});
      CHECK(LargestDifference(untuned.hook_state.Get("unacceptable")[0], tuned[0]) > 1e-4);
    }
  }
}

TEST_CASE("the backbone's own CLIP: threshold, ties, margin of a prompt, gradients") {
  const Erased erased = EraseTiny({{"variant", "none"}, {"threshold", 0.6}});
  const ImageFilter* filter = erased.hooks->Filter();
  CHECK(filter->Threshold() == 0.6);
  const at::Tensor images = TinyImages(3, 4).requires_grad_(true);
  const at::Tensor score = filter->Score(images);
  CHECK(score.sizes() == at::IntArrayRef({3}));
  CHECK(Gradients(score.sum(), {images})[0].abs().max().item<double>() > 0);

  // A prompt is treated as a picture with its embedding would be: s (u - a) . e - logit(threshold).
  const at::Tensor u = erased.hook_state.Get("unacceptable"),
                   a = erased.hook_state.Get("acceptable");
  const double scale = std::exp(TinyBackbone().text_encoder.Get("logit_scale").item<double>());
  const at::Tensor margin = erased.hooks->TextMargin({{}, {}, {}, u});
  CHECK(margin[0].item<double>() ==
        Approx(scale * (1 - (u * a).sum().item<double>()) - std::log(0.6 / 0.4)).margin(1e-4));

  // The margin of a picture crosses 0 with the rule.
  const at::Tensor picture_margin = filter->Margin(images);
  CHECK(LargestDifference(picture_margin, at::logit(score) - std::log(0.6 / 0.4)) < 1e-3);

  // An anchor that equals the name ties everywhere, and ties pass.
  Concept same = TinyConcept();
  same.anchor = same.known[0];
  const Erased ties = EraseTiny({{"variant", "none"}}, same);
  const at::Tensor tied = ties.hooks->Filter()->Score(TinyImages(3, 4));
  CHECK(tied.eq(0.5).all().item<bool>());
  CHECK_FALSE((tied > ties.hooks->Filter()->Threshold()).any().item<bool>());
}

TEST_CASE("where the score saturates, the margin still leads an attack downhill") {
  TinyContext context;
  Backbone sharp = TinyBackbone();
  sharp.text_encoder.Set("logit_scale", at::full({}, std::log(1e5), at::kFloat));
  const Erased erased = Make({{"variant", "none"}})->Erase(context, sharp, {TinyConcept()});
  const ImageFilter* filter = erased.hooks->Filter();
  const at::Tensor images = TinyImages(8, 4).requires_grad_(true);
  const at::Tensor score = filter->Score(images), margin = filter->Margin(images);
  // Every probability is 0 or 1 in float32, so its gradient says nothing.
  REQUIRE((score * (1 - score)).abs().max().item<double>() == 0);
  CHECK(Gradients(score.sum(), {images})[0].abs().max().item<double>() == 0);
  CHECK(Gradients(margin.sum(), {images})[0].abs().amax({1, 2, 3}).min().item<double>() > 0);
  CHECK(at::equal(margin > 0, score > filter->Threshold()));
}

TEST_CASE("several names: the best of them, or their mean direction") {
  Concept two = TinyConcept();
  two.known = {"poodle", "cat"};
  Concept first = two, second = two;
  first.known = {"poodle"};
  second.known = {"cat"};
  const at::Tensor images = TinyImages(5, 4);
  const auto score = [&](const Concept& subject, const char* names) {
    return EraseTiny({{"variant", "none"}, {"names", names}}, subject)
        .hooks->Filter()
        ->Score(images);
  };
  const at::Tensor best = score(two, "best");
  CHECK(LargestDifference(best, score(first, "best").maximum(score(second, "best"))) < 1e-6);
  CHECK(LargestDifference(score(two, "mean"), best) > 1e-4);
  CHECK(LargestDifference(score(first, "mean"), score(first, "best")) < 1e-6);
}

TEST_CASE("acceptable texts: the best match of the anchor, the empty text and preserved names") {
  const Backbone base = TinyBackbone();
  const ClipModel clip = FilterClip(base, "", "test");
  const at::Tensor images = TinyImages(5, 4);
  const at::Tensor x = FilterPictures(clip, images);
  const at::Tensor unit = x / x.norm(2, {-1}, true);
  const auto cosines = [&](const std::vector<std::string>& texts) {
    return unit.matmul(FilterTexts(clip, clip.weights, texts).t());
  };
  const std::map<std::string, std::vector<std::string>> lists = {{"anchor", {"dog"}},
                                                                 {"empty", {"dog", ""}},
                                                                 {"preserve", {"dog", "cat"}},
                                                                 {"all", {"dog", "", "cat"}}};
  for (const auto& [against, texts] : lists) {
    INFO(against);
    const Json params = {{"variant", "none"}, {"against", against}, {"temperature", 3}};
    const at::Tensor expected = at::sigmoid((cosines({"poodle"}).amax(1) - cosines(texts).amax(1)) *
                                            (FilterLogitScale(clip) / 3));
    CHECK(LargestDifference(EraseTiny(params).hooks->Filter()->Score(images), expected) < 1e-6);
    const std::vector<std::string> uses = Make(params)->traits().uses;
    CHECK(std::count(uses.begin(), uses.end(), "preserve") == (texts.back() == "cat"));
  }
  // Concepts with lists of unequal length, at once: what either of them alone would say.
  Concept first = TinyConcept(), second = TinyConcept();
  second.name = "bird";
  second.known = {"bird"};
  second.preserve = {"red", "photo"};
  const auto score = [&](const std::vector<Concept>& concepts) {
    TinyContext context;
    return Make({{"variant", "none"}, {"against", "all"}})
        ->Erase(context, base, concepts)
        .hooks->Filter()
        ->Score(images);
  };
  CHECK(LargestDifference(score({first, second}), score({first}).maximum(score({second}))) < 1e-6);
}

TEST_CASE("a threshold by misses is a quantile, as numpy has it, and comes back from the state") {
  StateDict state;
  const at::Tensor margins = at::tensor({3.0, -1.0, 2.0, 1.0, 4.0});
  // numpy.quantile([-1, 1, 2, 3, 4], 0.1) = -0.2 and 0.6 -> 2.4.
  for (const auto& [misses, logit] : {std::pair{0.1, -0.2}, std::pair{0.6, 2.4}}) {
    SetThreshold(margins, misses, &state);
    CHECK(state.Get("threshold").item<double>() == Approx(1 / (1 + std::exp(-logit))).margin(1e-6));
  }
  SetThreshold(margins * 100, 0.9, &state);  // no p_u of float32 is above 1
  CHECK(state.Get("threshold").item<double>() == Approx(1 - 1e-6).margin(1e-7));

  // Half of the pictures that it was set by pass.
  const std::unique_ptr<Method> method =
      Make({{"variant", "none"}, {"misses", 0.5}, {"pairs", 4}, {"threshold", 0.123}});
  CHECK(method->traits().base_pictures);
  PictureContext context;
  const Backbone base = TinyBackbone();
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const ImageFilter* filter = erased.hooks->Filter();
  const at::Tensor pictures = context.Images(context.Prompts(TinyConcept(), "target", 4));
  const auto passed = (filter->Score(pictures) <= filter->Threshold()).sum().item<int64_t>();
  CHECK(passed == 2);
  const auto restored = method->RestoreHooks(base, {TinyConcept()}, erased.hook_state);
  CHECK(restored->Filter()->Threshold() == filter->Threshold());
  class NoPrompts : public TinyContext {
    std::vector<std::string> Prompts(const Concept&, const std::string&, int64_t) override {
      return {};
    }
  } nothing;
  CHECK_THROWS_WITH(method->Erase(nothing, base, {TinyConcept()}), Catch::Contains("misses 0"));
}

TEST_CASE("fine-tuned for pictures, the filter gets fewer of them wrong") {
  const Backbone base = TinyBackbone();
  const ClipModel clip = FilterClip(base, "", "test");
  PictureContext context;
  const auto pictures = [&](const char* group) {
    const at::Tensor x =
        FilterPictures(clip, context.Images(context.Prompts(TinyConcept(), group, 2)));
    return x / x.norm(2, {-1}, true);
  };
  const at::Tensor bad = pictures("target"), good = pictures("anchor");
  const auto loss = [&](const Json& params) {
    const std::unique_ptr<Method> method = Make(params);
    PictureContext own;
    const Erased erased = method->Erase(own, base, {TinyConcept()});
    CHECK(own.asked == method->traits().prompts);
    return EspressoPicturesLoss("softmax", bad, good, TextsOf(erased.hook_state),
                                FilterLogitScale(clip))
        .item<double>();
  };
  for (const char* against : {"anchor", "all"}) {
    INFO(against);
    const double before = loss({{"variant", "none"}, {"against", against}});
    const double after = loss({{"objective", "pictures"},
                               {"against", against},
                               {"pairs", 2},
                               {"batch", 2},
                               {"epochs", 20},
                               {"lr", 1e-3},
                               {"weight_decay", 0},
                               {"misses", 0.1}});  // by pictures of other prompts
    CHECK(after < before * 0.95);
  }
}

TEST_CASE("hooks come back from their state without training, bit for bit") {
  const std::unique_ptr<Method> method = Make({{"pairs", 1}, {"epochs", 2}});
  TinyContext context;
  const Backbone base = TinyBackbone();
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const auto restored = method->RestoreHooks(base, {TinyConcept()}, erased.hook_state);
  const at::Tensor images = TinyImages(4, 6);
  CHECK(at::equal(restored->Filter()->Score(images), erased.hooks->Filter()->Score(images)));
  CHECK_FALSE(at::equal(EraseTiny({{"variant", "none"}}).hooks->Filter()->Score(images),
                        erased.hooks->Filter()->Score(images)));
}

TEST_CASE("what is delivered instead of a blocked picture is data") {
  const Erased plain = EraseTiny({{"variant", "none"}});
  const ImageFilter& black = *plain.hooks->Filter();
  CHECK(black.Replacement(8, 6).sizes() == at::IntArrayRef({3, 8, 6}));
  CHECK(black.Replacement(8, 6).eq(0).all().item<bool>());
  const fs::path file = TestFolder("replacement") / "r.png";
  const at::Tensor picture = ToUint8(TinyImages(1, 9))[0];
  WritePng(file, picture);
  const Erased erased = EraseTiny({{"variant", "none"}, {"replacement", file.string()}});
  const ImageFilter& own = *erased.hooks->Filter();
  CHECK(at::equal(ToUint8(own.Replacement(64, 64).unsqueeze(0))[0], picture));
  const at::Tensor small = own.Replacement(16, 24);
  CHECK(small.sizes() == at::IntArrayRef({3, 16, 24}));
  CHECK(small.ge(0).logical_and(small.le(1)).all().item<bool>());
}

TEST_CASE("what cannot be used is refused with a reason") {
  for (const double threshold : {0.0, 1.0, -0.2, 1.5}) {
    CHECK_THROWS_WITH(Make({{"threshold", threshold}}), Catch::Contains("threshold"));
  }
  Concept bare = TinyConcept();
  bare.anchor = "";
  CHECK_THROWS_WITH(EraseTiny({{"variant", "none"}}, bare),
                    Catch::Contains("'poodle' has no anchor"));
  bare = TinyConcept();
  bare.known = {};
  CHECK_THROWS_WITH(EraseTiny(Json::object(), bare), Catch::Contains("no known name"));

  // A text encoder alone cannot see pictures.
  FixtureContext context;
  const Backbone sd1 = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  CHECK_THROWS_WITH(
      Make({{"variant", "none"}})->Erase(context, sd1, {DogConcept("object")}),
      Catch::Contains("cannot see pictures") && Catch::Contains("methods.espresso.clip"));
  const std::string text_only = RepoFile("tests/fixtures/sd1/text_encoder").string();
  CHECK_THROWS_AS(
      Make({{"variant", "none"}, {"clip", text_only}})->Erase(context, sd1, {DogConcept("object")}),
      Error);
  // A text encoder of another width.
  CHECK_THROWS_WITH(
      EraseTiny({{"variant", "none"}, {"text_encoder", text_only}}),
      Catch::Contains("hidden_size") && Catch::Contains("24") && Catch::Contains("16"));
  // No prompts to fine-tune on.
  class NoPrompts : public TinyContext {
    std::vector<std::string> Prompts(const Concept&, const std::string&, int64_t) override {
      return {};
    }
  } nothing;
  CHECK_THROWS_WITH(Make(Json::object())->Erase(nothing, TinyBackbone(), {TinyConcept()}),
                    Catch::Contains("variant none"));
}

TEST_CASE("the tokenizer of a filter's CLIP is part of its folder, so that its digest covers it") {
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  FixtureContext context;
  const fs::path clip = ClipFolder(), beside = clip.parent_path() / "tokenizer";
  fs::remove_all(beside);
  fs::rename(clip / "tokenizer", beside);
  CHECK_THROWS_WITH(Make({{"variant", "none"}, {"clip", clip.string()}})
                        ->Erase(context, base, {DogConcept("object")}),
                    Catch::Contains("holds no tokenizer"));
  fs::remove_all(beside);
}

TEST_CASE("a text encoder tuned elsewhere takes the filter's place") {
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  FixtureContext context;
  const fs::path clip = ClipFolder();
  const auto texts = [&](const Json& params) {
    return Make(params)->Erase(context, base, {DogConcept("object")}).hook_state;
  };
  const StateDict own = texts({{"variant", "none"}, {"clip", clip.string()}});
  const StateDict same =
      texts({{"variant", "none"}, {"clip", clip.string()}, {"text_encoder", clip.string()}});
  CHECK(at::equal(same.Get("unacceptable"), own.Get("unacceptable")));
  const StateDict other =
      texts({{"variant", "none"},
             {"clip", clip.string()},
             {"text_encoder", RepoFile("tests/fixtures/sd1/text_encoder").string()}});
  CHECK(LargestDifference(other.Get("unacceptable"), own.Get("unacceptable")) > 1e-3);
}

}  // namespace excise
