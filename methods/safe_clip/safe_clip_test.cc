#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/text.h"
#include "methods/method.h"
#include "models/formats/clip_config.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Method> Smoke(const Json& more = Json::object()) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("safe_clip");
  DecodeParams(method->presets().at("smoke"), *method, "test");
  DecodeParams(more, *method, "test");
  return method;
}

Erased EraseWith(const Json& more, const Backbone& base) {
  TinyContext context;
  return Smoke(more)->Erase(context, base, {TinyConcept()});
}

// As a Stable Diffusion snapshot has it: the text tower alone.
Backbone TextOnly() {
  Backbone base = TinyBackbone();
  const StateDict whole = base.text_encoder;
  base.text_encoder = {};
  for (const auto& [name, tensor] : whole) {
    if (StartsWith(name, "text_model.")) base.text_encoder.Set(name, tensor);
  }
  base.clip.vision = {};
  return base;
}

void CopyTokenizer(const fs::path& to) {
  fs::create_directories(to);
  TrainTokenizer({"a picture of a poodle", "a picture of a dog", "a picture of a cat",
                  "poodle dog cat picture of a", "a poodle on a red background"},
                 60, 16, to);
}

void WriteJson(const fs::path& file, const Json& json) { std::ofstream(file) << json.dump(1); }

// A CLIPModel's folder, as published ones lie.
fs::path ClipFolder(const std::string& name, const ClipModel& clip) {
  const fs::path folder = TestFolder(name);
  CopyTokenizer(folder);
  WriteJson(folder / "config.json", ClipConfigToJson(clip.config));
  SaveSafetensors(folder / "model.safetensors", clip.weights);
  return folder;
}

size_t CountOf(const StateDict& tensors, const std::string& prefix) {
  size_t n = 0;
  for (const auto& [name, tensor] : tensors) n += StartsWith(name, prefix);
  return n;
}

TEST_CASE("Both towers of a backbone with a whole CLIP are replaced") {
  const Erased erased = EraseWith(Json::object(), TinyBackbone());
  CHECK(CountOf(erased.text_encoder, "text_model.") == 2 * 5);
  CHECK(CountOf(erased.text_encoder, "vision_model.") == 1 * 5 + 1);
  CHECK(erased.text_encoder.size() == 16);
  CHECK(erased.unet.size() == 0);
  CHECK(erased.hooks == nullptr);
}

TEST_CASE("A text encoder alone needs a CLIP, and is all that is replaced") {
  const Backbone base = TextOnly();
  CHECK_THROWS_WITH(EraseWith(Json::object(), base),
                    Catch::Contains("text_projection.weight") && Catch::Contains("'clip'"));
  const fs::path folder = ClipFolder("safe_clip_whole", TinyClip());
  const Erased erased = EraseWith({{"clip", folder.string()}}, base);
  CHECK(erased.text_encoder.size() == 2 * 5);
  // The towers are those of the whole backbone, so is the training.
  const Erased whole = EraseWith(Json::object(), TinyBackbone());
  for (const auto& [name, tensor] : erased.text_encoder) {
    INFO(name);
    CHECK(tensor.equal(whole.text_encoder.Get(name)));
  }
  ApplyErased(base, erased);
}

TEST_CASE("A CLIP whose text tower has other shapes is refused") {
  ClipModel clip = TinyClip();
  clip.config.text.num_hidden_layers = 3;
  clip.weights = InitClip(clip.config, 1);
  fs::path folder = ClipFolder("safe_clip_deeper", clip);
  CHECK_THROWS_WITH(EraseWith({{"clip", folder.string()}}, TextOnly()),
                    Catch::Contains("text layers (3, not 2)"));
  clip = TinyClip();
  clip.config.text.hidden_size = 24;
  clip.weights = InitClip(clip.config, 1);
  folder = ClipFolder("safe_clip_wider", clip);
  CHECK_THROWS_WITH(EraseWith({{"clip", folder.string()}}, TextOnly()),
                    Catch::Contains(folder.string()) && Catch::Contains("text_model."));
}

