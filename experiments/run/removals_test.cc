// Concepts that one edit removes together: keys, grid, plan, prompts, claims, records. The lab is
// put together by hand, from tiny models.
#include "experiments/lab/removals.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "core/json_schema.h"
#include "core/store.h"
#include "experiments/formats/results_file.h"
#include "experiments/run/export_models.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/plan.h"
#include "experiments/run/report.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;
using Lists = std::vector<std::vector<std::string>>;

constexpr size_t kNone = 0, kUce = 1;     // methods
constexpr size_t kPoodle = 0, kLion = 1;  // concepts
const Lists kTogether = {{"poodle", "lion"}};

Prompt Asking(const std::string& id, const std::string& class_id,
              const std::string& style = "plain") {
  Prompt prompt = TinyPrompt(id, "a picture of a " + class_id);
  prompt.expected_class = class_id;
  prompt.expected_style = style;
  return prompt;
}

// "lion" is judged by the class dog, the other one that the tiny judges know.
Concept Lion() {
  Concept subject = TinyConcept();
  subject.name = "lion";
  subject.title = "lion -> cat";
  subject.known = {"lion"};
  subject.anchor = "cat";
  subject.preserve = {"poodle", "horse"};
  subject.judge.target = {"dog"};
  subject.judge.anchor = {"cat"};
  return subject;
}

std::unique_ptr<Lab> PairLab(const Lists& removals,
                             const std::vector<std::string>& methods = {"none", "uce"}) {
  auto lab = TinyLab(methods);
  lab->experiment.title = "Tiny";
  lab->experiment.backbone = "tiny";
  lab->experiment.concepts = {"poodle", "lion"};
  lab->experiment.reference_rows = {"none"};
  lab->experiment.removals = removals;
  lab->experiment.sampler.steps = 1;
  SetJudge(lab.get(), TinyJudge(/*oracle=*/true));
  lab->concepts[kPoodle].anchor = "cat";
  lab->concepts[kPoodle].preserve = {"lion", "horse"};
  lab->concepts[kPoodle].judge.anchor = {"cat"};
  lab->concepts.push_back(Lion());
  std::map<std::string, std::vector<Prompt>> groups;
  groups["target"] = {Asking("s/0", "dog"), Asking("s/1", "dog")};
  groups["near"] = {Asking("s/2", "poodle"), Asking("s/3", "dog")};
  lab->prompts.push_back(groups);
  lab->prompts[kPoodle]["near"] = {Asking("p/0", "dog"), Asking("p/1", "poodle"),
                                   Asking("p/2", "cat")};
  lab->prompts[kPoodle]["far"] = {Asking("p/3", "dog")};
  lab->excluded.resize(2);
  ReadInputs(lab.get());
  return lab;
}

std::string EraseDigest(const Lab& lab, size_t method, size_t subject) {
  return Store::Digest(EraseKey(lab, method, subject));
}

std::set<std::string> IdsOf(const std::vector<Prompt>& prompts) {
  std::set<std::string> ids;
  for (const Prompt& prompt : prompts) ids.insert(prompt.id);
  return ids;
}

// U-Net rows that are missing, of the method's removals.
double RowsOf(const Lab& lab, const std::string& stage) {
  const Plan plan = MakePlan(lab, Grid(lab), [](const Json&) { return false; });
  double rows = 0;
  for (const Work& work : plan.at(stage).missing) {
    for (const Passes& one : work) rows += one.pass == Pass::kUNet ? one.calls * one.rows : 0;
  }
  return rows;
}

}  // namespace

TEST_CASE("concepts removed together have one key, which names all of them") {
  const auto apart = PairLab({}), together = PairLab(kTogether);
  CHECK(EraseKey(*apart, kUce, kPoodle) != EraseKey(*apart, kUce, kLion));
  const Json key = EraseKey(*together, kUce, kPoodle);
  CHECK(key == EraseKey(*together, kUce, kLion));
  CHECK(key != EraseKey(*apart, kUce, kPoodle));
  CHECK(key != EraseKey(*apart, kUce, kLion));
  const Json& concepts = key.at("inputs").at("concepts");
  REQUIRE(concepts.size() == 2);
  CHECK(concepts[0].at("name") == "poodle");
  CHECK(concepts[1].at("name") == "lion");
  // What the one is called is not preserved by the other.
  CHECK(concepts[0].at("preserve") == Json{"horse"});
  CHECK(concepts[1].at("preserve") == Json{"horse"});
}

