// Artifacts that are whole and wrong: more entries than prompts, fewer, and odd ones.
#include "experiments/run/stored.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <functional>
#include <limits>

#include "core/store.h"
#include "experiments/results/artifacts.h"
#include "experiments/results/record.h"
#include "experiments/run/report.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;
using Files = std::map<std::string, std::string>;
using Edit = std::function<void(Json*)>;

constexpr size_t kNone = 0, kUce = 1, kPlain = 0, kCharTypo = 1;

// An artifact that is whole by its manifest, whatever is in it.
Artifact Stored(const Files& files) {
  Store store(TestFolder("stored"));
  return store.Put({{"stage", "made_up"}}, files);
}

// `files` with the JSON of one of them edited.
Artifact Edited(Files files, const std::string& name, const Edit& edit) {
  Json json = Json::parse(files.at(name));
  edit(&json);
  files[name] = CanonicalJson(json);
  return Stored(files);
}

Unit UnitOf(const Lab& lab, size_t method = kNone, size_t attack = kPlain) {
  return UnitsOf(lab, method, 0, attack, "target").at(0);  // two prompts
}

// Two pictures of a unit with a filter that keeps none back.
Json PicturesOf(const Unit& unit, int64_t side) {
  Json prompts = Json::array();
  for (const Prompt& prompt : unit.prompts) prompts.push_back(PromptToJson(prompt));
  return {{"shape", {2, 3, side, side}},
          {"prompts", prompts},
          {"evaluations_per_image", 4},
          {"replacement", {3, side, side}},
          {"detected", {{"filter", {{"scores", {0.1, 0.2}}, {"threshold", 0.5}}}}}};
}

Files PictureFiles(const Unit& unit, int64_t side) {
  return {{"unit.json", PicturesOf(unit, side).dump()},
          {"images.u8", std::string(static_cast<size_t>(2 * 3 * side * side), 'x')},
          {"replacement.u8", std::string(static_cast<size_t>(3 * side * side), 'x')}};
}

Json OneVerdict() {
  return {{"class", ""}, {"style", "plain"}, {"class_probability", 0.5}, {"style_probability", 1}};
}

// Two verdicts, and the scores that they were made of.
Files VerdictFiles(const Lab& lab) {
  const std::vector<ScoreName> names = lab.JudgeOf(0).plugin->traits().scores;
  const at::Tensor scores = at::full({2, static_cast<int64_t>(names.size())}, 0.25, at::kFloat);
  return {{"verdicts.json", Json::array({OneVerdict(), OneVerdict()}).dump()},
          {"scores.json", Json{{"names", ScoreNamesToJson(names)}}.dump()},
          {"scores.f32", ScoreBytes(scores)}};
}

Json OneCandidate() {
  return {{"prompt", PromptToJson(TinyPrompt("t/0"))},
          {"ledger",
           {{"victim_queries", 0},
            {"candidate_evaluations", 1},
            {"gradient_steps", 0},
            {"unet_evaluations", 0},
            {"text_evaluations", 0}}},
          {"score", 0.5},
          {"edits", Json::array()}};
}

}  // namespace

TEST_CASE("numbers of entries that differ are reported with both places and what to do") {
  CHECK_NOTHROW(RequireAsMany({2, "verdicts", "a/verdicts.json"}, {2, "pictures", "b/unit.json"}));
  CHECK_THROWS_WITH(
      RequireAsMany({3, "verdicts", "a/verdicts.json"}, {2, "pictures", "b/unit.json"}),
      Contains("3 verdicts in a/verdicts.json") && Contains("2 pictures in b/unit.json") &&
          Contains("has to be removed and computed anew"));
}

