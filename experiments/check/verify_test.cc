// Forged results: each kind of forgery that somebody may try on a genuine file, on the numerics of
// this machine and under the claim that other numerics computed it.
#include "experiments/check/verify.h"

#include <catch2/catch.hpp>
#include <functional>

#include "core/files.h"
#include "experiments/check/check_replay.h"
#include "experiments/check/recheck.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/numerics_claim.h"
#include "experiments/results/read_results.h"
#include "experiments/results/recovery.h"
#include "experiments/run/grid.h"
#include "experiments/run/report.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

// Two methods, two attacks, four target prompts and two of a neighbour, in two steps.
Json SmallExperiment() {
  return {{"name", "small"},
          {"backbone", "emoji"},
          {"concepts", {"poodle"}},
          {"reference_rows", {"none"}},
          {"prompts",
           {{"dataset", "emoji_prompts"}, {"target", 4}, {"near", 2}, {"far", 0}, {"lexical", 0}}},
          {"sampler", {{"steps", 2}, {"guidance", 3}, {"images_per_prompt", 1}, {"unit_size", 2}}},
          {"seeds", {{"erase", 1}, {"attack", 1}, {"noise", 1}}},
          {"methods", {{"only", {"uce"}}}},
          {"attacks", {{"only", {"char_typo"}}}},
          {"metrics", {{"only", {"asr", "clip_score"}}}}};
}

// One genuine run; what a replay of its file gives.
struct Genuine {
  std::unique_ptr<Lab> lab;
  Results results;

  Genuine() {
    UseOneThreadPerWorker();
    lab = OpenLab(MakeExperiment(SmallExperiment(), "small", {}),
                  {RepoFile("models/emoji/model_index.json").parent_path().parent_path(),
                   RepoFile("datasets/concepts/poodle.json").parent_path()});
    Store store(TestFolder("verify"));
    results = RunExperiment(*lab, Grid(*lab), store, {}).results;
    results.provenance["commit"] = "unknown";
    results.provenance["dirty"] = false;
  }
};

const Genuine& Run() {
  static const Genuine genuine;
  return genuine;
}

struct File {
  Json results;
  std::vector<Json> rows;

  File() : results(ResultsToJson(Run().results)) {
    for (const Row& row : Run().results.rows) rows.push_back(RowToJson(row));
  }
  // Another machine's, as far as the file says.
  void Elsewhere() {
    results["inputs"]["numerics"].update({{"fingerprint", std::string(64, 'c')},
                                          {"isa", "AVX512"},
                                          {"onednn_isa", "AVX512_CORE"},
                                          {"mkl_cbwr", ""}});
    results["provenance"]["host_cpu"] = "another CPU";
  }
  Json& Record(const std::string& method, const std::string& metric) {
    for (Json& record : results["records"]) {
      if (record["method"] == method && record["metric"] == metric && record["attack"] == "none" &&
          record["concept"] == kAllConcepts) {
        return record;
      }
    }
    throw std::runtime_error("no record");
  }
  // Comparisons and worst cases made anew, so that they give nothing away.
  void Derive() {
    results["comparisons"] = Json::array();
    for (const Comparison& c : CompareAll(ResultsFromJson(results).records)) {
      results["comparisons"].push_back(ComparisonToJson(c));
    }
  }
};

ReplayCheck Check(const File& file) {
  const Results read = ResultsFromJson(file.results);
  return CheckReplay(file.results, file.rows, read, *Run().lab, Run().results,
                     [](const Json&) { return true; });
}

// Writes a score of other samples into a record, consistent in itself.
void Rescore(Json* record, const std::function<double(double)>& change) {
  std::vector<Observation> observations;
  for (size_t i = 0; i < (*record)["per_sample"].size(); ++i) {
    observations.push_back(
        {(*record)["sample_ids"][i], change((*record)["per_sample"][i].get<double>())});
  }
  Score score = MeanScore(observations);
  score.parts = (*record)["parts"].get<std::map<std::string, double>>();
  record->update(ScoreToJson(score));
}

struct Forgery {
  const char* name;
  std::function<void(File*)> forge;
  const char* told;  // on other numerics
};