TEST_CASE("a list's order, and a concept in none, change no key") {
  const auto apart = PairLab({}), together = PairLab(kTogether);
  CHECK(EraseKey(*PairLab({{"lion", "poodle"}}), kUce, kPoodle) ==
        EraseKey(*together, kUce, kPoodle));
  // A third one beside the list is removed as if there were none.
  const auto three = [](const Lists& removals) {
    auto lab = PairLab(removals);
    lab->concepts.push_back(TinyConcept());
    lab->concepts.back().name = "panda";
    ReadInputs(lab.get());
    return EraseKey(*lab, kUce, 2);
  };
  CHECK(three(kTogether) == three({}));
}

TEST_CASE(
    "the unmodified model removes nothing together: its pictures are those of any other run") {
  const auto apart = PairLab({}), together = PairLab(kTogether);
  for (const size_t subject : {kPoodle, kLion}) {
    CHECK(EraseKey(*together, kNone, subject) == EraseKey(*apart, kNone, subject));
    CHECK(UnitsOf(*together, kNone, subject, 0, "target")[0].digest ==
          UnitsOf(*apart, kNone, subject, 0, "target")[0].digest);
    CHECK(UnitsOf(*together, kUce, subject, 0, "target")[0].digest !=
          UnitsOf(*apart, kUce, subject, 0, "target")[0].digest);
  }
}

TEST_CASE("prompts that a method may ask for are those of every concept, and are in the key") {
  const auto lab = PairLab(kTogether, {"none", "espresso"});
  DecodeParams(Json{{"variant", "paper"}, {"pairs", 2}}, *lab->methods[1].plugin, "test");
  ReadInputs(lab.get());
  const Json prompts = EraseKey(*lab, 1, kLion).at("inputs").at("prompts");
  CHECK(prompts.at("poodle").contains("target"));
  CHECK(prompts.at("lion").contains("anchor"));
  EraseContext context(*lab, 1, kPoodle, "unused", nullptr);
  for (const Concept& subject : lab->removals[1][kPoodle].concepts) {
    CHECK(context.Prompts(subject, "anchor", 2).size() == 2);
  }
}

TEST_CASE("an attack against the edited model is keyed by the edit of all") {
  const auto lab = PairLab(kTogether);
  lab->attacks.push_back(TinyEntry<Attack>("unlearn_diff_atk"));
  const size_t attack = lab->attacks.size() - 1;
  const auto erased = [&](size_t subject) {
    const Prompt& seed = lab->prompts[subject].at("target")[0];
    return AttackKey(*lab, attack, kUce, subject, seed).at("inputs").at("erased");
  };
  CHECK(erased(kPoodle) == EraseDigest(*lab, kUce, kPoodle));
  CHECK(erased(kLion) == erased(kPoodle));
}

TEST_CASE("grid and plan count one edit, and price it as one of each concept") {
  const auto apart = PairLab({}), together = PairLab(kTogether);
  const Grid separate(*apart), joint(*together);
  CHECK(separate.removals().size() == 4);
  CHECK(joint.removals().size() == 3);  // none twice
  CHECK(joint.RemovalOf(kUce, kPoodle) == joint.RemovalOf(kUce, kLion));
  CHECK(joint.RemovalOf(kUce, kLion) < joint.removals().size());
  CHECK(joint.units().size() == separate.units().size());
  const auto planned = [](const Lab& lab) {
    return MakePlan(lab, Grid(lab), [](const Json&) { return false; }).at("erase").missing.size();
  };
  CHECK(planned(*apart) == 4);
  CHECK(planned(*together) == 3);
  // With a part of the cells, what they need of it is there, once.
  const Grid part(*together, [](const Cell& cell) { return cell.method == kUce; });
  size_t edits = 0;
  for (const Removal& removal : part.removals()) edits += removal.method == kUce;
  CHECK(edits == 1);
  CHECK(part.RemovalOf(kUce, kLion) < part.removals().size());

  const std::vector<std::string> esd = {"none", "esd"};
  CHECK(RowsOf(*PairLab(kTogether, esd), "erase") == RowsOf(*PairLab({}, esd), "erase"));
  CHECK(RowsOf(*PairLab({}, esd), "erase") > 0);
  const auto described = [](const Lab& lab) {
    const Grid grid(lab);
    return DescribePlan(lab, grid, MakePlan(lab, grid, [](const Json&) { return true; }), {});
  };
  CHECK_THAT(described(*together), Contains("removed together, by one edit: poodle, lion\n"));
  CHECK_THAT(described(*apart), !Contains("removed together"));
}

