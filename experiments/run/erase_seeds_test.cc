// Several erase seeds: a method that draws is erased with each, and its row pools all its edits.
// The lab is put together by hand, from tiny models.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "core/json_schema.h"
#include "core/store.h"
#include "experiments/formats/results_file.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/read_results.h"
#include "experiments/run/grid.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/plan.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;

constexpr size_t kNone = 0, kUce = 1, kDice = 2;  // rows, and the first edit of each

// Moves the U-Net's output by what it draws, which takes as many steps as it draws.
class Dice : public Method {
 public:
  explicit Dice(bool declared = true) : declared_(declared) {}
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits;
    traits.seeded = declared_;
    return traits;
  }
  Erased Erase(Context& context, const Backbone& base, const std::vector<Concept>&) const override {
    Philox rng = context.Rng("dice");
    context.CountUnetEvaluations(10 + static_cast<int64_t>(rng.Below(1000)));
    Erased erased;
    erased.unet.Set("conv_out.bias", base.unet.Get("conv_out.bias").add(rng.Normal()));
    return erased;
  }

 private:
  const bool declared_;
};

// Crafted against each edited model.
class WhiteBox : public Attack {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.gradients = true;
    return traits;
  }
  Trajectory Craft(Target&, const Concept&, const Prompt& prompt) const override {
    Candidate candidate;
    candidate.prompt = prompt;
    candidate.prompt.text += " now";
    return {candidate};
  }
};

// Rows none, uce and dice; attacks none and white_box.
std::unique_ptr<Lab> DiceLab(int64_t first, const std::vector<int64_t>& more) {
  auto lab = TinyLab();
  InputFiles none;
  lab->methods.push_back(MakeEntry<Method>("dice", "dice", std::make_unique<Dice>(), &none));
  lab->attacks.resize(1);
  lab->attacks.push_back(
      MakeEntry<Attack>("white_box", "white_box", std::make_unique<WhiteBox>(), &none));
  lab->excluded.resize(1);
  lab->experiment.title = "Tiny";
  lab->experiment.backbone = "tiny";
  lab->experiment.concepts = {"poodle"};
  lab->experiment.reference_rows = {"none"};
  lab->experiment.sampler.steps = 1;
  lab->experiment.seeds.erase = first;
  lab->experiment.seeds.more_erase = more;
  SetJudge(lab.get(), TinyJudge(/*oracle=*/true));
  AddEdits(lab.get());
  ReadInputs(lab.get());
  return lab;
}

std::string UnitDigest(const Lab& lab, size_t method, size_t attack) {
  return UnitsOf(lab, method, 0, attack, "target").at(0).digest;
}

const Record& RecordOf(const Results& results, const std::string& method, const std::string& metric,
                       const std::string& subject = kAllConcepts) {
  for (const Record& record : results.records) {
    if (record.method == method && record.metric == metric && record.subject == subject &&
        record.attack == "none") {
      return record;
    }
  }
  throw Error("no record of " + method);
}

}  // namespace

TEST_CASE("a method that draws has an edit for each seed, others one") {
  const auto lab = DiceLab(1, {2, 3});
  REQUIRE(lab->methods.size() == 5);
  CHECK(lab->Rows() == std::vector<size_t>{kNone, kUce, kDice});
  CHECK(lab->EditsOf(kUce) == 1);
  for (const size_t edit : {0, 1, 2}) {
    CHECK(lab->methods[kDice + edit].name == "dice");
    CHECK(lab->RowOf(kDice + edit) == kDice);
    CHECK(lab->EditsOf(kDice + edit) == 3);
    CHECK(lab->EraseSeedOf(kDice + edit) == static_cast<int64_t>(edit + 1));
  }
  CHECK(DiceLab(1, {})->methods.size() == 3);
}

TEST_CASE("the keys of an edit are those of an experiment with its seed alone") {
  const auto three = DiceLab(1, {2, 3});
  for (const size_t edit : {0, 1, 2}) {
    const auto alone = DiceLab(static_cast<int64_t>(edit) + 1, {});
    CHECK(EraseKey(*three, kDice + edit, 0) == EraseKey(*alone, kDice, 0));
    for (const size_t attack : {0, 1}) {
      CHECK(UnitDigest(*three, kDice + edit, attack) == UnitDigest(*alone, kDice, attack));
    }
  }
  // What does not draw keeps the first seed.
  CHECK(EraseKey(*three, kUce, 0) == EraseKey(*DiceLab(1, {}), kUce, 0));
  std::set<std::string> digests;
  for (const size_t edit : {0, 1, 2}) digests.insert(UnitDigest(*three, kDice + edit, 0));
  CHECK(digests.size() == 3);
}

TEST_CASE("the grid erases and attacks every edit, and a cell gathers them") {
  const auto lab = DiceLab(1, {2, 3});
  const Grid grid(*lab);
  CHECK(grid.removals().size() == 5);
  CHECK(grid.craftings().size() == 5 * 3);  // three prompts against each edited model
  CHECK(grid.cells().size() == 3 * 2);      // rows x attacks
  CHECK(grid.units().size() == 5 * 2 * 2);  // edits x attacks x two units
  for (const size_t attack : {0, 1}) {
    CHECK(grid.UnitsOfCell({0, kDice, attack})[0].units.size() == 3 * 2);
    CHECK(grid.UnitsOfCell({0, kUce, attack})[0].units.size() == 2);
    CHECK(grid.UnitsOfCell({0, kDice, attack})[0].base.size() == 2);
  }
  // A part of the grid keeps all edits of its rows.
  const Grid part(*lab, [](const Cell& cell) { return cell.method == kDice && cell.attack == 0; });
  CHECK(part.removals().size() == 4);  // with the unmodified model's
  CHECK(part.RemovalOf(kDice + 2, 0) < part.removals().size());
  const Plan plan = MakePlan(*lab, grid, [](const Json&) { return false; });
  CHECK(plan.at("erase").missing.size() == 5);
  CHECK_THAT(DescribePlan(*lab, grid, plan, {}),
             Contains("3 methods x 2 attacks") && Contains("5 edited models in place of 3"));
}

