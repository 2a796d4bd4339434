// What changes a key and what must not. The lab is put together by hand, from tiny models.
#include "experiments/run/keys.h"

#include <catch2/catch.hpp>

#include "core/store.h"
#include "experiments/lab/picture_folder.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

size_t MethodIndex(const Lab& lab, const std::string& name) {
  for (size_t i = 0; i < lab.methods.size(); ++i) {
    if (lab.methods[i].name == name) return i;
  }
  FAIL(name);
  return 0;
}

constexpr size_t kCharTypo = 1, kPez = 2;

struct Digests {
  std::string erase, typo, pez, plain, attacked, verdict, score;
};

Digests DigestsOf(const Lab& lab) {
  const size_t uce = MethodIndex(lab, "uce");
  const auto plain = UnitsOf(lab, uce, 0, 0, "target");
  const auto base = UnitsOf(lab, MethodIndex(lab, "none"), 0, 0, "target");
  const Prompt& prompt = lab.prompts[0].at("target")[0];
  return {Store::Digest(EraseKey(lab, uce, 0)),
          Store::Digest(AttackKey(lab, kCharTypo, 0, 0, prompt)),
          Store::Digest(AttackKey(lab, kPez, 0, 0, prompt)),
          plain[0].digest,
          UnitsOf(lab, uce, 0, kPez, "target")[0].digest,
          plain[0].verdict_digest,
          Store::Digest(ScoreKey(lab, 0, Pointers(plain), Pointers(base)))};
}

// Plug-ins whose numbers changed: the version grew and nothing else.
class NewerMethod : public Method {
 public:
  explicit NewerMethod(std::shared_ptr<Method> old) : old_(std::move(old)) {}
  void Fields(ParamVisitor& v) override { old_->Fields(v); }
  int version() const override { return old_->version() + 1; }
  MethodTraits traits() const override { return old_->traits(); }
  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    return old_->Erase(context, base, concepts);
  }

 private:
  std::shared_ptr<Method> old_;
};

class NewerAttack : public Attack {
 public:
  explicit NewerAttack(std::shared_ptr<Attack> old) : old_(std::move(old)) {}
  void Fields(ParamVisitor& v) override { old_->Fields(v); }
  int version() const override { return old_->version() + 1; }
  AttackTraits traits() const override { return old_->traits(); }
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    return old_->Craft(target, subject, prompt);
  }

 private:
  std::shared_ptr<Attack> old_;
};

class NewerMetric : public Metric {
 public:
  explicit NewerMetric(std::shared_ptr<Metric> old) : old_(std::move(old)) {}
  void Fields(ParamVisitor& v) override { old_->Fields(v); }
  int version() const override { return old_->version() + 1; }
  MetricTraits traits() const override { return old_->traits(); }
  void Update(const MetricModels& models, const std::vector<Sample>& samples) override {
    old_->Update(models, samples);
  }
  void Merge(const Metric& other) override { old_->Merge(other); }
  Score Compute() const override { return old_->Compute(); }

 private:
  std::shared_ptr<Metric> old_;
};

template <class Newer, class Base>
void Renew(Entry<Base>* entry) {
  entry->plugin = std::make_shared<Newer>(entry->plugin);
}

// Which digests an edit changes, a letter each: e t p g a v s.
std::string Changed(const std::function<void(Lab*)>& edit) {
  const Digests a = DigestsOf(*TinyLab());
  const auto lab = TinyLab();
  edit(lab.get());
  ReadInputs(lab.get());
  const Digests b = DigestsOf(*lab);
  std::string changed;
  if (a.erase != b.erase) changed += "e";
  if (a.typo != b.typo) changed += "t";
  if (a.pez != b.pez) changed += "p";
  if (a.plain != b.plain) changed += "g";
  if (a.attacked != b.attacked) changed += "a";
  if (a.verdict != b.verdict) changed += "v";
  if (a.score != b.score) changed += "s";
  return changed;
}

}  // namespace

TEST_CASE("every input of a stage is in its key, and in those that follow") {
  CHECK(Changed([](Lab*) {}).empty());
  CHECK(Changed([](Lab* lab) { lab->backbone.digest = "other"; }) == "epgavs");
  CHECK(Changed([](Lab* lab) { lab->numerics["fingerprint"] = "b"; }) == "etpgavs");
  CHECK(Changed([](Lab* lab) { lab->experiment.seeds.erase = 9; }) == "egavs");
  CHECK(Changed([](Lab* lab) { lab->experiment.seeds.noise = 9; }) == "gavs");
  CHECK(Changed([](Lab* lab) { lab->methods[1].key_params["lambda"] = 9; }) == "egavs");
  CHECK(Changed([](Lab* lab) { lab->methods[1].folder_digest = "x"; }) == "egavs");
  CHECK(Changed([](Lab* lab) { lab->attacks[kPez].key_params["lr"] = 9; }) == "pa");
  CHECK(Changed([](Lab* lab) { lab->metrics[0].key_params["x"] = 9; }) == "s");
  CHECK(Changed([](Lab* lab) { lab->experiment.sampler.guidance = 9; }) == "pgavs");
  CHECK(Changed([](Lab* lab) { lab->prompts[0]["target"][0].text = "the poodle"; }) == "tpgavs");
}

