// Two concepts with a judge each, and a backbone without one, in whole runs of the embedded model.
#include <catch2/catch.hpp>
#include <fstream>

#include "core/store.h"
#include "experiments/run/grid.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/runner.h"
#include "experiments/run/stored.h"
#include "models/tensors/numerics.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

fs::path Emoji() { return RepoFile("models/emoji/model_index.json").parent_path(); }

Experiment SmallExperiment(const Json& more) {
  Json experiment = {{"name", "judges"},
                     {"concepts", {"dog", "poodle"}},
                     {"prompts", {{"target", 2}, {"near", 2}, {"far", 0}, {"lexical", 0}}},
                     {"sampler", {{"steps", 2}, {"unit_size", 2}}},
                     {"methods", {{"only", {"none"}}}},
                     {"attacks", {{"only", {"none"}}}},
                     {"metrics", {{"only", {"asr", "retention"}}}}};
  if (!more.is_null()) experiment.merge_patch(more);
  return MakeExperiment(experiment, "judges", {});
}

// A folder with the concept "dog", judged by templates.
fs::path OwnConcepts() {
  const fs::path folder = TestFolder("own_concepts");
  Json dog = ReadJsonFile(RepoFile("datasets/concepts/poodle.json"));
  dog["name"] = "dog";
  dog["names"] = {{"known", {"dog"}}, {"held_out", Json::array()}};
  dog["anchor"] = "cat";
  dog["preserve"] = {"car"};
  dog["neighbours"] = {
      {"near", {"fox", "bear"}}, {"far", Json::array()}, {"lexical", Json::array()}};
  dog["judge"] = {{"plugin", "emoji_template"},
                  {"params", {{"threshold", 0.6}}},
                  {"kind", "class"},
                  {"target", {"dog"}},
                  {"anchor", {"cat"}}};
  std::ofstream(folder / "dog.json") << dog.dump();
  return folder;
}

Folders FoldersOf(const fs::path& models) {
  Folders folders;
  folders.models = models;
  folders.concepts = RepoFile("datasets/concepts/poodle.json").parent_path();
  folders.own_concepts = OwnConcepts();
  return folders;
}

const Record& RecordOf(const Results& results, const std::string& subject,
                       const std::string& metric) {
  for (const Record& record : results.records) {
    if (record.subject == subject && record.metric == metric) return record;
  }
  throw Error("no record of " + subject);
}

}  // namespace

TEST_CASE("each concept is judged by its own judge, whose scores are kept") {
  UseOneThreadPerWorker();
  const auto lab = OpenLab(SmallExperiment({}), FoldersOf(Emoji().parent_path()));
  Store store(TestFolder("judges_run"));
  const Grid grid(*lab);
  const RunOutcome outcome = RunExperiment(*lab, grid, store, {});
  CHECK(outcome.failures == 0);
  const Results& results = outcome.results;
  CHECK(RecordOf(results, "dog", "asr").protocol.at("judge").at("name") == "emoji_template");
  CHECK(RecordOf(results, "dog", "asr").protocol.at("judge").at("threshold") == 0.6);
  CHECK(RecordOf(results, "poodle", "asr").protocol.at("judge").at("name") == "emoji");
  CHECK(RecordOf(results, kAllConcepts, "asr").protocol.at("judge").at("name") ==
        "emoji_template, emoji");
  CHECK(results.inputs.at("judge").at("name") == "emoji_template, emoji");
  // Its neighbours as well, and a judge without styles expects none.
  CHECK(RecordOf(results, "dog", "retention").score.n == 2);
  REQUIRE(results.rows.size() == 8);
  for (const Row& row : results.rows) CHECK(row.style.empty() == (row.subject == "dog"));

  for (size_t subject = 0; subject < 2; ++subject) {
    const Unit unit = UnitsOf(*lab, lab->unmodified, subject, 0, "target").at(0);
    const std::optional<Artifact> artifact = store.Find(unit.verdict_key);
    REQUIRE(artifact);
    const std::vector<Verdict> verdicts = ReadVerdicts(*artifact, *lab, unit);
    const at::Tensor scores = ReadJudgeScores(*artifact, *lab, unit);
    const std::vector<ScoreName> names = lab->JudgeOf(subject).plugin->traits().scores;
    REQUIRE(scores.size(0) == 2);
    REQUIRE(scores.size(1) == static_cast<int64_t>(names.size()));
    for (int64_t i = 0; i < 2; ++i) {
      const Verdict& verdict = verdicts[static_cast<size_t>(i)];
      if (verdict.class_id.empty()) continue;
      const int64_t classes = NamesOfKind(names, "class").size();
      const int64_t best = scores[i].narrow(0, 0, classes).argmax().item<int64_t>();
      CHECK(names[static_cast<size_t>(best)].name == verdict.class_id);
    }
  }
}