TEST_CASE("one model is erased for all of them, and is what the method makes of the list") {
  const auto lab = PairLab(kTogether);
  Store store(TestFolder("removals_store"));
  Pipeline pipeline(*lab, store);
  const auto model = pipeline.Erase(kUce, kLion);
  CHECK(model == pipeline.Erase(kUce, kPoodle));
  CHECK(store.Find(EraseKey(*lab, kUce, kPoodle)).has_value());
  TinyContext context;
  std::vector<Concept> concepts = {lab->concepts[kPoodle], lab->concepts[kLion]};
  concepts[kPoodle].preserve = concepts[kLion].preserve = {"horse"};
  const Erased erased = lab->methods[kUce].plugin->Erase(context, lab->backbone, concepts);
  CHECK(DigestOf(model->exact.unet) == DigestOf(ApplyErased(lab->backbone, erased).unet));
  CHECK(DigestOf(model->exact.unet) !=
        DigestOf(Pipeline(*PairLab({}), store).Erase(kUce, kPoodle)->exact.unet));
}

TEST_CASE("--export_models writes one folder, named after all of them") {
  const auto lab = PairLab(kTogether);
  const std::filesystem::path folder = TestFolder("removals_export");
  lab->backbone = TinyBackbone(folder / "backbone");
  ReadInputs(lab.get());
  Store store(folder / "store");
  const Grid grid(*lab);
  std::filesystem::create_directories(folder / "models/uce/poodle+lion/in_the_way");
  CHECK_THROWS_WITH(ExportModels(*lab, grid, store, 1, folder / "models"),
                    Contains("uce/poodle+lion exists and is not empty"));
}

TEST_CASE("prompts that ask for what is removed too are left out for every row, and counted") {
  const auto lab = PairLab(kTogether);
  lab->concepts[kLion].judge.target = {"dog", "fox"};
  lab->prompts[kPoodle]["lexical"] = {Asking("p/4", "fox"), Asking("p/5", "")};
  const std::string hash = Sha256Hex(lab->prompts[kPoodle]["far"][0].text);
  LeaveOutRemoved(lab.get());
  const auto& poodle = lab->prompts[kPoodle];
  CHECK(IdsOf(poodle.at("target")) == std::set<std::string>{"t/0", "t/1", "t/2"});
  // A prompt that expects the concept itself is another matter.
  CHECK(IdsOf(poodle.at("near")) == std::set<std::string>{"p/1", "p/2"});
  CHECK(poodle.at("far").empty());
  CHECK(IdsOf(poodle.at("lexical")) == std::set<std::string>{"p/5"});
  CHECK(IdsOf(lab->prompts[kLion].at("near")) == std::set<std::string>{"s/3"});
  REQUIRE(lab->excluded[kPoodle].at("far").size() == 1);
  const Exclusion& out = lab->excluded[kPoodle].at("far")[0];
  CHECK(out.id == "p/3");
  CHECK(out.reason == "excluded:removed_too");
  CHECK(out.sha256 == hash);
  CHECK(lab->excluded[kPoodle].count("target") == 0);
  CHECK(lab->excluded[kLion].at("near").size() == 1);

  const auto apart = PairLab({});
  LeaveOutRemoved(apart.get());
  CHECK(apart->prompts[kPoodle].at("near").size() == 3);
  CHECK(apart->excluded[kPoodle].empty());
}

TEST_CASE("a style that is removed too is found by the style that a prompt asks for") {
  const auto lab = PairLab(kTogether);
  lab->concepts[kLion].judge = {"style", {"sepia"}, {"plain"}};
  lab->prompts[kPoodle]["near"] = {Asking("p/0", "sepia"), Asking("p/1", "cat", "sepia"),
                                   Asking("p/2", "cat")};
  LeaveOutRemoved(lab.get());
  CHECK(IdsOf(lab->prompts[kPoodle].at("near")) == std::set<std::string>{"p/0", "p/2"});
}