TEST_CASE("who does not declare that it draws gets no stream") {
  const auto lab = DiceLab(1, {2});
  InputFiles none;
  lab->methods.push_back(MakeEntry<Method>("sly", "sly", std::make_unique<Dice>(false), &none));
  ReadInputs(lab.get());
  const size_t sly = lab->methods.size() - 1;
  EraseContext context(*lab, sly, 0, "unused", nullptr);
  CHECK_THROWS_WITH(context.Rng("dice", 0), Contains("'sly'") && Contains("traits().seeded"));
  const auto of_two = DiceLab(2, {});
  EraseContext second(*lab, kDice + 1, 0, "unused", nullptr);
  EraseContext alone(*of_two, kDice, 0, "unused", nullptr);
  CHECK(second.Rng("dice", 0).NextU64() == alone.Rng("dice", 0).NextU64());
}

TEST_CASE("a run pools the edits of a row, and says how many they are") {
  const auto lab = DiceLab(1, {2, 3});
  lab->attacks.resize(1);
  lab->metrics.push_back(TinyEntry<Metric>("cost"));
  ReadInputs(lab.get());
  lab->numerics = Numerics({});
  for (std::string* digest :
       {&lab->backbone.digest, &lab->reference_clip.digest, &lab->own_clip.digest}) {
    *digest = Sha256Hex(*digest);
  }
  Store store(TestFolder("erase_seeds_run"));
  RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, {});
  CHECK(outcome.failures == 0);
  const Results& results = outcome.results;
  const Record &dice = RecordOf(results, "dice", "asr"), &uce = RecordOf(results, "uce", "asr");
  REQUIRE(dice.status == "ok");
  CHECK(dice.score.n == 9);
  CHECK(dice.denominators.at("edits") == 3);
  CHECK(dice.denominators.at("set") == 9);
  CHECK(dice.denominators.at("scored") == 9);
  CHECK(dice.score.sample_ids[1] == "poodle/target/t/0#0@2");
  CHECK(dice.score.over_concepts.has_value());
  CHECK(uce.score.n == 3);
  CHECK_FALSE(uce.denominators.contains("edits"));
  CHECK(uce.score.sample_ids[0] == "poodle/target/t/0#0");
  CHECK_FALSE(uce.score.over_concepts.has_value());
  CHECK(dice.protocol.at("set_sha") == uce.protocol.at("set_sha"));
  const Comparison* test =
      FindComparison(results.comparisons, "asr", "", "methods", "none", "dice", "uce");
  REQUIRE(test != nullptr);
  CHECK(test->n == 9);
  CHECK(test->test == "sign_flip");

  // What an edit takes hangs on its seed: the cost is the mean.
  double sum = 0;
  for (const int64_t seed : {1, 2, 3}) {
    const auto alone = DiceLab(seed, {});
    EraseContext context(*alone, kDice, 0, "unused", nullptr);
    sum += 10 + static_cast<double>(context.Rng("dice", 0).Below(1000));
  }
  CHECK(RecordOf(results, "dice", "cost").score.value == Approx(sum / 3));

  std::set<std::string> names;
  int64_t rows = 0;
  for (const Row& row : results.rows) {
    CHECK(row.erase_seed.has_value() == (row.method == "dice"));
    rows += row.method == "dice";
    names.insert(RowNameOf(RowToJson(row)));
    CHECK(RowToJson(RowFromJson(RowToJson(row))) == RowToJson(row));
  }
  CHECK(rows == 9);
  CHECK(names.size() == results.rows.size());

  outcome.results.provenance["commit"] = "unknown";
  outcome.results.provenance["dirty"] = false;
  const Json json = ResultsToJson(outcome.results);
  CHECK(SchemaProblems(json, ReadJsonFile(RepoFile("results/schema.json"))) ==
        std::vector<std::string>{});
  CHECK(json.at("experiment").at("seeds").at("erase") == Json{1, 2, 3});
  CHECK(ResultsToJson(ResultsFromJson(json, "file")) == json);
  // The same again does no work; a seed more is one edit more.
  const auto more = DiceLab(1, {2, 3, 4});
  const auto stored = [&](const Json& key) { return store.Holds(key); };
  CHECK(MakePlan(*lab, Grid(*lab), stored).at("erase").missing.empty());
  more->attacks.resize(1);
  more->numerics = lab->numerics;
  more->backbone.digest = lab->backbone.digest;
  ReadInputs(more.get());
  CHECK(MakePlan(*more, Grid(*more), stored).at("erase").missing.size() == 1);
}

TEST_CASE("shards draw with the models that they erased") {
  const auto lab = DiceLab(1, {2, 3});
  const Grid grid(*lab);
  for (const Unit& unit : grid.units()) {
    const size_t removal = grid.RemovalOf(unit.method, unit.subject);
    REQUIRE(removal < grid.removals().size());
    CHECK(grid.removals()[removal].method == unit.method);
  }
}

}  // namespace excise
