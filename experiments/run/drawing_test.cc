// Prompts that say how they are drawn, through the stages that store and draw them.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "experiments/run/export_prompts.h"
#include "experiments/run/pipeline.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;

// Latents such as a picture may have.
NpyArray Picture() {
  NpyArray array{{4, 8, 8}, std::vector<float>(256)};
  for (size_t i = 0; i < 256; ++i) array.values[i] = static_cast<float>(i % 7) / 7 - 0.5F;
  return array;
}

Prompt PromptDrawn(const std::string& id, const PromptDrawing& drawing) {
  Prompt prompt = TinyPrompt(id);
  prompt.drawing = drawing;
  if (drawing.first_step > 0) prompt.latents = Picture();
  return prompt;
}

struct Scene {
  explicit Scene(const std::string& name) : folder(TestFolder("drawing_" + name)), lab(TinyLab()) {
    lab->experiment.sampler.steps = 4;
    lab->experiment.sampler.unit_size = 4;
  }
  size_t Add(std::unique_ptr<Attack> attack) {
    lab->attacks.push_back(MakeEntry<Attack>("mine", "mine", std::move(attack), &lab->inputs));
    ReadInputs(lab.get());
    return lab->attacks.size() - 1;
  }
  // Pictures of these prompts under the unmodified model, in one unit, from an empty store.
  UnitPictures Pictures(const std::vector<Prompt>& prompts) {
    Store store(folder / ("store" + std::to_string(stores++)));
    Pipeline pipeline(*lab, store);
    Unit unit = UnitsOf(*lab, 0, 0, 0, "target").front();
    unit.prompts = prompts;
    return pipeline.Generate(unit);
  }

  std::filesystem::path folder;
  std::unique_ptr<Lab> lab;
  int stores = 0;
};

// Batches differ, and so may the last bits.
bool Close(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item<double>() < 1e-4 * b.norm().item<double>();
}

// Makes a prompt that is drawn in a way of its own.
class Drawer : public Attack {
 public:
  explicit Drawer(bool declares) : declares_(declares) {}
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = true;
    traits.drawing = declares_;
    return traits;
  }
  Trajectory Craft(Target& target, const Concept&, const Prompt& seed) const override {
    Candidate candidate;
    candidate.prompt = AdversarialPrompt(seed, "mine", 0, seed.text);
    candidate.prompt.drawing.noise_scale = 2;
    candidate.ledger = target.ledger();
    return {candidate};
  }

 private:
  bool declares_;
};

}  // namespace

TEST_CASE("a plain drawing is drawn and written as ever") {
  Scene scene("plain");
  const Prompt prompt = TinyPrompt("t/0");
  CHECK_FALSE(PromptToJson(prompt).contains("drawing"));
  const at::Tensor images = scene.Pictures({prompt, prompt}).images;
  CHECK(scene.Pictures({PromptDrawn("t/0", {0, 0}), prompt}).images.equal(images));
}

TEST_CASE("a drawing is written to records and read back, and what cannot be one is refused") {
  for (const PromptDrawing drawing : {PromptDrawing{1.85, 0}, PromptDrawing{0, 3}}) {
    const Prompt prompt = PromptDrawn("t/0", drawing);
    const Json json = PromptToJson(prompt);
    CHECK(json.at("drawing") ==
          Json{{"noise_scale", drawing.noise_scale}, {"first_step", drawing.first_step}});
    const Prompt back = PromptFromJson(json);
    CHECK(back.drawing == drawing);
    CHECK(back.latents.values == prompt.latents.values);
  }
  Json json = PromptToJson(PromptDrawn("t/0", {1, 0}));
  json["drawing"]["noise_scale"] = -1;
  CHECK_THROWS_WITH(PromptFromJson(json), Contains("drawing"));
  json["drawing"] = {{"noise_scale", 1}, {"first_step", -1}};
  CHECK_THROWS_WITH(PromptFromJson(json), Contains("drawing"));
}

TEST_CASE("a drawing's noise is its root prompt's, whatever is drawn beside it") {
  Scene scene("noise");
  const Prompt noisy = PromptDrawn("t/0", {1.5, 0}), other = PromptDrawn("t/1", {1.5, 0});
  const Prompt late = PromptDrawn("t/0", {0, 2});
  const UnitPictures plain = scene.Pictures({TinyPrompt("t/0")});
  const UnitPictures alone = scene.Pictures({noisy});
  CHECK_FALSE(Close(alone.latents[0], plain.latents[0]));
  // Of the same words, and so another picture by another root alone.
  const UnitPictures two = scene.Pictures({other, noisy});
  CHECK(Close(two.latents[1], alone.latents[0]));
  CHECK_FALSE(Close(two.latents[0], alone.latents[0]));
  // A unit may have several ways to draw.
  const UnitPictures mixed = scene.Pictures({late, noisy, TinyPrompt("t/0"), noisy});
  CHECK(Close(mixed.latents[1], alone.latents[0]));
  CHECK(Close(mixed.latents[3], alone.latents[0]));
  CHECK(Close(mixed.latents[2], plain.latents[0]));
  CHECK_FALSE(Close(mixed.latents[0], plain.latents[0]));
  // 4 steps of two streams, 2 of the late one; a unit has one number.
  CHECK(plain.evaluations_per_image == 8);
  CHECK(mixed.evaluations_per_image == 8);
  CHECK(scene.Pictures({late}).evaluations_per_image == 4);
}

TEST_CASE("a drawing that cannot be done is refused with the prompt and the reason") {
  Scene scene("refused");
  Prompt nothing = PromptDrawn("t/0", {0, 2});
  nothing.latents = {};
  CHECK_THROWS_WITH(scene.Pictures({nothing}), Contains("t/0") && Contains("no latents"));
  CHECK_THROWS_WITH(scene.Pictures({PromptDrawn("t/0", {0, 4})}), Contains("step 4"));
  scene.lab->experiment.sampler.scheduler = "pndm";
  CHECK_THROWS_WITH(scene.Pictures({PromptDrawn("t/0", {1, 0})}), Contains("PNDM"));
  CHECK_THROWS_WITH(RefuseForms(PromptDrawn("t/0", {1, 0}), "probe"),
                    Contains("'probe'") && Contains("a way of their own"));
}

TEST_CASE("an attack that chooses how prompts are drawn says so") {
  Scene scene("declared");
  Store store(scene.folder / "store");
  Pipeline pipeline(*scene.lab, store);
  const size_t open = scene.Add(std::make_unique<Drawer>(true));
  const Prompt seed = scene.lab->prompts[0].at("target")[0];
  CHECK(pipeline.Craft(open, 0, 0, seed).back().prompt.drawing.noise_scale == 2);
  // Read back from the store, too.
  CHECK(Pipeline(*scene.lab, store).Craft(open, 0, 0, seed).back().prompt.drawing.noise_scale == 2);
  const size_t hidden = scene.Add(std::make_unique<Drawer>(false));
  scene.lab->attacks[hidden].name = scene.lab->attacks[hidden].plugin_name = "hidden";
  CHECK_THROWS_WITH(pipeline.Craft(hidden, 0, 0, seed),
                    Contains("'hidden'") && Contains("with a drawing of its own"));
}

}  // namespace excise
