// Pictures and latents of the unmodified model that methods learn from: drawn once for all of them.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "core/error.h"
#include "core/hash.h"
#include "core/store.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Texts = std::vector<std::string>;

const Texts kFive = {"a dog", "a cat", "a red dog", "a red cat", "a dog and a cat"};  // 2 + 2 + 1
constexpr int64_t kSteps = 2, kUnit = 2;

// What a method was handed.
struct Handed {
  at::Tensor images, latents;
};

// Asks for pictures of a list, and for its latents.
class Learner : public Method {
 public:
  Learner(Texts list, Handed* handed, bool declared = true)
      : list_(std::move(list)), handed_(*handed), declared_(declared) {}
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits;
    traits.base_pictures = declared_;
    return traits;
  }
  Erased Erase(Context& context, const Backbone&, const std::vector<Concept>&) const override {
    handed_.images = context.Images(list_);
    handed_.latents = context.Latents(list_);
    return {};
  }

 private:
  const Texts list_;
  Handed& handed_;
  const bool declared_;
};

// A lab whose methods are none, and learners of these lists.
struct Scene {
  explicit Scene(const std::vector<Texts>& lists, bool declared = true) : handed(lists.size()) {
    lab = TinyLab({"none"});
    lab->experiment.sampler.steps = kSteps;
    for (size_t i = 0; i < lists.size(); ++i) {
      const std::string name = "learner" + std::to_string(i);
      InputFiles none;
      lab->methods.push_back(MakeEntry<Method>(
          name, name, std::make_unique<Learner>(lists[i], &handed[i], declared), &none));
    }
    ReadInputs(lab.get());
  }
  // What is drawn from here on is another picture, under the same keys.
  void SpoilModel() {
    const std::string name = "conv_out.bias";
    StateDict& unet = lab->backbone.unet;
    unet.Set(name, unet.Get(name) + 1);
  }
  std::vector<Handed> handed;
  std::unique_ptr<Lab> lab;
};

std::vector<Prompt> PromptsOf(const Texts& texts) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    prompts.push_back(TinyPrompt("erase/" + Sha256Hex(text).substr(0, 16), text));
  }
  return prompts;
}

// Drawn here: in batches of a unit, each prompt on the noise of its text, the last batch padded.
Handed FreshlyDrawn(const Lab& lab, const Texts& texts) {
  const NoGrad no_grad;
  const Backbone& model = lab.backbone;
  const int64_t side = model.unet_config.sample_size;
  const int64_t context = model.clip.text.max_position_embeddings;
  const SamplerSettings& sampler = lab.experiment.sampler;
  std::vector<at::Tensor> images, latents;
  for (size_t start = 0; start < texts.size(); start += kUnit) {
    Texts batch;
    std::vector<at::Tensor> noise;
    for (size_t i = start; i < start + kUnit; ++i) {
      batch.push_back(texts[std::min(i, texts.size() - 1)]);
      noise.push_back(LatentNoise(static_cast<uint64_t>(lab.experiment.seeds.erase),
                                  "erase/" + Sha256Hex(batch.back()).substr(0, 16), 0,
                                  {model.unet_config.in_channels, side, side}));
    }
    const at::Tensor states = EncodeText(model, TokenizeBatch(*model.tokenizer, batch, context));
    const at::Tensor empty = EncodeText(model, TokenizeBatch(*model.tokenizer, {""}, context));
    const SamplerSpec spec{sampler.scheduler, sampler.steps, sampler.guidance};
    const at::Tensor drawn =
        SampleLatents(model, nullptr, states, empty.expand_as(states), at::stack(noise), spec);
    const auto real = static_cast<int64_t>(std::min<size_t>(kUnit, texts.size() - start));
    latents.push_back(drawn.narrow(0, 0, real));
    images.push_back(ToUint8(DecodeImages(model, drawn)).narrow(0, 0, real));
  }
  return {at::cat(images).to(at::kFloat).div(255.0), at::cat(latents)};
}

// Artifacts of the stage.
int64_t Count(const Store& store) {
  int64_t n = 0;
  const fs::path folder = store.root() / "retained";
  if (!fs::exists(folder)) return 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    n += entry.path().filename() == "manifest.json" ? 1 : 0;
  }
  return n;
}

}  // namespace