TEST_CASE("more, fewer and odd verdicts fit no unit") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab);
  const Files good = VerdictFiles(*lab);
  CHECK(ReadVerdicts(Stored(good), *lab, unit).size() == 2);
  const std::vector<std::pair<const char*, Edit>> odd = {
      {"more", [](Json* v) { v->push_back(OneVerdict()); }},
      {"fewer", [](Json* v) { v->erase(0); }},
      {"none", [](Json* v) { *v = Json::array(); }},
      {"no list",
       [](Json* v) {
         *v = {{"a", OneVerdict()}, {"b", OneVerdict()}};
       }},
      {"a class that the judge does not know", [](Json* v) { (*v)[1]["class"] = "dragon"; }},
      {"a class that is a number", [](Json* v) { (*v)[1]["class"] = 1.5; }},
      {"a style that is none", [](Json* v) { (*v)[0]["style"] = "cubist"; }},
      {"a probability above 1", [](Json* v) { (*v)[0]["class_probability"] = 1.25; }},
      {"a probability below 0", [](Json* v) { (*v)[0]["style_probability"] = -0.5; }},
      {"a probability that is no number", [](Json* v) { (*v)[0]["class_probability"] = nullptr; }},
      {"a verdict that lost a field", [](Json* v) { (*v)[0].erase("style"); }},
      {"none where a picture is", [](Json* v) { (*v)[0]["style"] = ""; }},
  };
  for (const auto& [what, edit] : odd) {
    INFO(what);
    CHECK_THROWS_AS(ReadVerdicts(Edited(good, "verdicts.json", edit), *lab, unit), Misfit);
  }
  CHECK_THROWS_AS(ReadVerdicts(Stored({{"verdicts.json", "["}}), *lab, unit), Misfit);
  CHECK_THROWS_AS(ReadVerdicts(Stored({{"other.json", "[]"}}), *lab, unit), Misfit);
}

TEST_CASE("a judge's scores are kept beside its verdicts, as many and of its own classes") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab);
  const Files good = VerdictFiles(*lab);
  const at::Tensor scores = ReadJudgeScores(Stored(good), *lab, unit);
  // An unopened judge of emoji: no class, none of them, three styles.
  CHECK(scores.sizes() == at::IntArrayRef({2, 4}));
  CHECK(scores[1][3].item<float>() == 0.25f);
  const auto refused = [&](const Files& files, const std::string& message) {
    CHECK_THROWS_AS(ReadVerdicts(Stored(files), *lab, unit), Misfit);
    CHECK_THROWS_WITH(ReadVerdicts(Stored(files), *lab, unit), Contains(message));
  };
  Files files = good;
  files["scores.f32"].resize(28);
  refused(files, "28 bytes in");
  files["scores.f32"] = good.at("scores.f32") + good.at("scores.f32");
  refused(files, "64 bytes in");
  files["scores.f32"] = ScoreBytes(at::full({2, 4}, std::numeric_limits<float>::quiet_NaN()));
  refused(files, "not finite");
  files = good;
  files["scores.json"] = R"({"names": [["class", "dragon"]]})";
  refused(files, "other classes than the judge 'emoji'");
  files.erase("scores.json");
  refused(files, "has no scores.json");
  files = good;
  files.erase("scores.f32");
  refused(files, "has no scores.f32");
}

TEST_CASE("more verdicts than pictures make no rows, and no crash") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab);
  UnitPictures pictures;
  pictures.images = at::zeros({2, 3, 16, 16}, at::kByte);
  pictures.prompts = unit.prompts;
  Verdict verdict;
  verdict.style = "plain";
  CHECK(RowsOfUnit(*lab, unit, pictures, {verdict, verdict}).size() == 2);
  for (const size_t n : {0, 1, 3, 2000}) {
    INFO(n);
    CHECK_THROWS_WITH(RowsOfUnit(*lab, unit, pictures, std::vector<Verdict>(n, verdict)),
                      Contains(std::to_string(n) + " verdicts") && Contains("2 pictures"));
  }
  // A picture that is there and has no verdict would count as garbage.
  CHECK_THROWS_WITH(RowsOfUnit(*lab, unit, pictures, {verdict, {}}), Contains("has no verdict"));
  pictures.problems[1] = "a.png is missing";
  CHECK(RowsOfUnit(*lab, unit, pictures, {verdict, {}}).back().outcome == "error");
}

