// Attacks on a whole concept, attacks on weights, and what adaptive attacks find to adapt to, on
// tiny models.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <mutex>

#include "core/error.h"
#include "core/workers.h"
#include "experiments/run/export_prompts.h"
#include "experiments/run/grid.h"
#include "experiments/run/offers.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;

// Counts how often it learns; replaces the U-Net's output layer, or makes text states.
class Learner : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("makes", &makes, "what it makes", {"weights", "states", "undeclared", "latents"});
  }
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.weights = makes == "weights";
    traits.gradients = true;
    traits.per = AttackTraits::Per::kConcept;
    if (makes == "states") traits.form = PromptForm::kTextStates;
    return traits;
  }
  Learnt Learn(Target& target, const Concept&) const override {
    ++learnt;
    const Backbone& victim = target.Victim();
    target.ledger().gradient_steps += 7;
    Learnt result;
    if (makes != "states") {
      result.unet.Set("conv_out.bias", victim.unet.Get("conv_out.bias") + 0.5);
    }
    result.ledger = target.ledger();
    return result;
  }
  Prompt Use(const Learnt&, const Backbone& base, const Concept&,
             const Prompt& seed) const override {
    Prompt prompt = seed;
    const int64_t context = base.clip.text.max_position_embeddings;
    const int64_t width = base.clip.text.hidden_size;
    if (makes == "states") {
      prompt.driver = TextStates{
          {{context, width}, std::vector<float>(static_cast<size_t>(context * width), 0.25F)}};
    }
    return prompt;
  }
  std::string makes = "weights";
  static inline int learnt = 0;
};

struct Scene {
  explicit Scene(const std::string& name, const std::vector<std::string>& methods = {"none", "uce"})
      : folder(TestFolder("pipeline_attack_" + name)),
        lab(TinyLab(methods)),
        store(folder / "store"),
        pipeline(*lab, store) {
    lab->experiment.sampler.steps = 2;
    Learner::learnt = 0;
  }
  size_t Add(const std::string& name, std::unique_ptr<Attack> attack, const Json& params) {
    DecodeParams(params, *attack, "test");
    lab->attacks.push_back(MakeEntry<Attack>(name, name, std::move(attack), &lab->inputs));
    ReadInputs(lab.get());
    return lab->attacks.size() - 1;
  }
  Unit UnitUnder(size_t method, size_t attack) {
    return UnitsOf(*lab, method, 0, attack, "target").front();
  }

  std::filesystem::path folder;
  std::unique_ptr<Lab> lab;
  Store store;
  Pipeline pipeline;
};

}  // namespace

TEST_CASE("an attack on weights is learnt once a concept, and its model draws the pictures") {
  Scene scene("weights");
  const size_t attack = scene.Add("learner", std::make_unique<Learner>(), {{"makes", "weights"}});
  const Unit plain = scene.UnitUnder(1, 0), attacked = scene.UnitUnder(1, attack);
  const UnitPictures before = scene.pipeline.Generate(plain);
  const UnitPictures after = scene.pipeline.Generate(attacked);
  CHECK(Learner::learnt == 1);
  CHECK_FALSE(before.images.equal(after.images));
  CHECK(after.prompts[0].text == before.prompts[0].text);
  CHECK(after.prompts[0].id == "t/0+learner");
  CHECK(after.prompts[0].root_id == "t/0");
  CHECK(scene.pipeline.Craft(attack, 1, 0, plain.prompts[0]).back().ledger.gradient_steps == 7);
  // The method's own model is untouched, and what was learnt is stored.
  CHECK(scene.pipeline.Erase(1, 0)
            ->exact.unet.Get("conv_out.bias")
            .equal(scene.lab->backbone.unet.Get("conv_out.bias")));
  Pipeline again(*scene.lab, scene.store, /*force=*/false);
  const Learnt learnt = ReadLearnt(*scene.store.Find(LearnKey(*scene.lab, attack, 1, 0)));
  CHECK(learnt.unet.size() == 1);
  CHECK(again.Generate(attacked).images.equal(after.images));
  CHECK(Learner::learnt == 1);
  // All prompts of the concept are one piece of work, for a second worker would wait.
  const Grid grid(*scene.lab);
  for (const auto& pass : grid.CraftedTogether()) {
    if (grid.craftings()[pass[0]].attack == attack) CHECK(pass.size() == 3);
  }
  // Each method's model is changed for itself.
  CHECK(Store::Digest(LearnKey(*scene.lab, attack, 0, 0)) !=
        Store::Digest(LearnKey(*scene.lab, attack, 1, 0)));
}