const std::vector<Forgery>& Forgeries() {
  static const std::vector<Forgery> forgeries = {
      {"inverted rates, with everything that follows from them",
       [](File* file) {
         for (Json& record : file->results["records"]) {
           if (record["metric"] != "asr" || record["concept"] != kAllConcepts) continue;
           Rescore(&record, [](double value) { return 1 - value; });
         }
         file->Derive();
       },
       "more than the tolerance"},
      {"a large error and interval, and a rate within them",
       [](File* file) {
         Json& record = file->Record("uce", "asr");
         record["value"] = 1 - record["value"].get<double>() + 0.5;
         record["stderr"] = 10;
         record["ci95"] = {-10, 10};
       },
       "more than the tolerance"},
      {"a large error alone", [](File* file) { file->Record("uce", "asr")["stderr"] = 0.9; },
       "/stderr was 0.9"},
      {"a narrow interval",
       [](File* file) {
         Json& record = file->Record("uce", "clip_score");
         record["ci95"] = {record["value"], record["value"]};
       },
       "/ci95/0 was"},
      {"a score that its samples do not have",
       [](File* file) {
         Json& record = file->Record("uce", "clip_score");
         record["value"] = record["value"].get<double>() * 1.0001;
       },
       "/value was"},
      {"every row's outcome flipped",
       [](File* file) {
         for (Json& row : file->rows) {
           row["outcome"] = row["outcome"] == "target" ? "garbage" : "target";
         }
       },
       "rounding explains 1"},
      {"every row's class",
       [](File* file) {
         for (Json& row : file->rows) row["class"] = "gift";
       },
       "rounding explains 1"},
      {"every row's certainty",
       [](File* file) {
         for (Json& row : file->rows) row["class_probability"] = 2;
       },
       "rounding explains 1"},
      {"one row that its record does not know",
       [](File* file) {
         Json& row = file->rows.front();
         row["outcome"] = row["outcome"] == "target" ? "garbage" : "target";
       },
       "is not what its row says"},
      {"p = 1e-9",
       [](File* file) {
         for (Json& comparison : file->results["comparisons"]) comparison["p"] = 1e-9;
       },
       "comparisons: /0/p was 1e-09"},
      {"a difference between methods",
       [](File* file) { file->results["comparisons"][0]["difference"] = -0.9; },
       "comparisons: /0/difference was -0.9"},
      {"a worst case that no attack reached",
       [](File* file) {
         for (Json& record : file->results["records"]) {
           if (record["attack"] != kUnion || record["concept"] != kAllConcepts) continue;
           record["ci95"] = {0, 1e-3};
         }
       },
       "/ci95/1 was 0.001"},
      {"no comparisons", [](File* file) { file->results["comparisons"] = Json::array(); },
       "is new"},
      {"records in another order",
       [](File* file) {
         Json& records = file->results["records"];
         std::swap(records[0], records[1]);
       },
       "the records are in another order"},
      {"a record less", [](File* file) { file->results["records"].erase(0); }, "is new"},
      {"rows in another order",
       [](File* file) { std::swap(file->rows.front(), file->rows.back()); },
       "the rows are in another order"},
      {"a row less", [](File* file) { file->rows.pop_back(); }, "is missing in the file"},
      {"a row more",
       [](File* file) {
         file->rows.push_back(file->rows.back());
         file->rows.back()["replicate"] = 5;
       },
       "no such picture is drawn"},
      {"another prompt", [](File* file) { file->rows.front()["prompt"] = "a picture of a cat"; },
       "/prompt was \"a picture of a cat\""},
      {"another protocol",
       [](File* file) { file->Record("uce", "asr")["protocol"]["guidance"] = 7.5; },
       "/protocol/guidance was 7.5"},
      {"another denominator",
       [](File* file) { file->Record("uce", "asr")["denominators"]["set"] = 1000; },
       "/denominators/set was 1000"},
      {"fewer pictures", [](File* file) { file->Record("uce", "asr")["n"] = 1; }, "n was 1, now 4"},
      {"a cell that is not applicable",
       [](File* file) {
         Json& record = file->Record("uce", "asr");
         record["status"] = "not_applicable";
         for (const char* of_numbers :
              {"value", "stderr", "ci95", "n", "parts", "per_sample", "sample_ids"}) {
           record.erase(of_numbers);
         }
       },
       "status was \"not_applicable\""},
      {"knowledge that the method did not have",
       [](File* file) { file->Record("uce", "asr")["uses"] = Json::array(); }, "/uses"},
  };
  return forgeries;
}