TEST_CASE("files of the user enter keys by their content, a row's own name does not") {
  CHECK(Changed([](Lab* lab) { lab->methods[1].files["lora"] = "x"; }) == "egavs");
  CHECK(Changed([](Lab* lab) { lab->attacks[kPez].files["file"] = "x"; }) == "pa");
  CHECK(Changed([](Lab* lab) { lab->dataset.files["file"] = "x"; }).empty());
  CHECK(Changed([](Lab* lab) { lab->methods[1].params["file"] = "other.csv"; }).empty());
  CHECK(Changed([](Lab* lab) { lab->attacks[kPez].name = "my_pez"; }).empty());
}

TEST_CASE("a removal that reads no concept is one for all of them") {
  const std::unique_ptr<Lab> lab = TinyLab({"none", "uce", "safe_clip"});
  lab->concepts.push_back(TinyConcept());
  lab->concepts[1].known = {"cat"};
  ReadInputs(lab.get());
  const size_t uce = MethodIndex(*lab, "uce"), safe_clip = MethodIndex(*lab, "safe_clip");
  CHECK(EraseKey(*lab, uce, 0) != EraseKey(*lab, uce, 1));
  CHECK(EraseKey(*lab, safe_clip, 0) == EraseKey(*lab, safe_clip, 1));
}

TEST_CASE("an attack's key names the surrogate only where it reads one") {
  CHECK(Changed([](Lab* lab) { lab->own_clip.digest = "other"; }) == "pa");
  CHECK(Changed([](Lab* lab) { lab->independent_clip.digest = "other"; }).empty());
  CHECK(Changed([](Lab* lab) { lab->experiment.seeds.attack = 9; }) == "tpa");
}

TEST_CASE("a plug-in whose version grew is run anew, and so is all that follows") {
  CHECK(Changed([](Lab* lab) { Renew<NewerMethod>(&lab->methods[1]); }) == "egavs");
  CHECK(Changed([](Lab* lab) { Renew<NewerAttack>(&lab->attacks[kPez]); }) == "pa");
  CHECK(Changed([](Lab* lab) { Renew<NewerAttack>(&lab->attacks[kCharTypo]); }) == "t");
  CHECK(Changed([](Lab* lab) { Renew<NewerMetric>(&lab->metrics[0]); }) == "s");
}

TEST_CASE("other methods, attacks and replicates change no existing key") {
  const Digests before = DigestsOf(*TinyLab());
  const Digests after = DigestsOf(*TinyLab({"none", "esd", "negative_prompt", "uce"}));
  CHECK(before.plain == after.plain);
  CHECK(before.attacked == after.attacked);
  CHECK(before.score == after.score);
  CHECK(Changed([](Lab* lab) { lab->experiment.sampler.images_per_prompt = 3; }) == "s");
  CHECK(Changed([](Lab* lab) { lab->attacks.push_back(TinyEntry<Attack>("random")); }).empty());
  CHECK(Changed([](Lab* lab) { lab->experiment.profile = "other"; }).empty());
}

TEST_CASE("units are whole batches, so more prompts reuse the first ones") {
  auto lab = TinyLab();
  const auto before = UnitsOf(*lab, 1, 0, 0, "target");
  REQUIRE(before.size() == 2);
  CHECK(before[0].prompts.size() == 2);
  CHECK(before[1].prompts.size() == 1);
  lab->prompts[0]["target"].push_back(TinyPrompt("t/3", "one more poodle"));
  const auto after = UnitsOf(*lab, 1, 0, 0, "target");
  REQUIRE(after.size() == 2);
  CHECK(after[0].digest == before[0].digest);
  CHECK(after[1].digest != before[1].digest);
  CHECK(UnitsOf(*lab, 1, 0, 0, "near").empty());
}

TEST_CASE("a picture that is not there is keyed by what is said of it") {
  const auto lab = TinyLab();
  const PictureRow::Place place = {0, 0, lab->prompts[0].at("target")[0].root_id, 0};
  const auto digest = [&](const std::map<PictureRow::Place, PictureRow::Picture>& pictures) {
    PictureRow row;
    row.offered = {{0, 0, "target"}};
    row.pictures = pictures;
    lab->methods[1].pictures = std::make_shared<const PictureRow>(row);
    return UnitsOf(*lab, 1, 0, 0, "target")[0].digest;
  };
  const std::string none = digest({}), missing = digest({{place, {"in/a.png", ""}}});
  CHECK(missing != none);
  CHECK(missing != digest({{place, {"in/b.png", ""}}}));
  CHECK(missing == digest({{place, {"elsewhere/a.png", ""}}}));
  // One that is there is keyed by its bytes alone.
  const std::string there = digest({{place, {"in/a.png", std::string(64, 'a')}}});
  CHECK(there == digest({{place, {"in/b.png", std::string(64, 'a')}}}));
  CHECK(there != missing);
}

}  // namespace excise