TEST_CASE("pictures and latents of the unmodified model are drawn as ever, and stored") {
  Scene scene({kFive});
  Store store(TestFolder("retained_drawn"));
  Pipeline pipeline(*scene.lab, store);
  const EraseCost cost = pipeline.Erase(1, 0)->cost;
  const Handed expected = FreshlyDrawn(*scene.lab, kFive), &handed = scene.handed[0];
  CHECK(handed.images.scalar_type() == at::kFloat);
  CHECK(handed.latents.scalar_type() == at::kFloat);
  CHECK(handed.images.equal(expected.images));
  CHECK(handed.latents.equal(expected.latents));
  // A picture is what its latents decode to.
  const NoGrad no_grad;
  const at::Tensor decoded =
      ToUint8(DecodeImages(scene.lab->backbone, handed.latents.narrow(0, 2, kUnit)));
  CHECK(decoded.to(at::kFloat).div(255.0).equal(handed.images.narrow(0, 2, kUnit)));
  // Five pictures in two streams; the padding is nobody's, and asking twice is no drawing twice.
  CHECK(cost.unet_evaluations == 5 * kSteps * 2);
  CHECK(Count(store) == 3);
}

TEST_CASE("a second method reads what the first one drew, at the same cost") {
  // The second list begins as the first one; the third shares its prompts, but not its units.
  const Texts longer = {kFive[0], kFive[1], kFive[2], kFive[3], "a picture", "a house"};
  const Texts shifted = {kFive[1], kFive[2], kFive[3]};
  Scene scene({kFive, kFive, longer, shifted});
  Store store(TestFolder("retained_shared"));
  const EraseCost first = Pipeline(*scene.lab, store).Erase(1, 0)->cost;
  CHECK(Count(store) == 3);
  const Handed before = scene.handed[0], fresh = FreshlyDrawn(*scene.lab, longer);

  scene.SpoilModel();
  const EraseCost second = Pipeline(*scene.lab, store).Erase(2, 0)->cost;
  CHECK(Count(store) == 3);
  CHECK(scene.handed[1].images.equal(before.images));
  CHECK(scene.handed[1].latents.equal(before.latents));
  CHECK(second.unet_evaluations == first.unet_evaluations);

  const EraseCost third = Pipeline(*scene.lab, store).Erase(3, 0)->cost;
  CHECK(Count(store) == 4);
  CHECK(scene.handed[2].images.narrow(0, 0, 4).equal(fresh.images.narrow(0, 0, 4)));
  CHECK_FALSE(scene.handed[2].latents.narrow(0, 4, 2).equal(fresh.latents.narrow(0, 4, 2)));
  CHECK(third.unet_evaluations == 6 * kSteps * 2);

  Pipeline(*scene.lab, store).Erase(4, 0);
  CHECK(Count(store) == 6);
  CHECK_FALSE(scene.handed[3].latents.equal(fresh.latents.narrow(0, 1, 3)));

  // A run that computes everything anew draws anew.
  Pipeline(*scene.lab, store, /*force=*/true).Erase(1, 0);
  CHECK(scene.handed[0].images.equal(FreshlyDrawn(*scene.lab, kFive).images));
  CHECK_FALSE(scene.handed[0].images.equal(before.images));
}

TEST_CASE("two workers that want the same pictures at once get the same") {
  Scene scene({kFive, kFive});
  Store store(TestFolder("retained_workers"));
  Pipeline pipeline(*scene.lab, store);
  std::thread other([&] { pipeline.Erase(1, 0); });
  pipeline.Erase(2, 0);
  other.join();
  CHECK(scene.handed[0].images.equal(scene.handed[1].images));
  CHECK(scene.handed[0].latents.equal(scene.handed[1].latents));
  CHECK(Count(store) == 3);
}