TEST_CASE("a concept that is to become what the same edit removes is refused") {
  CHECK_NOTHROW(TakeRemovals(PairLab(kTogether).get()));
  auto lab = PairLab(kTogether);
  lab->concepts[kPoodle].anchor = "lion";
  CHECK_THROWS_AS(TakeRemovals(lab.get()), UsageError);
  CHECK_THROWS_WITH(TakeRemovals(lab.get()),
                    Contains("poodle, lion are removed together") &&
                        Contains("'poodle' is to become its anchor 'lion'") &&
                        Contains("what 'lion' removes"));
  lab = PairLab(kTogether);
  lab->concepts[kPoodle].judge.anchor = {"dog"};
  CHECK_THROWS_WITH(TakeRemovals(lab.get()), Contains("'lion' removes"));
  lab->experiment.removals.clear();
  CHECK_NOTHROW(TakeRemovals(lab.get()));
}

TEST_CASE("a row has lists of its own, and all rows are asked for the same") {
  const auto lab = PairLab({}, {"none", "uce", "uce"});
  constexpr size_t kBoth = 2;
  lab->methods[kBoth].name = "uce_both";
  lab->methods[kBoth].removals = kTogether;
  lab->known_concepts = {"lion", "poodle"};
  TakeRemovals(lab.get());
  ReadInputs(lab.get());
  CHECK(RemovedTogether(*lab, kUce, kLion) == std::vector<size_t>{kLion});
  CHECK(RemovedTogether(*lab, kBoth, kLion) == std::vector<size_t>{kPoodle, kLion});
  // The same edits as where the lists are the experiment's.
  CHECK(EraseKey(*lab, kUce, kLion) == EraseKey(*PairLab({}), kUce, kLion));
  CHECK(EraseKey(*lab, kBoth, kLion) == EraseKey(*PairLab(kTogether), kUce, kLion));
  const auto together = PairLab(kTogether);
  LeaveOutRemoved(lab.get());
  LeaveOutRemoved(together.get());
  for (const size_t subject : {kPoodle, kLion}) {
    CHECK(IdsOf(lab->prompts[subject].at("near")) == IdsOf(together->prompts[subject].at("near")));
  }
  const Grid grid(*lab);
  CHECK(grid.removals().size() == 2 + 2 + 1);
  for (const size_t method : {kUce, kBoth}) {
    lab->methods[method].not_applicable = "not drawn here";
    const Record record = RecordsOfCell(*lab, grid, {0, method, 0}, {}).front();
    CHECK(record.method_params.contains("removals") == (method == kBoth));
    CHECK(record.protocol.contains("removals") == (method == kBoth));
  }
  const Lists misspelt = {{"poodle", "lino"}};
  lab->methods[kBoth].removals = misspelt;
  CHECK_THROWS_WITH(TakeRemovals(lab.get()),
                    Contains("removals of method 'uce_both'") && Contains("Did you mean 'lion'?"));
}

TEST_CASE("a row's lists are read beside its parameters") {
  Selection selection;
  selection.params["uce_both"] = {{"plugin", "uce"}, {"removals", kTogether}, {"ridge", 1}};
  const Chosen chosen = Resolve(selection, "method", "uce_both");
  CHECK(chosen.removals == kTogether);
  CHECK(chosen.params == Json{{"ridge", 1}});
  CHECK_FALSE(Resolve(selection, "method", "uce").removals.has_value());
  for (const Json& wrong : {Json(3), Json::array({"poodle"}), Json::array({Json::array()}),
                            Json::array({{"poodle", "poodle"}})}) {
    selection.params["uce_both"]["removals"] = wrong;
    CHECK_THROWS_WITH(Resolve(selection, "method", "uce_both"),
                      Contains("method 'uce_both'/removals"));
  }
}