TEST_CASE("pictures of another number, size or prompt fit no unit") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab);
  const int64_t side = lab->PictureSide();
  const Files good = PictureFiles(unit, side);
  const UnitPictures back = ReadPictures(Stored(good), *lab, unit);
  CHECK(back.images.size(0) == 2);
  CHECK(back.prompts[1].id == "t/1");
  const std::vector<std::pair<const char*, Edit>> odd = {
      {"another number", [](Json* u) { (*u)["shape"][0] = 3; }},
      {"another size",
       [&](Json* u) {
         (*u)["shape"] = {2, 3, 2 * side, side / 2};
       }},
      {"a negative one", [](Json* u) { (*u)["shape"][2] = -1; }},
      {"one beyond memory", [](Json* u) { (*u)["shape"][0] = int64_t{1} << 60; }},
      {"no shape", [](Json* u) { u->erase("shape"); }},
      {"more prompts", [](Json* u) { (*u)["prompts"].push_back((*u)["prompts"][0]); }},
      {"fewer prompts", [](Json* u) { (*u)["prompts"].erase(0); }},
      {"prompts in another order", [](Json* u) { (*u)["prompts"][0].swap((*u)["prompts"][1]); }},
      {"another text", [](Json* u) { (*u)["prompts"][0]["text"] = "a cat"; }},
      {"half an evaluation", [](Json* u) { (*u)["evaluations_per_image"] = 0.5; }},
      {"more scores", [](Json* u) { (*u)["detected"]["filter"]["scores"].push_back(0.9); }},
      {"fewer scores", [](Json* u) { (*u)["detected"]["filter"]["scores"].erase(0); }},
      {"an infinite score", [](Json* u) { (*u)["detected"]["filter"]["scores"][0] = 1e300; }},
      {"a score that is no number",
       [](Json* u) { (*u)["detected"]["filter"]["scores"][0] = nullptr; }},
      {"another replacement",
       [](Json* u) {
         (*u)["replacement"] = {3, 1, 1};
       }},
      {"a picture missing of our own",
       [](Json* u) {
         (*u)["problems"] = Json::array({Json::array({1, "it is missing"})});
       }},
      {"no object", [](Json* u) { *u = Json::array(); }},
  };
  for (const auto& [what, edit] : odd) {
    INFO(what);
    CHECK_THROWS_AS(ReadPictures(Edited(good, "unit.json", edit), *lab, unit), Misfit);
  }
  for (const char* name : {"images.u8", "replacement.u8"}) {
    INFO(name);
    Files cut = good;
    cut[name].pop_back();
    CHECK_THROWS_AS(ReadPictures(Stored(cut), *lab, unit), Misfit);
    cut.erase(name);
    CHECK_THROWS_AS(ReadPictures(Stored(cut), *lab, unit), Misfit);
  }
}

TEST_CASE("pictures made elsewhere may be missing, by the number of one that the unit has") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab);
  const Files good = PictureFiles(unit, lab->PictureSide());
  lab->methods[kNone].pictures = std::make_shared<PictureRow>();
  const auto with = [&](const Json& problem) {
    return Edited(good, "unit.json", [&](Json* u) { (*u)["problems"] = Json::array({problem}); });
  };
  CHECK(ReadPictures(with({1, "gone"}), *lab, unit).problems.at(1) == "gone");
  for (const Json& odd :
       {Json{2, "gone"}, Json{-1, "gone"}, Json{1.5, "gone"}, Json{1, 1}, Json{1}, Json("gone")}) {
    INFO(odd);
    CHECK_THROWS_AS(ReadPictures(with(odd), *lab, unit), Misfit);
  }
}

TEST_CASE("crafted prompts are of the unit's seeds") {
  const auto lab = TinyLab();
  const Unit unit = UnitOf(*lab, kUce, kCharTypo);
  REQUIRE(IsCrafted(*lab, unit));
  const Files good = PictureFiles(unit, lab->PictureSide());
  const Edit crafted = [](Json* u) { (*u)["prompts"][0]["text"] = "a pooodle"; };
  CHECK(ReadPictures(Edited(good, "unit.json", crafted), *lab, unit).prompts[0].text ==
        "a pooodle");
  const Edit another = [](Json* u) { (*u)["prompts"][0]["root_id"] = "t/1"; };
  CHECK_THROWS_AS(ReadPictures(Edited(good, "unit.json", another), *lab, unit), Misfit);
}

