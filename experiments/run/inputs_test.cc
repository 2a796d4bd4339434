// Every input of every stage, edited one at a time: which keys move and which do not. A stage that
// may read what was edited has another key, and no other stage has.
#include "experiments/lab/inputs.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/store.h"
#include "experiments/run/erase_context.h"
#include "experiments/run/keys.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Edit = std::function<void(Lab*)>;

constexpr size_t kUce = 1, kEspresso = 2, kSafeClip = 3;                    // methods
constexpr size_t kCharTypo = 1, kPez = 2, kUnlearnDiffAtk = 3, kAlias = 4;  // attacks
constexpr size_t kAsr = 0, kClipScore = 1, kKid = 2, kClipAccuracy = 3;

std::unique_ptr<Lab> WideLab() {
  auto lab = TinyLab({"none", "uce", "espresso", "safe_clip"});
  DecodeParams(Json{{"variant", "paper"}, {"objective", "by_category"}, {"pairs", 4}},
               *lab->methods[kEspresso].plugin, "test");
  SetJudge(lab.get(), TinyJudge(/*oracle=*/true));
  lab->attacks.push_back(TinyEntry<Attack>("unlearn_diff_atk"));
  lab->attacks.push_back(TinyEntry<Attack>("alias"));
  for (const char* name : {"clip_score", "kid", "clip_accuracy"}) {
    lab->metrics.push_back(TinyEntry<Metric>(name));
  }
  DecodeParams(Json{{"features", "judge"}}, *lab->metrics[kKid].plugin, "test");
  DecodeParams(Json{{"clip", "independent"}}, *lab->metrics[kClipAccuracy].plugin, "test");
  ReadInputs(lab.get());
  return lab;
}

// What each stage is keyed by, without what it takes from earlier stages.
std::map<std::string, std::string> OwnKeys(const Lab& lab) {
  const Prompt& prompt = lab.prompts[0].at("target")[0];
  const auto plain = UnitsOf(lab, kUce, 0, 0, "target");
  const auto base = UnitsOf(lab, 0, 0, 0, "target");
  const auto units = Pointers(plain), base_units = Pointers(base);
  std::map<std::string, Json> keys = {
      {"uce", EraseKey(lab, kUce, 0)},
      {"espresso", EraseKey(lab, kEspresso, 0)},
      {"safe_clip", EraseKey(lab, kSafeClip, 0)},
      {"alias", AttackKey(lab, kAlias, kUce, 0, prompt)},
      {"char_typo", AttackKey(lab, kCharTypo, kUce, 0, prompt)},
      {"pez", AttackKey(lab, kPez, kUce, 0, prompt)},
      {"unlearn_diff_atk", AttackKey(lab, kUnlearnDiffAtk, kUce, 0, prompt)},
      {"pictures", plain[0].key},
      {"verdicts", plain[0].verdict_key},
      {"asr", ScoreKey(lab, kAsr, units, base_units)},
      {"clip_score", ScoreKey(lab, kClipScore, units, base_units)},
      {"kid", ScoreKey(lab, kKid, units, base_units)},
      {"clip_accuracy", ScoreKey(lab, kClipAccuracy, units, base_units)}};
  std::map<std::string, std::string> own;
  for (auto& [stage, key] : keys) {
    Json& inputs = key["inputs"];
    inputs.erase("erased");
    inputs.erase("unit");
    for (const char* list : {"units", "base_units"}) {
      if (!inputs.contains(list)) continue;
      for (Json& unit : inputs[list]) unit.erase("verdicts");
    }
    own[stage] = Store::Digest(key);
  }
  return own;
}

using Stages = std::vector<std::string>;

// The stages whose own key an edit moves, by name.
Stages Moved(const Edit& edit) {
  const auto before = OwnKeys(*WideLab());
  const auto lab = WideLab();
  edit(lab.get());
  ReadInputs(lab.get());
  Stages moved;
  for (const auto& [stage, digest] : OwnKeys(*lab)) {
    if (digest != before.at(stage)) moved.push_back(stage);
  }
  return moved;
}

Stages MovedByConcept(const std::function<void(Concept*)>& edit) {
  return Moved([&](Lab* lab) { edit(&lab->concepts[0]); });
}

const Stages kRemovals = {"espresso", "uce"};
const Stages kAttacks = {"alias", "char_typo", "pez", "unlearn_diff_atk"};
const Stages kScores = {"asr", "clip_accuracy", "clip_score", "kid"};