TEST_CASE("stored pictures that cannot be what their key says are removed and drawn anew") {
  Scene scene({kFive, kFive, kFive, kFive, kFive});
  Store store(TestFolder("retained_damaged"));
  Pipeline(*scene.lab, store).Erase(1, 0);
  const Handed before = scene.handed[0];
  const Json key =
      RetainedKey(*scene.lab, scene.lab->experiment.seeds.erase, PromptsOf({kFive[2], kFive[3]}));
  const auto good = store.Find(key);
  REQUIRE(good);
  std::map<std::string, std::string> files;
  for (const auto& [name, sha256] : good->files) files[name] = good->Read(name);
  const auto latents = [&](const at::Tensor& values) {
    StateDict tensors;
    tensors.Set("latents", values);
    return TensorBytes(tensors, TestFolder("retained_tensors"));
  };
  const at::Tensor right = before.latents.narrow(0, 2, 2).contiguous();
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"images.u8", files.at("images.u8") + "x"},
      {"latents.safetensors", latents(before.latents.contiguous())},
      {"latents.safetensors", latents(right.to(at::kLong))},
      {"latents.safetensors", latents(at::full({2, 4, 4, 4}, 0.5, at::kFloat))},
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    const auto& [name, bytes] = wrong[i];
    INFO(i << ": " << name);
    auto damaged = files;
    damaged[name] = bytes;
    fs::remove_all(good->folder);
    store.Put(key, damaged);
    CHECK_THROWS_AS(ReadRetained(store.Find(key).value(), *scene.lab, 2), Misfit);
    Pipeline(*scene.lab, store).Erase(2 + i, 0);
    CHECK(scene.handed[1 + i].images.equal(before.images));
    CHECK(scene.handed[1 + i].latents.equal(before.latents));
    CHECK(ReadRetained(store.Find(key).value(), *scene.lab, 2).latents.equal(right));
  }
}

TEST_CASE("the key of retained pictures names all that decides them, and no method") {
  const auto digest = [](const std::function<void(Lab*)>& edit, const Texts& texts = kFive) {
    const auto lab = TinyLab({"none", "uce"});
    edit(lab.get());
    return Store::Digest(RetainedKey(*lab, lab->EraseSeedOf(0), PromptsOf(texts)));
  };
  const auto nothing = [](Lab*) {};
  const std::string plain = digest(nothing);
  const std::vector<std::pair<const char*, std::function<void(Lab*)>>> deciding = {
      {"backbone", [](Lab* lab) { lab->backbone.digest = "x"; }},
      {"seed", [](Lab* lab) { lab->experiment.seeds.erase = 9; }},
      {"numerics", [](Lab* lab) { lab->numerics["fingerprint"] = "b"; }},
      {"steps", [](Lab* lab) { lab->experiment.sampler.steps = 9; }},
      {"guidance", [](Lab* lab) { lab->experiment.sampler.guidance = 9; }},
      {"scheduler", [](Lab* lab) { lab->experiment.sampler.scheduler = "ddim"; }},
      {"unit_size", [](Lab* lab) { lab->experiment.sampler.unit_size = 3; }},
  };
  for (const auto& [what, edit] : deciding) {
    INFO(what);
    CHECK(digest(edit) != plain);
  }
  CHECK(digest(nothing, {kFive[1], kFive[0]}) != digest(nothing, {kFive[0], kFive[1]}));
  CHECK(digest(nothing, {kFive[0]}) != digest(nothing, {kFive[0], kFive[0]}));
  const std::vector<std::pair<const char*, std::function<void(Lab*)>>> others = {
      {"replicates", [](Lab* lab) { lab->experiment.sampler.images_per_prompt = 3; }},
      {"seeds of others",
       [](Lab* lab) {
         lab->experiment.seeds.noise = 9;
         lab->experiment.seeds.attack = 9;
       }},
      {"the concept", [](Lab* lab) { lab->concepts[0].known = {"dog"}; }},
      {"methods", [](Lab* lab) { lab->methods.pop_back(); }},
  };
  for (const auto& [what, edit] : others) {
    INFO(what);
    CHECK(digest(edit) == plain);
  }
}

TEST_CASE(
    "pictures and latents are handed to a method that declares them, and for no prompts none") {
  Scene undeclared({kFive}, /*declared=*/false);
  Store store(TestFolder("retained_undeclared"));
  Pipeline pipeline(*undeclared.lab, store);
  CHECK_THROWS_WITH(pipeline.Erase(1, 0), Contains("'learner0'") && Contains("base_pictures"));
  Scene scene({Texts{}});
  const EraseCost cost = Pipeline(*scene.lab, store).Erase(1, 0)->cost;
  CHECK(scene.handed[0].images.size(0) == 0);
  CHECK(scene.handed[0].latents.size(0) == 0);
  CHECK(cost.unet_evaluations == 0);
}

}  // namespace excise