TEST_CASE("an empty or odd trajectory is none") {
  const Prompt seed = TinyPrompt("t/0");
  const Files good = {{"trajectory.json", Json::array({OneCandidate()}).dump()}};
  CHECK(ReadTrajectory(Stored(good), seed).back().prompt.id == "t/0");
  const std::vector<std::pair<const char*, Edit>> odd = {
      {"empty", [](Json* t) { *t = Json::array(); }},
      {"no list", [](Json* t) { *t = Json::object(); }},
      {"of another prompt", [](Json* t) { (*t)[0]["prompt"]["root_id"] = "t/1"; }},
      {"a score that is no number", [](Json* t) { (*t)[0]["score"] = nullptr; }},
      {"half a query", [](Json* t) { (*t)[0]["ledger"]["victim_queries"] = 0.5; }},
      {"a negative cost", [](Json* t) { (*t)[0]["ledger"]["unet_evaluations"] = -1; }},
      {"no ledger", [](Json* t) { (*t)[0].erase("ledger"); }},
  };
  for (const auto& [what, edit] : odd) {
    INFO(what);
    CHECK_THROWS_AS(ReadTrajectory(Edited(good, "trajectory.json", edit), seed), Misfit);
  }
  Trajectory unending(1);
  unending[0].prompt = seed;
  CHECK_NOTHROW(CheckTrajectory(unending, seed, "an attack"));
  unending[0].score = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(CheckTrajectory(unending, seed, "an attack"), Contains("an attack"));
}

TEST_CASE("reference pictures are as many and as large as were asked for") {
  const Json meta = {{"shape", {2, 3, 4, 4}}, {"evaluations_per_image", 4}};
  const Artifact good =
      Stored({{"pictures.json", meta.dump()}, {"images.u8", std::string(2 * 3 * 16, 'x')}});
  CHECK(ReadReferencePictures(good, 2, 4).images.size(0) == 2);
  CHECK_THROWS_AS(ReadReferencePictures(good, 3, 4), Misfit);
  CHECK_THROWS_AS(ReadReferencePictures(good, 1, 4), Misfit);
  CHECK_THROWS_AS(ReadReferencePictures(good, 2, 8), Misfit);
}

TEST_CASE("embeddings are one set an item, of as many texts and pictures as the bench has") {
  const auto lab = TinyLab();
  Experiment experiment;
  DecodeParams({{"set", "emoji"}, {"pool", 2}}, experiment.quadruplets, "test");
  lab->quadruplets = OpenQuadruplets(experiment);
  lab->prompts[0]["quadruplets"] = lab->quadruplets->Prompts("quadruplets");
  const Unit unit = UnitsOf(*lab, kNone, 0, 0, "quadruplets").at(0);
  REQUIRE(unit.prompts.size() == 2);
  const auto stored = [&](const at::Tensor& tensor, const char* name = "embeddings") {
    StateDict tensors;
    tensors.Set(name, tensor);
    return Stored({{"embeddings.safetensors", TensorBytes(tensors, TestFolder("tensors"))}});
  };
  CHECK(ReadEmbeddings(stored(at::zeros({2, 4, 8})), *lab, unit).size(2) == 8);
  for (const at::Tensor& odd : {at::zeros({3, 4, 8}), at::zeros({1, 4, 8}), at::zeros({2, 3, 8}),
                                at::zeros({2, 5, 8}), at::zeros({2, 4}), at::zeros({2, 4, 8, 1})}) {
    INFO(odd.sizes());
    CHECK_THROWS_AS(ReadEmbeddings(stored(odd), *lab, unit), Misfit);
  }
  CHECK_THROWS_AS(ReadEmbeddings(stored(at::zeros({2, 4, 8}), "other"), *lab, unit), Misfit);
  CHECK_THROWS_AS(ReadEmbeddings(Stored({{"embeddings.safetensors", "x"}}), *lab, unit), Misfit);
}