TEST_CASE("prompts of text states are drawn, stored and read back; a file of texts refuses them") {
  Scene scene("states");
  const size_t attack = scene.Add("learner", std::make_unique<Learner>(), {{"makes", "states"}});
  const Unit unit = scene.UnitUnder(0, attack);
  const UnitPictures drawn = scene.pipeline.Generate(unit);
  CHECK_FALSE(drawn.images.equal(scene.pipeline.Generate(scene.UnitUnder(0, 0)).images));
  Pipeline again(*scene.lab, scene.store);
  const UnitPictures stored = again.Generate(unit);
  CHECK(stored.images.equal(drawn.images));
  REQUIRE(stored.prompts[0].form() == PromptForm::kTextStates);
  CHECK(std::get<TextStates>(stored.prompts[0].driver).rows.values ==
        std::get<TextStates>(drawn.prompts[0].driver).rows.values);
  CHECK_THROWS_WITH(RefuseForms(stored.prompts[0], "learner"),
                    Contains("'learner'") && Contains("text_states") && Contains("--attacks"));
  CHECK_NOTHROW(RefuseForms(TinyPrompt(), "pez"));
}

TEST_CASE("an attack that does what it does not declare is refused") {
  Scene scene("undeclared");
  const size_t weights =
      scene.Add("learner", std::make_unique<Learner>(), {{"makes", "undeclared"}});
  CHECK_THROWS_WITH(scene.pipeline.Craft(weights, 1, 0, TinyPrompt("t/0")),
                    Contains("'learner'") && Contains("traits().weights"));
  class Hidden : public Learner {
   public:
    AttackTraits traits() const override {
      AttackTraits traits = Learner::traits();
      traits.form = PromptForm::kText;
      return traits;
    }
  };
  const size_t states = scene.Add("hidden", std::make_unique<Hidden>(), {{"makes", "states"}});
  CHECK_THROWS_WITH(scene.pipeline.Craft(states, 1, 0, TinyPrompt("t/0")),
                    Contains("'hidden'") && Contains("text_states"));
}

namespace {

// Crafts two prompts in a pass, and notes who was in which lane.
class Paired : public Attack {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = true;
    traits.lanes = 2;
    return traits;
  }
  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept&,
                                        const std::vector<Prompt>& prompts) const override {
    std::vector<Trajectory> found(lanes.size());
    std::string who;
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      if (lanes[lane] == nullptr) {
        who += "-";
        continue;
      }
      who += prompts[lane].id;
      Candidate candidate;
      candidate.prompt = AdversarialPrompt(prompts[lane], "paired", 0,
                                           "lane " + std::to_string(lane) + prompts[lane].text);
      ++lanes[lane]->ledger().candidate_evaluations;
      candidate.ledger = lanes[lane]->ledger();
      found[lane] = {candidate};
    }
    const std::lock_guard<std::mutex> lock(mutex);
    passes.push_back(who);
    return found;
  }
  static inline std::mutex mutex;
  static inline std::vector<std::string> passes;
};

// Of what an attack made of every prompt, the bytes in the store.
std::vector<std::string> StoredBytes(Scene& scene, size_t attack, size_t method) {
  std::vector<std::string> bytes;
  for (const Prompt& prompt : scene.lab->prompts[0].at("target")) {
    const auto artifact = scene.store.Find(AttackKey(*scene.lab, attack, method, 0, prompt));
    REQUIRE(artifact.has_value());
    bytes.push_back(artifact->Read("trajectory.json"));
  }
  return bytes;
}

}  // namespace

TEST_CASE("prompts of a pass are crafted once, by whoever comes first, and each in its lane") {
  Scene scene("paired");
  Paired::passes.clear();
  const size_t attack = scene.Add("paired", std::make_unique<Paired>(), Json::object());
  const std::vector<Prompt>& prompts = scene.lab->prompts[0].at("target");
  const Grid grid(*scene.lab);
  std::vector<size_t> sizes;
  for (const auto& pass : grid.CraftedTogether()) {
    if (grid.craftings()[pass[0]].attack == attack) sizes.push_back(pass.size());
  }
  CHECK(sizes == std::vector<size_t>{2, 1});

  std::vector<int64_t> evaluations(3);
  RunUnits(3, 2, [&](int64_t i) {
    const auto index = static_cast<size_t>(2 - i);
    const Trajectory found = scene.pipeline.Craft(attack, 0, 0, prompts[index]);
    evaluations[index] = found.back().ledger.candidate_evaluations;
  });
  CHECK(evaluations == std::vector<int64_t>{1, 1, 1});
  std::sort(Paired::passes.begin(), Paired::passes.end());
  CHECK(Paired::passes == std::vector<std::string>{"t/0t/1", "t/2-"});
  const std::vector<std::string> whole = StoredBytes(scene, attack, 0);

  // What is lost of a pass is crafted alone, in its own lane.
  std::filesystem::remove_all(
      scene.store.Find(AttackKey(*scene.lab, attack, 0, 0, prompts[1]))->folder);
  Pipeline again(*scene.lab, scene.store);
  again.Craft(attack, 0, 0, prompts[0]);
  CHECK(Paired::passes.size() == 2);
  again.Craft(attack, 0, 0, prompts[1]);
  CHECK(Paired::passes.back() == "-t/1");
  CHECK(StoredBytes(scene, attack, 0) == whole);

  // The lane is in the key, and a longer list moves nobody.
  const Json key = AttackKey(*scene.lab, attack, 0, 0, prompts[1]);
  CHECK(key["inputs"]["lane"] == 1);
  CHECK_FALSE(AttackKey(*scene.lab, 1, 0, 0, prompts[1])["inputs"].contains("lane"));
  scene.lab->prompts[0].at("target").push_back(TinyPrompt("t/3"));
  CHECK(AttackKey(*scene.lab, attack, 0, 0, prompts[1]) == key);
}