#define REQUIRE_MODELS()                                                                   \
  if (!HaveModels()) {                                                                     \
    WARN(                                                                                  \
        "SKIPPED: models/emoji is not there; //models:pretrain_emoji makes it. Forgeries " \
        "were not tested.");                                                               \
    return;                                                                                \
  }

}  // namespace

TEST_CASE("a genuine file is verified, on these numerics and on others") {
  REQUIRE_MODELS();
  File file;
  const ReplayCheck same = Check(file);
  CHECK(same.problems == std::vector<std::string>{});
  CHECK(same.same_numerics);
  file.Elsewhere();
  const ReplayCheck other = Check(file);
  CHECK(other.problems == std::vector<std::string>{});
  CHECK_FALSE(other.same_numerics);
  CHECK(other.rows == static_cast<int64_t>(file.rows.size()));
}

TEST_CASE("a file of a CPU that computes alike, or with cells of one, is held to rounding") {
  REQUIRE_MODELS();
  const auto other_digests = [](File* file) {
    for (Json& record : file->results["records"]) {
      for (Json& digest : record["lineage"]) digest = std::string(64, 'd');
    }
    for (Json& row : file->rows) row["artifact"] = std::string(64, 'd');
  };
  File alike, joined;
  other_digests(&alike);
  other_digests(&joined);
  CHECK_FALSE(Check(alike).problems.empty());  // on these numerics digests must be these
  alike.results["inputs"]["numerics"]["onednn_isa"] = "AVX512_CORE_AMX";
  Json there = joined.results["inputs"]["numerics"];
  there["onednn_isa"] = "AVX512_CORE_AMX";
  joined.results["provenance"]["reused"] = Json::array({{{"file", "part.json"},
                                                         {"cells", 1},
                                                         {"commit", "abc"},
                                                         {"host_cpu", "another CPU"},
                                                         {"numerics", there}}});
  for (const File* file : {&alike, &joined}) {
    const ReplayCheck check = Check(*file);
    CHECK(check.problems == std::vector<std::string>{});
    CHECK_FALSE(check.same_numerics);
  }
  alike.Record("uce", "asr")["value"] = 0.123;
  CHECK_FALSE(Check(alike).problems.empty());
}

TEST_CASE("every forgery is found, on these numerics and under the claim of others") {
  REQUIRE_MODELS();
  for (const Forgery& forgery : Forgeries()) {
    INFO(forgery.name);
    File here;
    forgery.forge(&here);
    CHECK_FALSE(Check(here).problems.empty());
    File elsewhere;
    elsewhere.Elsewhere();
    forgery.forge(&elsewhere);
    const ReplayCheck check = Check(elsewhere);
    std::string told;
    for (const std::string& line : check.problems) told += line + "\n";
    CHECK_THAT(told, Contains(forgery.told));
  }
}

namespace {

Json Claim(bool golden, const Json& numerics, const std::string& cpu) {
  Json results = ResultsToJson(MadeUpResults());
  results["experiment"]["golden"] = golden;
  results["inputs"]["numerics"] = numerics;
  results["provenance"]["host_cpu"] = cpu;
  return results;
}

Json NumericsOf(const char* isa, const char* onednn_isa, const char* mkl_cbwr, char fingerprint) {
  return {{"device", "cpu"},
          {"dtype", "float32"},
          {"intra_op_threads", 1},
          {"deterministic", true},
          {"isa", isa},
          {"onednn_isa", onednn_isa},
          {"mkl_cbwr", mkl_cbwr},
          {"libtorch", "2.11.0"},
          {"fingerprint", std::string(64, fingerprint)}};
}

}  // namespace