TEST_CASE("a score has a value a sample, and no more samples than its units") {
  Score score;
  score.value = 0.5;
  score.low = 0.1;
  score.high = 0.9;
  score.n = 2;
  score.per_sample = {0, 1};
  score.sample_ids = {"a#0", "b#0"};
  const Files good = {{"score.json", ScoreToJson(score).dump()}};
  CHECK(ReadScore(Stored(good), 2).n == 2);
  CHECK(ReadScore(Stored(good), 5).n == 2);
  CHECK_THROWS_AS(ReadScore(Stored(good), 1), Misfit);
  const std::vector<std::pair<const char*, Edit>> odd = {
      {"more values", [](Json* s) { (*s)["per_sample"].push_back(1); }},
      {"fewer values", [](Json* s) { (*s)["per_sample"].erase(0); }},
      {"fewer names", [](Json* s) { (*s)["sample_ids"].erase(0); }},
      {"a smaller n", [](Json* s) { (*s)["n"] = 1; }},
      {"half a sample", [](Json* s) { (*s)["n"] = 1.5; }},
      {"a negative n", [](Json* s) { (*s)["n"] = -2; }},
      {"a value that is no number", [](Json* s) { (*s)["value"] = nullptr; }},
      {"half an interval", [](Json* s) { (*s)["ci95"].erase(0); }},
  };
  for (const auto& [what, edit] : odd) {
    INFO(what);
    CHECK_THROWS_AS(ReadScore(Edited(good, "score.json", edit), 5), Misfit);
  }
  score.per_sample[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(CheckScore(score, 5, "metric 'm'"), Contains("metric 'm'"));
}

TEST_CASE("a removal has tensors of parts of a model, and costs whole numbers") {
  const auto stored = [](const char* name, const Json& evaluations) {
    StateDict tensors;
    tensors.Set(name, at::zeros({2}));
    const Json meta = {{"hooks", false}, {"unet_evaluations", evaluations}, {"gradient_steps", 1}};
    return Stored({{"erased.json", meta.dump()},
                   {"tensors.safetensors", TensorBytes(tensors, TestFolder("tensors"))}});
  };
  CHECK(ReadRemoval(stored("unet/a", 3)).erased.unet.Contains("a"));
  CHECK(ReadRemovalCost(stored("unet/a", 3)).unet_evaluations == 3);
  CHECK_THROWS_AS(ReadRemoval(stored("net/a", 3)), Misfit);
  CHECK_THROWS_AS(ReadRemoval(stored("a", 3)), Misfit);
  for (const Json& odd : {Json(-3), Json(0.5), Json(nullptr), Json("3")}) {
    CHECK_THROWS_AS(ReadRemoval(stored("unet/a", odd)), Misfit);
    CHECK_THROWS_AS(ReadRemovalCost(stored("unet/a", odd)), Misfit);
  }
}

TEST_CASE("what does not fit is removed with what was made of it, and computed anew") {
  const auto lab = TinyLab();
  lab->experiment.sampler.steps = 2;
  Store store(TestFolder("pipeline"));
  Pipeline pipeline(*lab, store);
  const auto poison = [&](const Json& key, const std::string& name, const Edit& edit) {
    const auto artifact = store.Find(key);
    REQUIRE(artifact);
    Files files;
    for (const auto& [file, sha256] : artifact->files) files[file] = artifact->Read(file);
    Json json = Json::parse(files.at(name));
    edit(&json);
    files[name] = CanonicalJson(json);
    std::filesystem::remove_all(artifact->folder);
    store.Put(key, files);
  };
  const auto made_of = [](const std::string& digest) {
    return Json{{"stage", "judge"}, {"inputs", {{"unit", digest}}}};
  };

  const Prompt& seed = lab->prompts[0].at("target")[0];
  const Json attack = AttackKey(*lab, kCharTypo, kNone, 0, seed);
  const std::string text = pipeline.Craft(kCharTypo, kNone, 0, seed).back().prompt.text;
  store.Put(made_of(Store::Digest(attack)), {{"x", "x"}});
  poison(attack, "trajectory.json", [](Json* trajectory) { *trajectory = Json::array(); });
  CHECK(pipeline.Craft(kCharTypo, kNone, 0, seed).back().prompt.text == text);
  CHECK(ReadTrajectory(store.Find(attack).value(), seed).back().prompt.text == text);
  CHECK_FALSE(store.Find(made_of(Store::Digest(attack))));

  const Unit unit = UnitOf(*lab);
  const at::Tensor images = pipeline.Generate(unit).images;
  store.Put(made_of(unit.digest), {{"x", "x"}});
  poison(unit.key, "unit.json", [](Json* meta) { meta->at("prompts").erase(0); });
  CHECK(pipeline.Generate(unit).images.equal(images));
  CHECK(ReadPictures(store.Find(unit.key).value(), *lab, unit).images.equal(images));
  CHECK_FALSE(store.Find(made_of(unit.digest)));
}

}  // namespace excise