TEST_CASE("The contrastive terms have the model's own scale unless one is given") {
  const Backbone base = TinyBackbone();
  const double own = std::exp(base.text_encoder.Get("logit_scale").item<double>());
  REQUIRE(own != Approx(100));
  const auto digest = [&](const Json& more) {
    return DigestOf(EraseWith(more, base).text_encoder);
  };
  CHECK(digest({{"logit_scale", own}}) == digest(Json::object()));
  CHECK(digest({{"logit_scale", 100}}) != digest(Json::object()));
  CHECK(Registry<Method>::Get().Make("safe_clip")->presets().at("paper").at("logit_scale") == 100);

  Backbone without = base;
  without.text_encoder = {};
  for (const auto& [name, tensor] : base.text_encoder) {
    if (name != "logit_scale") without.text_encoder.Set(name, tensor);
  }
  CHECK_THROWS_WITH(EraseWith(Json::object(), without), Catch::Contains("'logit_scale'"));
  EraseWith({{"logit_scale", 100}}, without);
  for (const at::Tensor& damaged :
       {at::full({}, 1000.0), at::full({}, -1000.0), at::full({}, std::nan("")), at::full({2}, 3.0),
        at::full({0}, 3.0)}) {
    without.text_encoder.Set("logit_scale", damaged);
    CHECK_THROWS_WITH(EraseWith(Json::object(), without), Catch::Contains("damaged"));
  }
  CHECK_THROWS_AS(EraseWith({{"logit_scale", -1}}, base), UsageError);
}

TEST_CASE("Settings that make no sense are refused before any training") {
  const Backbone base = TinyBackbone();
  CHECK_THROWS_WITH(EraseWith({{"terms", "1,9"}}, base), Catch::Contains("'9'"));
  CHECK_THROWS_WITH(EraseWith({{"data", "visu"}}, base), Catch::Contains("annotations"));
  CHECK_THROWS_AS(EraseWith({{"annotations", "."}}, base), UsageError);  // emoji has none
  CHECK_THROWS_AS(EraseWith({{"batch", 1}}, base), UsageError);
  CHECK_THROWS_AS(EraseWith({{"reference", "paper"}}, base), UsageError);
}

TEST_CASE("Terms, reference and checkpoint each change what comes out, the seed too") {
  const Backbone base = TinyBackbone();
  const Json fast = {{"lr", 0.05}, {"epochs", 3}};
  const auto digest = [&](Json more) {
    more.update(fast);
    return DigestOf(EraseWith(more, base).text_encoder);
  };
  const std::string all = digest({});
  CHECK(digest({}) == all);
  CHECK(digest({{"terms", "1,3,5,7"}}) != all);
  CHECK(digest({{"reference", "released"}}) != all);
  CHECK(digest({{"harmless", 0}}) != all);
  TinyContext other(2);
  CHECK(DigestOf(Smoke(fast)->Erase(other, base, {TinyConcept()}).text_encoder) != all);
}

TEST_CASE("Without weights the terms on token states leave the training as it is, bit for bit") {
  const Backbone base = TinyBackbone();
  const auto digest = [&](const std::string& hold, double weight, double redirect, bool words) {
    return DigestOf(EraseWith({{"lr", 0.05},
                               {"hold", hold},
                               {"hold_weight", weight},
                               {"redirect_weight", redirect},
                               {"random_words", words}},
                              base)
                        .text_encoder);
  };
  const std::string published = digest("embeddings", 1, 0, false);
  CHECK(digest("embeddings", 5, 5, true) == published);
  CHECK(digest("token_states", 0, 0, true) == published);
  const std::string held = digest("token_states", 1, 0, false);
  CHECK(held != published);
  CHECK(digest("token_states", 0, 1, false) != published);
  CHECK(digest("token_states", 1, 0, true) != held);
}

}  // namespace
}  // namespace excise