TEST_CASE("a backbone that brings no judge is scored by the one that the experiment names") {
  UseOneThreadPerWorker();
  const fs::path models = TestFolder("models_without_judges");
  fs::create_directories(models / "emoji");
  for (const auto& entry : fs::directory_iterator(Emoji())) {
    if (entry.path().filename() == "judges") continue;
    fs::create_symlink(fs::canonical(entry.path()), models / "emoji" / entry.path().filename());
  }
  CHECK_THROWS_WITH(OpenLab(SmallExperiment({}), FoldersOf(models)),
                    Catch::Contains("--set judge.plugin=NAME"));
  const Json judge = {{"judge", {{"plugin", "emoji_template"}}}};
  const auto lab = OpenLab(SmallExperiment(judge), FoldersOf(models));
  Store store(TestFolder("judges_run"));
  const RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, {});
  CHECK(outcome.failures == 0);
  const Record& record = RecordOf(outcome.results, "poodle", "asr");
  CHECK(record.status == "ok");
  CHECK(record.score.n == 2);
  CHECK(record.protocol.at("judge").at("name") == "emoji_template");
  CHECK(outcome.results.inputs.at("judge").at("name") == "emoji_template");
}

TEST_CASE("a panel judges a run, its votes are kept, and its disagreement is a record") {
  UseOneThreadPerWorker();
  const std::vector<Json> members = {{{"plugin", "emoji"}},
                                     {{"plugin", "emoji_template"}, {"threshold", 0.99}}};
  const Json panel = {{"plugin", "panel"},
                      {"params",
                       {{"rule", "any"},
                        {"members", members},
                        {"target", {"poodle"}},
                        {"shown", "poodle"},
                        {"other", "dog"}}}};
  const Json more = {{"judge", panel},
                     {"concepts", {"poodle"}},
                     {"prompts", {{"near", 0}}},
                     {"metrics", {{"only", {"asr", "judge_disagreement"}}}}};
  const auto lab = OpenLab(SmallExperiment(more), FoldersOf(Emoji().parent_path()));
  Store store(TestFolder("panel_run"));
  const Grid grid(*lab);
  const RunOutcome outcome = RunExperiment(*lab, grid, store, {});
  REQUIRE(outcome.failures == 0);
  const Unit unit = UnitsOf(*lab, lab->unmodified, 0, 0, "target").at(0);
  const std::vector<Verdict> verdicts = ReadVerdicts(*store.Find(unit.verdict_key), *lab, unit);
  double differ = 0;
  for (const Verdict& verdict : verdicts) {
    REQUIRE(verdict.votes.size() == 2);
    differ += verdict.votes[0] != verdict.votes[1] ? 1 : 0;
    CHECK((verdict.class_id == "poodle") == (verdict.votes[0] || verdict.votes[1]));
  }
  const Record& record = RecordOf(outcome.results, "poodle", "judge_disagreement");
  CHECK(record.score.n == static_cast<int64_t>(verdicts.size()));
  CHECK(record.score.value == Approx(differ / static_cast<double>(verdicts.size())));
  // Where no judge is a panel, the metric has nothing to read.
  const Json alone = {{"metrics", {{"only", {"asr", "judge_disagreement"}}}}};
  CHECK_THROWS_WITH(OpenLab(SmallExperiment(alone), FoldersOf(Emoji().parent_path())),
                    Catch::Contains("panel"));
  const Json every = {{"metrics", {{"only", Json::array()}}}};
  for (const auto& entry :
       OpenLab(SmallExperiment(every), FoldersOf(Emoji().parent_path()))->metrics) {
    CHECK(entry.name != "judge_disagreement");
  }
}

}  // namespace excise