TEST_CASE("a claim of other numerics is believed only where this machine cannot have them") {
  const Json wide = NumericsOf("AVX512", "AVX512_CORE_AMX", "", 'a');
  const Json pinned = NumericsOf("AVX2", "AVX2", "COMPATIBLE", 'b');
  const auto doubt = [](const Json& file, const Json& here) {
    return NumericsDoubt(file, here, "this CPU");
  };
  Json other = wide;
  other["fingerprint"] = std::string(64, 'f');
  // The instruction sets and the CPU of this machine.
  CHECK_THAT(doubt(Claim(false, other, "this CPU"), wide), Contains("this machine"));
  CHECK(NumericsDoubt(Claim(false, other, "this CPU"), wide, "").empty());  // it was narrowed
  // The same sets by name on another CPU: MKL chooses by the vendor.
  CHECK(doubt(Claim(false, other, "that CPU"), wide).empty());
  // Other sets.
  CHECK(doubt(Claim(false, NumericsOf("AVX2", "AVX2", "", 'f'), "that CPU"), wide).empty());
  CHECK(doubt(Claim(false, other, "that CPU"), NumericsOf("AVX2", "AVX2", "", 'b')).empty());
  // Sets that compute the same everywhere, in a golden file and in any other.
  Json forged = pinned;
  forged["fingerprint"] = std::string(64, 'f');
  CHECK_THAT(doubt(Claim(false, forged, "that CPU"), pinned), Contains("the same on every CPU"));
  CHECK_THAT(doubt(Claim(true, forged, "that CPU"), pinned), Contains("golden profile"));
  CHECK_THAT(doubt(Claim(true, other, "that CPU"), pinned), Contains("golden profile"));
  forged["libtorch"] = "2.4.0";
  CHECK_THAT(doubt(Claim(true, forged, "that CPU"), pinned), Contains("LibTorch 2.4.0"));
  // What no run of this program has.
  other["intra_op_threads"] = 64;
  CHECK_THAT(doubt(Claim(false, other, "that CPU"), wide), Contains("intra_op_threads is 64"));
}

TEST_CASE("recovery must follow from the rates that a file has") {
  Results results;
  results.experiment = {{"reference_rows", {"none", "retrained"}}};
  for (const char* method : {"none", "retrained", "uce"}) {
    const bool edited = method == std::string("uce");
    results.records.push_back(MadeUpRecord(method, "none", "asr", MadeUpRate(20, 0)));
    results.records.push_back(MadeUpRecord(method, "pez", "asr", MadeUpRate(20, edited ? 9 : 1)));
    if (method == std::string("retrained")) results.records.back().uses = {"training_data"};
  }
  for (Record& record : UnionRecords(results.records)) results.records.push_back(record);
  results.comparisons = CompareAll(results.records);
  CHECK(DerivedProblems(results).empty());  // earlier files have none
  for (Record& record : RecoveryRecords(results.experiment, results.records)) {
    results.records.push_back(record);
  }
  CHECK(DerivedProblems(results).empty());
  Results forged = results;
  REQUIRE(RecordName(forged.records.back()) == "uce / * / union / recovery");
  forged.records.back().score.value = 0;
  REQUIRE(DerivedProblems(forged).size() == 1);
  CHECK_THAT(DerivedProblems(forged)[0], Contains("uce / * / union / recovery"));
  forged.records.pop_back();
  CHECK(DerivedProblems(forged) ==
        std::vector<std::string>{"uce / * / union / recovery: is missing in the file"});
}

TEST_CASE("tables beside a file that are not what its records render to are named") {
  REQUIRE_MODELS();
  const std::filesystem::path file = TestFolder("verify_documents") / "small.json";
  const auto beside = [&](const char* extension) {
    std::filesystem::path path = file;
    return path.replace_extension(extension);
  };
  const Results read = ResultsFromJson(ResultsToJson(Run().results));
  CHECK(UnverifiedDocuments(read, file).empty());
  WriteFileAtomically(beside(".md"), "uce 0 %\n");
  WriteFileAtomically(beside(".html"), "<p>uce 0 %");
  const std::vector<std::string> named = UnverifiedDocuments(read, file);
  REQUIRE(named.size() == 2);
  CHECK_THAT(named[0], Contains("small.md is not what these records render to"));
  CHECK(named[1] == "small.html");
}

}  // namespace excise