Stages AllOf(std::vector<Stages> lists) {
  Stages all;
  for (const Stages& list : lists) all.insert(all.end(), list.begin(), list.end());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("each field of a concept moves the keys of those who may read it") {
  CHECK(MovedByConcept([](Concept*) {}).empty());
  CHECK(MovedByConcept([](Concept* c) { c->name = "panda"; }) ==
        AllOf({kRemovals, kAttacks, kScores}));
  CHECK(MovedByConcept([](Concept* c) { c->category = "unsafe"; }) == AllOf({kRemovals, kAttacks}));
  CHECK(MovedByConcept([](Concept* c) {
          c->known = {"poodle", "Pudel"};
        }) == AllOf({kRemovals, kAttacks, kScores}));
  CHECK(MovedByConcept([](Concept* c) { c->anchor = "cat"; }) ==
        AllOf({kRemovals, kAttacks, kScores}));
  CHECK(MovedByConcept([](Concept* c) { c->preserve = {"dog"}; }) == AllOf({kRemovals, kAttacks}));
  CHECK(MovedByConcept([](Concept* c) { c->judge.target = {"dog"}; }) ==
        AllOf({{"unlearn_diff_atk"}, kScores}));
  CHECK(MovedByConcept([](Concept* c) { c->judge.anchor = {"cat"}; }) ==
        AllOf({{"unlearn_diff_atk"}, kScores}));
  // Which judge it is stands in the keys of its verdicts, and its oracle in those of searches.
  CHECK(MovedByConcept([](Concept* c) { c->judge.plugin = "emoji"; }).empty());
  // For reports, and for prompts under test, which enter by their texts.
  CHECK(MovedByConcept([](Concept* c) { c->title = "another"; }).empty());
  CHECK(MovedByConcept([](Concept* c) { c->sensitivity = "sensitive"; }).empty());
  // For evaluation, and for the one attack that declares that it reads them.
  CHECK(MovedByConcept([](Concept* c) { c->held_out = {"Caniche"}; }) == Stages{"alias"});
  CHECK(MovedByConcept([](Concept* c) { c->implied = {"a curly animal"}; }).empty());
  CHECK(MovedByConcept([](Concept* c) { c->neighbours.near = {"cat"}; }).empty());
  CHECK(MovedByConcept([](Concept* c) { c->neighbours.far = {"cat"}; }).empty());
  CHECK(MovedByConcept([](Concept* c) { c->neighbours.lexical = {"cat"}; }).empty());
}

TEST_CASE("a style's anchor for the judge makes prompts for methods, and so moves their keys") {
  const auto key = [](const char* anchor) {
    const auto lab = WideLab();
    Concept& style = lab->concepts[0];
    style.known = {"sepia"};
    style.judge = {"style", {"sepia"}, {anchor}};
    ReadInputs(lab.get());
    return std::pair(Store::Digest(EraseKey(*lab, kEspresso, 0)),
                     Store::Digest(EraseKey(*lab, kUce, 0)));
  };
  const auto [espresso, uce] = key("plain");
  const auto [other_espresso, other_uce] = key("line");
  CHECK(espresso != other_espresso);  // it asks for prompts of the group "anchor"
  CHECK(uce == other_uce);            // it asks for none
}

TEST_CASE("prompts enter by their content, of the test's with all that attacks and judges read") {
  const auto edit_prompt = [](const std::function<void(Prompt*)>& edit) {
    return Moved([&](Lab* lab) { edit(&lab->prompts[0]["target"][0]); });
  };
  const Stages readers = AllOf({kAttacks, {"pictures"}});
  CHECK(edit_prompt([](Prompt* p) { p->text = "the poodle"; }) == readers);
  CHECK(edit_prompt([](Prompt* p) { p->root_id = "t/9"; }) == readers);
  CHECK(edit_prompt([](Prompt* p) { p->expected_class = "dog"; }) == readers);
  CHECK(edit_prompt([](Prompt* p) { p->token_ids = {3}; }) == readers);
}

TEST_CASE("of a data set's file only the prompts that a method asks for are in its key") {
  const std::filesystem::path folder = TestFolder("inputs_csv");
  const auto key = [&](const std::string& rows) {
    const std::filesystem::path file = folder / "own.csv";
    std::ofstream(file) << "prompt,concept,group,split\n" << rows;
    const auto lab = WideLab();
    DecodeParams(Json{{"file", file.string()}},
                 *(lab->dataset = TinyEntry<Dataset>("prompts_csv")).plugin, "test");
    ReadInputs(lab.get());
    return Store::Digest(EraseKey(*lab, kEspresso, 0));
  };
  const std::string asked = "one,poodle,target,erase\ntwo,poodle,anchor,erase\n";
  const std::string before = key(asked + "three,poodle,preserve,erase\nx,poodle,target,test\n");
  CHECK(before == key(asked + "four,poodle,preserve,erase\ny,poodle,target,test\n"));
  CHECK(before != key("one more,poodle,target,erase\ntwo,poodle,anchor,erase\n"));
  // A file without the concept fails the removal, under a key of its own.
  CHECK(before != key("a,cat,target,erase\n"));
}

TEST_CASE("judges and CLIPs move the keys of those who read them") {
  CHECK(Moved([](Lab* lab) { SetJudge(lab, TinyJudge(true, /*reporting_seed=*/6)); }) ==
        Stages{"kid", "verdicts"});
  CHECK(Moved([](Lab* lab) { SetJudge(lab, TinyJudge(true, 5, /*oracle_seed=*/6)); }) ==
        Stages{"unlearn_diff_atk"});
  CHECK(Moved([](Lab* lab) { lab->judges[0].key_params["threshold"] = 0.5; }) ==
        Stages{"verdicts"});
  CHECK(Moved([](Lab* lab) { lab->judges[0].plugin_name = "x"; }) == Stages{"verdicts"});
  CHECK(Moved([](Lab* lab) { lab->judges[0].files["labels"] = "x"; }) == Stages{"verdicts"});
  CHECK(Moved([](Lab* lab) { lab->reference_clip.digest = "x"; }) == Stages{"clip_score"});
  CHECK(Moved([](Lab* lab) { lab->independent_clip.digest = "x"; }) == Stages{"clip_accuracy"});
  CHECK(Moved([](Lab* lab) { lab->own_clip.digest = "x"; }) == Stages{"pez", "unlearn_diff_atk"});
  CHECK(Moved([](Lab* lab) { lab->backbone.digest = "x"; }) ==
        AllOf({{"espresso", "pez", "pictures", "safe_clip", "uce", "unlearn_diff_atk"}}));
}

TEST_CASE("a sampler moves the keys of what is drawn with it") {
  const auto sampler = [](const std::function<void(SamplerSettings*)>& edit) {
    return Moved([&](Lab* lab) { edit(&lab->experiment.sampler); });
  };
  const Stages drawn = {"espresso", "pez", "pictures", "unlearn_diff_atk"};
  CHECK(sampler([](SamplerSettings* s) { s->guidance = 9; }) == drawn);
  CHECK(sampler([](SamplerSettings* s) { s->steps = 9; }) == drawn);
  CHECK(sampler([](SamplerSettings* s) { s->scheduler = "ddim"; }) == drawn);
  // Attacks draw in batches of their own; more replicates reuse the others. Scores are of all
  // units.
  CHECK(sampler([](SamplerSettings* s) { s->unit_size = 3; }) ==
        AllOf({{"espresso", "pictures"}, kScores}));
  CHECK(sampler([](SamplerSettings* s) { s->images_per_prompt = 3; }) == kScores);
}

TEST_CASE("seeds and numerics move the keys of those who compute with them") {
  CHECK(Moved([](Lab* lab) { lab->experiment.seeds.erase = 9; }) ==
        AllOf({kRemovals, {"safe_clip"}}));
  CHECK(Moved([](Lab* lab) { lab->experiment.seeds.attack = 9; }) == kAttacks);
  CHECK(Moved([](Lab* lab) { lab->experiment.seeds.noise = 9; }) == Stages{"pictures"});
  CHECK(Moved([](Lab* lab) { lab->numerics["fingerprint"] = "b"; }).size() ==
        OwnKeys(*WideLab()).size());
}

TEST_CASE("what was not declared is not handed out") {
  const auto lab = WideLab();
  const auto draw = [](const std::vector<Prompt>&) { return Drawn{TinyImages(2, 3), 1, {}, {}}; };
  EraseContext uce(*lab, kUce, 0, "unused", draw), espresso(*lab, kEspresso, 0, "unused", draw);
  const Concept& subject = lab->removals[kUce][0].concepts[0];
  CHECK_THROWS_WITH(uce.Prompts(subject, "target", 2),
                    Catch::Contains("method 'uce' asked for 2 prompts of group 'target'") &&
                        Catch::Contains("declares none"));
  CHECK_THROWS_WITH(uce.Images({"a poodle"}), Catch::Contains("base_pictures"));
  CHECK(espresso.Prompts(subject, "target", 4).size() == 4);
  CHECK(espresso.Prompts(subject, "target", 2).size() == 2);
  CHECK_THROWS_WITH(espresso.Prompts(subject, "target", 5), Catch::Contains("declares 4"));
  CHECK_THROWS_WITH(espresso.Prompts(subject, "preserve", 1), Catch::Contains("declares none"));
  Concept other = subject;
  other.name = "panda";
  CHECK_THROWS_WITH(espresso.Prompts(other, "target", 1), Catch::Contains("'panda'"));
  CHECK(lab->removals[kSafeClip][0].concepts.empty());
}

TEST_CASE("prompts that the data set does not give fail the removal that asks for them") {
  const auto lab = WideLab();
  lab->concepts[0].anchor = "no such thing";
  ReadInputs(lab.get());
  EraseContext espresso(*lab, kEspresso, 0, "unused", nullptr);
  const Concept& subject = lab->removals[kEspresso][0].concepts[0];
  CHECK_THROWS_WITH(espresso.Prompts(subject, "anchor", 4), Catch::Contains("no such thing"));
}

}  // namespace excise