TEST_CASE("a method that does not claim one of the list is asked for none of it") {
  const auto lab = PairLab(kTogether, {"none", "snapshot", "safe_clip"});
  DecodeParams(Json{{"concepts", {"poodle"}}}, *lab->methods[1].plugin, "test");
  ReadInputs(lab.get());
  for (const size_t subject : {kPoodle, kLion}) {
    CHECK(lab->ReasonNotClaimed(1, subject) ==
          "it is not said to remove 'lion' (its parameter 'concepts'), and one edit is to "
          "remove poodle, lion together");
    CHECK_THAT(lab->ReasonNotClaimed(2, subject),
               Contains("'poodle' is of category object, and one edit is to remove"));
    CHECK(lab->ReasonNotClaimed(kNone, subject).empty());
  }
  const Grid grid(*lab);
  CHECK(grid.removals().size() == 2);  // none's
  for (const size_t method : {1, 2}) {
    const std::vector<Record> records = RecordsOfCell(*lab, grid, {0, method, 0}, {});
    REQUIRE(records.size() == 3);
    for (const Record& record : records) {
      CHECK(record.status == "not_applicable");
      CHECK_THAT(record.reason, Contains("poodle, lion together"));
    }
  }
  // One that claims both is asked; so is one that claims the concept that is removed alone.
  DecodeParams(Json{{"concepts", {"poodle", "lion"}}}, *lab->methods[1].plugin, "test");
  CHECK(lab->ReasonNotClaimed(1, kPoodle).empty());
  lab->experiment.removals.clear();
  DecodeParams(Json{{"concepts", {"poodle"}}}, *lab->methods[1].plugin, "test");
  CHECK(lab->ReasonNotClaimed(1, kPoodle).empty());
  CHECK(lab->ReasonNotClaimed(1, kLion) ==
        "it is not said to remove 'lion' (its parameter 'concepts')");
}

TEST_CASE("a run of two concepts at once: records, denominators, cost, and the file again") {
  const auto lab = PairLab(kTogether, {"none", "esd", "uce"});
  constexpr size_t kEsd = 1;
  DecodeParams(Json{{"iterations", 2}, {"batch", 1}, {"trajectories", 2}, {"sampling_steps", 2}},
               *lab->methods[kEsd].plugin, "test");
  lab->attacks.resize(2);  // none and char_typo
  lab->metrics.push_back(TinyEntry<Metric>("retention"));
  lab->metrics.push_back(TinyEntry<Metric>("cost"));
  LeaveOutRemoved(lab.get());
  ReadInputs(lab.get());
  lab->numerics = Numerics({});
  for (std::string* digest :
       {&lab->backbone.digest, &lab->reference_clip.digest, &lab->own_clip.digest}) {
    *digest = Sha256Hex(*digest);
  }
  Store store(TestFolder("removals_run"));
  RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, {});
  CHECK(outcome.failures == 0);
  outcome.results.provenance["commit"] = "unknown";
  outcome.results.provenance["dirty"] = false;
  const Json json = ResultsToJson(outcome.results);
  CHECK(SchemaProblems(json, ReadJsonFile(RepoFile("results/schema.json"))) ==
        std::vector<std::string>{});
  CHECK(json.at("experiment").at("removals") == Json(kTogether));
  std::map<std::string, const Record*> records;
  for (const Record& record : outcome.results.records) {
    INFO(record.metric << " " << record.method << " " << record.subject << ": " << record.reason);
    CHECK(record.status == "ok");
    CHECK(record.protocol.at("removals") == Json(kTogether));
    if (record.attack == "none") {
      records[record.metric + "/" + record.method + "/" + record.subject] = &record;
    }
  }
  const Json& kept = records.at("retention/uce/poodle")->denominators;
  CHECK(kept == records.at("retention/none/poodle")->denominators);
  CHECK(kept.at("set") == 4);
  CHECK(kept.at("scored") == 2);
  CHECK(kept.at("reasons") == Json{{"excluded:removed_too", 2}});
  // The cost of an edit counts for each concept, as that of a removal of all concepts does.
  const double cost = records.at("cost/esd/poodle")->score.value;
  CHECK(cost > 0);
  CHECK(records.at("cost/esd/lion")->score.value == cost);
  CHECK(records.at("cost/esd/*")->score.value == cost);
  CHECK(store.Find(EraseKey(*lab, kEsd, kPoodle)).has_value());
  CHECK(ExperimentOf(json, "file", {}).removals == kTogether);
}

}  // namespace excise
