// Parts of a table as files, and the table put together from them.
#include "experiments/run/reuse.h"

#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "core/error.h"
#include "core/hash.h"
#include "core/store.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Keep = std::function<bool(const Cell&)>;

constexpr size_t kUce = 1;

// Rows none and uce, attacks none and char_typo, metrics asr and cost.
std::unique_ptr<Lab> PartsLab() {
  auto lab = TinyLab();
  lab->attacks.resize(2);
  lab->excluded.resize(1);
  lab->metrics.push_back(TinyEntry<Metric>("cost"));
  lab->experiment.title = "Tiny";
  lab->experiment.backbone = "tiny";
  lab->experiment.concepts = {"poodle"};
  lab->experiment.reference_rows = {"none"};
  lab->experiment.sampler.steps = 1;
  lab->numerics = Numerics({});
  SetJudge(lab.get(), TinyJudge(/*oracle=*/true));
  ReadInputs(lab.get());
  for (std::string* digest :
       {&lab->backbone.digest, &lab->reference_clip.digest, &lab->own_clip.digest}) {
    *digest = Sha256Hex(*digest);
  }
  return lab;
}

Results Run(const Lab& lab, const std::string& store, const Keep& keep = {},
            const Reused* reused = nullptr) {
  Store fresh(TestFolder("reuse_store_" + store));
  RunOptions options;
  options.reused = reused;
  RunOutcome outcome = RunExperiment(lab, Grid(lab, keep), fresh, options);
  CHECK(outcome.failures == 0);
  outcome.results.provenance["commit"] = "abc";
  outcome.results.provenance["dirty"] = false;
  return outcome.results;
}

fs::path Written(const Results& results, const std::string& name) {
  const fs::path file = TestFolder("reuse_" + name) / (name + ".json");
  WriteResults(results, {}, file);
  return file;
}

fs::path UceWithoutAttack(const Lab& lab) {
  return Written(Run(lab, "part", [](const Cell& c) { return c.method == kUce && c.attack == 0; }),
                 "part");
}

Json RowsOf(const Results& results) {
  Json rows = Json::array();
  for (const Row& row : results.rows) rows.push_back(RowToJson(row));
  return rows;
}

}  // namespace

TEST_CASE("a table that is put together from parts is the one that is computed at once") {
  const auto lab = PartsLab();
  const Results whole = Run(*lab, "whole");
  const fs::path first = UceWithoutAttack(*lab);
  const fs::path second =
      Written(Run(*lab, "second", [](const Cell& c) { return c.method != kUce; }), "second");
  const Reused reused = ReuseResults(lab.get(), {first, second});
  const Grid rest(*lab, [&](const Cell& cell) { return !reused.Has(cell); });
  REQUIRE(rest.cells().size() == 2);  // uce under char_typo: what no file has
  const Results joined = Run(
      *lab, "rest", [&](const Cell& cell) { return !reused.Has(cell); }, &reused);
  CHECK(DeterministicPart(ResultsToJson(joined)) == DeterministicPart(ResultsToJson(whole)));
  CHECK(RowsOf(joined) == RowsOf(whole));
  const Json& sources = joined.provenance.at("reused");
  REQUIRE(sources.size() == 2);
  CHECK(sources[0].at("file") == "part.json");
  CHECK(sources[0].at("cells") == 2);  // asr and cost
  CHECK(sources[0].at("commit") == "abc");
  // It can itself be reused, all of it.
  const Reused again = ReuseResults(lab.get(), {Written(joined, "joined")});
  CHECK(Grid(*lab, [&](const Cell& cell) { return !again.Has(cell); }).cells().empty());
}

TEST_CASE("a part that another CPU computed is taken, and the results say which") {
  const auto lab = PartsLab();
  const Json own = lab->numerics;
  lab->numerics["fingerprint"] = std::string(64, 'e');
  const fs::path part = UceWithoutAttack(*lab);
  const Json there = lab->numerics;
  lab->numerics = own;
  const Reused reused = ReuseResults(lab.get(), {part});
  CHECK(lab->numerics == own);
  CHECK(reused.Has({0, kUce, 0}));
  CHECK_FALSE(reused.Has({0, kUce, 1}));
  CHECK(reused.sources().at(0).at("numerics") == there);
  const Results joined = Run(
      *lab, "other", [&](const Cell& cell) { return !reused.Has(cell); }, &reused);
  CHECK(joined.rows.size() == Run(*lab, "other_whole").rows.size());
  // Whoever reuses the joined file finds both.
  const Reused again = ReuseResults(lab.get(), {Written(joined, "two_machines")});
  CHECK(again.sources().size() == 2);
  // Pictures of another precision are no pictures of this run.
  lab->numerics["dtype"] = "bfloat16";
  CHECK_THROWS_AS(ReuseResults(lab.get(), {part}), UsageError);
}

TEST_CASE("what is not of this run is not taken") {
  const auto lab = PartsLab();
  const fs::path part = UceWithoutAttack(*lab);
  const auto other = PartsLab();
  other->experiment.sampler.guidance = 9;
  CHECK_THROWS_WITH(ReuseResults(other.get(), {part}),
                    Contains("none of its numbers") && Contains("/sampler/guidance"));
  CHECK_THROWS_WITH(ReuseResults(lab.get(), {"nowhere.json"}), Contains("nowhere.json"));
  Results failed = Run(*lab, "failed", [](const Cell& c) { return c.method == kUce; });
  for (Record& record : failed.records) {
    if (record.attack != "none") continue;
    record.status = "error";
    record.reason = "no disk";
    record.score = {};
  }
  const Reused reused = ReuseResults(lab.get(), {Written(failed, "failed")});
  CHECK(reused.Has({0, kUce, 1}));
  CHECK_FALSE(reused.Has({0, kUce, 0}));
  // Numbers without their rows could not be printed as the run prints them.
  fs::path rows = part;
  fs::remove(rows.replace_extension(".rows.jsonl"));
  CHECK_THROWS_WITH(ReuseResults(lab.get(), {part}), Contains(".rows.jsonl"));
  CHECK(ReuseResults(lab.get(), {}).sources().empty());
}

}  // namespace excise