TEST_CASE("a white-box search in lanes finds the same after a kill, and with other neighbours") {
  constexpr size_t kUce = 1;
  size_t attack = 0;
  // An oracle that hardly ever sees the target: no seed ends the search at once.
  const auto open = [&](Scene* scene) {
    SetJudge(scene->lab.get(), TinyJudge(true));
    Concept& subject = scene->lab->concepts[0];
    const at::Tensor pictures = ToUint8(TinyImages(1, 4));
    if (AskOracle(*scene->lab->JudgeOf(0).plugin, pictures, subject)[0].success) {
      std::swap(subject.judge.target, subject.judge.anchor);
    }
    attack = scene->Add("unlearn_diff_atk", Registry<Attack>::Get().Make("unlearn_diff_atk"),
                        {{"timesteps", 2}, {"iterations", 2}, {"prefix_len", 2}, {"lanes", 4}});
  };
  Scene scene("lanes");
  open(&scene);
  const std::vector<Prompt> prompts = scene.lab->prompts[0].at("target");
  for (const Prompt& prompt : prompts) {
    CHECK(scene.pipeline.Craft(attack, kUce, 0, prompt).back().ledger.gradient_steps > 0);
  }
  const std::vector<std::string> whole = StoredBytes(scene, attack, kUce);
  for (const Prompt& lost : prompts) {
    std::filesystem::remove_all(
        scene.store.Find(AttackKey(*scene.lab, attack, kUce, 0, lost))->folder);
    Pipeline again(*scene.lab, scene.store);
    again.Craft(attack, kUce, 0, lost);
    CHECK(StoredBytes(scene, attack, kUce) == whole);
  }
  Scene other("other_lanes");
  open(&other);
  std::vector<Prompt>& others = other.lab->prompts[0].at("target");
  others[0] = TinyPrompt("u/0", "a dog picture");
  others.push_back(TinyPrompt("u/3", "a dog"));
  for (const Prompt& prompt : others) other.pipeline.Craft(attack, kUce, 0, prompt);
  const std::vector<std::string> bytes = StoredBytes(other, attack, kUce);
  CHECK(bytes[0] != whole[0]);
  CHECK(bytes[1] == whole[1]);
  CHECK(bytes[2] == whole[2]);
}

TEST_CASE("what adaptive attacks can adapt to is read off the edited model") {
  Scene scene("offers");
  Lab& lab = *scene.lab;
  CHECK_FALSE(NeedsOffers(lab));  // nothing adapts
  lab.attacks.push_back(TinyEntry<Attack>("pez_adaptive"));
  ReadInputs(&lab);
  CHECK(NeedsOffers(lab));
  CHECK(lab.AttackApplies(3, 1));  // as far as anybody knows
  ReadStoredOffers(&lab, scene.store);
  CHECK(lab.AttackApplies(3, 1));  // nothing is stored

  const Backbone& base = lab.backbone;
  ErasedModel edited{base, base, nullptr, {}, false, 0};
  CHECK(OffersOf(base, edited).empty());
  class Inner : public Hooks {
   public:
    std::unique_ptr<LayerHooks> TextLayers() const override {
      return std::make_unique<LayerHooks>();
    }
  };
  edited.hooks = std::make_shared<Inner>();
  CHECK(OffersOf(base, edited) == std::vector<std::string>{"text_encoder"});
  edited.hooks = nullptr;
  edited.exact.text_encoder.Set("text_model.final_layer_norm.bias",
                                base.text_encoder.Get("text_model.final_layer_norm.bias") + 1);
  CHECK(OffersOf(base, edited) == std::vector<std::string>{"text_encoder"});
  class Seeing : public Hooks {
   public:
    at::Tensor TextView(const TextBatch& text) const override { return text.states * 2; }
    at::Tensor TextMargin(const TextBatch& text) const override { return text.pooled.sum(1); }
  };
  edited.hooks = std::make_shared<Seeing>();
  CHECK(OffersOf(base, edited) ==
        std::vector<std::string>{"text_encoder", "text_view", "text_margin"});

  LearnOffers(&lab, scene.store, 1);
  CHECK_FALSE(NeedsOffers(lab));
  CHECK_FALSE(lab.AttackApplies(3, 0));
  CHECK_FALSE(lab.AttackApplies(3, 1));  // uce edits the U-Net alone
  CHECK(lab.AttackApplies(2, 1));        // pez adapts to nothing
}

}  // namespace excise
