// The determinism contract, line by line: each promise that the README makes about bytes has a test
// that is named after it. Runs in this process on the embedded backbone, pinned as the golden
// profile is; tests/pipeline_test.cc and tests/fault_test.cc hold the program to the same through
// kills and damage, tests/replay_test.cc on processors of two vendors.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "core/files.h"
#include "experiments/check/check.h"
#include "experiments/check/verify.h"
#include "experiments/formats/results_file.h"
#include "experiments/results/recovery.h"
#include "experiments/run/grid.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

#define REQUIRE_MODELS()                                                             \
  if (!HaveModels()) {                                                               \
    WARN(                                                                            \
        "SKIPPED: models/emoji is not there; //models:pretrain_emoji makes it. The " \
        "determinism contract was not tested.");                                     \
    return;                                                                          \
  }

Folders OurFolders(const std::string&) {
  return {RepoFile("models/emoji/model_index.json").parent_path().parent_path(),
          RepoFile("datasets/concepts/poodle.json").parent_path()};
}

// A part of tests/tiny.json: two pictures a cell.
ExperimentChoices Small() {
  ExperimentChoices choices;
  choices.methods = {"uce"};
  choices.attacks = {"char_typo"};
  choices.metrics = {"asr"};
  choices.concepts = {"poodle"};
  return choices;
}

Results RunIn(const fs::path& store_folder, const ExperimentChoices& choices,
              RunOptions options = {}) {
  PinGolden();
  const std::unique_ptr<Lab> lab =
      OpenLab(LoadExperiment(RepoFile("tests/tiny.json"), choices), OurFolders(""));
  Store store(store_folder);
  RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, options);
  REQUIRE(outcome.failures == 0);
  Results& results = outcome.results;
  results.provenance["commit"] = "unknown";
  results.provenance["dirty"] = false;
  return std::move(results);
}

Results RunFresh(const std::string& name, const ExperimentChoices& choices,
                 const RunOptions& options = {}) {
  return RunIn(TestFolder("determinism_" + name), choices, options);
}

std::string Bytes(const Results& results) {
  std::string bytes = CanonicalJson(DeterministicPart(ResultsToJson(results)));
  for (const Row& row : results.rows) bytes += "\n" + CanonicalJson(RowToJson(row));
  return bytes;
}

const Results& Reference() {
  static const Results results = RunFresh("reference", Small());
  return results;
}

// What was drawn and what the judge saw, by row. The artifact's digest names all seeds and is left
// out.
std::map<std::string, std::string> Pictures(const Results& results, const std::string& method,
                                            const std::string& attack) {
  std::map<std::string, std::string> seen;
  for (const Row& row : results.rows) {
    if (row.method != method || row.attack != attack) continue;
    Json json = RowToJson(row);
    json.erase("artifact");
    seen[RowNameOf(json)] = CanonicalJson(json);
  }
  REQUIRE(!seen.empty());
  return seen;
}

std::vector<std::string> RecordBytes(const Results& results, const std::string& method,
                                     const std::string& attack) {
  std::vector<std::string> bytes;
  for (const Record& record : results.records) {
    if (record.metric == kRecovery) continue;  // of two rows, as comparisons are
    if (record.method == method && record.attack == attack) {
      bytes.push_back(CanonicalJson(RecordToJson(record)));
    }
  }
  REQUIRE(!bytes.empty());
  return bytes;
}

// A results file on the disk that may be tampered with.
class File {
 public:
  explicit File(const std::string& name, const Results& results = Reference())
      : folder_(TestFolder("determinism_" + name)), path(folder_ / "made.json") {
    WriteFileAtomically(path, ResultsToJson(results).dump(1) + "\n");
    std::string rows;
    for (const Row& row : results.rows) rows += CanonicalJson(RowToJson(row)) + "\n";
    WriteFileAtomically(rows_path(), rows);
  }
  fs::path rows_path() const { return folder_ / "made.rows.jsonl"; }
  void Edit(const std::function<void(Json*)>& change) const {
    Json results = ReadJsonFile(path);
    change(&results);
    WriteFileAtomically(path, results.dump(1) + "\n");
  }
  void ReplaceInRows(const std::string& from, const std::string& to) const {
    std::string rows;
    for (const Json& row : ReadResultRows(path)) rows += CanonicalJson(row) + "\n";
    const size_t at = rows.find(from);
    REQUIRE(at != std::string::npos);
    WriteFileAtomically(rows_path(), rows.replace(at, from.size(), to));
  }
  VerifyRequest Request() const {
    VerifyRequest request;
    request.file = path;
    request.scratch = folder_ / "scratch";
    request.folders = OurFolders;
    return request;
  }
  Verification Verify() const { return VerifyResults(Request()); }

 private:
  fs::path folder_;

 public:
  fs::path path;
};

// Index of the first record with a number of its own.
size_t Measured(const Json& results) {
  for (size_t i = 0; i < results.at("records").size(); ++i) {
    const Json& record = results.at("records")[i];
    if (record.at("method") == "uce" && record.at("attack") == "none") return i;
  }
  FAIL("no record");
  return 0;
}

}  // namespace

TEST_CASE("§5.1 the same config and numerics give byte-identical records") {
  REQUIRE_MODELS();
  CHECK(Bytes(RunFresh("again", Small())) == Bytes(Reference()));
}

TEST_CASE("§5.2 any number of workers and shards gives the same bytes") {
  REQUIRE_MODELS();
  RunOptions two;
  two.workers = 2;
  CHECK(Bytes(RunFresh("workers", Small(), two)) == Bytes(Reference()));
  const fs::path shared = TestFolder("determinism_shards");
  for (const int64_t shard : {2, 0, 1}) {
    RunOptions part;
    part.shard = {shard, 3};
    RunIn(shared, Small(), part);
  }
  CHECK(Bytes(RunIn(shared, Small())) == Bytes(Reference()));
}

TEST_CASE("§5.3 adding methods or attacks changes nothing else") {
  REQUIRE_MODELS();
  ExperimentChoices more = Small();
  more.methods = {"uce", "negative_prompt"};
  more.attacks = {"char_typo", "random"};
  const fs::path store = TestFolder("determinism_more");
  const Results results = RunIn(store, more);
  for (const char* method : {"none", "uce"}) {
    for (const char* attack : {"none", "char_typo"}) {
      CHECK(RecordBytes(results, method, attack) == RecordBytes(Reference(), method, attack));
      CHECK(Pictures(results, method, attack) == Pictures(Reference(), method, attack));
    }
  }
}

TEST_CASE("§5.4 the golden profile pins instruction sets and threads before the first operation") {
  REQUIRE_MODELS();
  const Json& numerics = Reference().inputs.at("numerics");
  CHECK(numerics.at("isa") == "AVX2");
  CHECK(numerics.at("onednn_isa") == "AVX2");
  CHECK(numerics.at("mkl_cbwr") == "COMPATIBLE");
  CHECK(numerics.at("intra_op_threads") == 1);
  CHECK(numerics.at("deterministic") == true);
  CHECK(numerics.at("fingerprint").get<std::string>().size() == 64);
}

TEST_CASE("§5.5 noise is keyed by the root prompt: what else is drawn does not matter") {
  REQUIRE_MODELS();
  ExperimentChoices one = Small();
  one.limit = 1;
  const Results alone = RunFresh("alone", one);
  const auto find = [](const Results& results, const Row& like) -> const Row& {
    for (const Row& row : results.rows) {
      if (RowNameOf(RowToJson(row)) == RowNameOf(RowToJson(like))) return row;
    }
    FAIL("no row");
    return like;
  };
  size_t compared = 0;
  for (const Row& row : alone.rows) {
    if (row.group != "target") continue;
    const Row& beside = find(Reference(), row);
    CHECK(beside.class_id == row.class_id);
    // The judge saw one picture here and two there, which may change its last bits; another noise
    // would be another picture.
    CHECK(beside.class_probability == Approx(row.class_probability).margin(1e-5));
    ++compared;
  }
  CHECK(compared == 4);  // two methods, two attacks
  // An attacked prompt has an id of its own and the noise of its root.
  for (const Row& row : Reference().rows) {
    if (row.attack == "char_typo") CHECK(row.prompt_id != row.root_id);
  }
}

TEST_CASE("§5.5 erase_seed, attack_seed and noise_seed are separate") {
  REQUIRE_MODELS();
  const auto with = [](const std::string& seed) {
    ExperimentChoices choices = Small();
    choices.settings = {"seeds." + seed + "=2"};
    return RunFresh("seed_" + seed, choices);
  };
  const Results erase = with("erase"), attack = with("attack"), noise = with("noise");
  const auto same = [](const Results& changed, const char* method, const char* attack_name) {
    return Pictures(changed, method, attack_name) == Pictures(Reference(), method, attack_name);
  };
  // UCE draws nothing, so another erase seed changes no picture at all.
  CHECK(same(erase, "none", "none"));
  CHECK(same(erase, "uce", "char_typo"));
  CHECK(same(attack, "none", "none"));
  CHECK(same(attack, "uce", "none"));
  CHECK_FALSE(same(attack, "none", "char_typo"));
  CHECK_FALSE(same(noise, "none", "none"));
  // The attack's words are those of its own seed, whatever the noise.
  std::map<std::string, std::string> words;
  for (const Row& row : Reference().rows) words[row.prompt_id] = row.prompt;
  for (const Row& row : noise.rows) CHECK(words.at(row.prompt_id) == row.prompt);
}

TEST_CASE("§5.5 the global generators' state is byte-equal before and after a run") {
  REQUIRE_MODELS();
  const auto state = [] {
    const at::Tensor bytes =
        at::globalContext().defaultGenerator(at::kCPU).get_state().contiguous();
    std::string copy(bytes.nbytes(), '\0');
    std::memcpy(copy.data(), bytes.const_data_ptr(), copy.size());
    return copy;
  };
  const std::string before = state();
  ExperimentChoices every = Small();
  every.methods = {"esd", "uce", "negative_prompt"};
  every.attacks = {"char_typo", "pez", "random"};
  RunFresh("generators", every);
  CHECK(state() == before);
}

TEST_CASE("§5.6 verify replays records and rows and finds every byte the same") {
  REQUIRE_MODELS();
  const File file("verified");
  const Verification whole = file.Verify();
  INFO(whole.report);
  CHECK(whole.verified);
  CHECK_THAT(whole.report, Contains("every byte is the same"));
  CHECK(fs::is_empty(file.Request().scratch));  // the store of the replay is gone
  VerifyRequest part = file.Request();
  part.records = {"uce / poodle / union / asr"};
  const Verification sample = VerifyResults(part);
  INFO(sample.report);
  CHECK(sample.verified);
  CHECK_THAT(sample.report, Contains("replayed: 6 of"));  // three attacks', one concept's and all's
}

TEST_CASE("§5.6 verify names a value, a row, a comparison that was tampered with") {
  REQUIRE_MODELS();
  {
    const File file("value");
    file.Edit([](Json* r) { (*r)["records"][Measured(*r)]["value"] = 0.125; });
    const Verification verification = file.Verify();
    CHECK_FALSE(verification.verified);
    CHECK_THAT(verification.report, Contains("DIFFERS in 1 places") &&
                                        Contains("uce / poodle / none / asr: /value was 0.125"));
  }
  {
    const File file("row");
    file.ReplaceInRows("\"class\":\"", "\"class\":\"x");
    const Verification verification = file.Verify();
    CHECK_FALSE(verification.verified);
    CHECK_THAT(verification.report, Contains("DIFFERS in 1 places") && Contains("/class was \"x"));
  }
  {
    // Not replayed by this sample, but it does not follow from the file's own samples.
    const File file("comparison");
    file.Edit([](Json* r) { (*r)["comparisons"][0]["p"] = 0.0001; });
    VerifyRequest request = file.Request();
    request.records = {"none / poodle / none / asr"};
    const Verification verification = VerifyResults(request);
    CHECK_FALSE(verification.verified);
    CHECK_THAT(verification.report, Contains("comparisons: /0/p was 0.0001"));
  }
  {
    const File file("dropped");
    WriteFileAtomically(file.rows_path(), "");
    const Verification verification = file.Verify();
    CHECK_FALSE(verification.verified);
    CHECK_THAT(verification.report, Contains("is missing in the file"));
  }
}

TEST_CASE("§5.6 verify says which input or version differs before it replays anything") {
  REQUIRE_MODELS();
  const File file("inputs");
  file.Edit([](Json* r) {
    (*r)["inputs"]["judge"]["sha"] = std::string(64, '0');
    (*r)["provenance"]["host_cpu"] = "a \x1b[31mCPU\nverified: every byte is the same.\n";
    for (Json& record : (*r)["records"]) {
      if (record["method"] == "uce") record["method_version"] = 77;
    }
  });
  const Verification verification = file.Verify();
  CHECK_FALSE(verification.verified);
  CHECK_THAT(verification.report, Contains("OTHER INPUTS") && Contains("/judge/sha was \"000") &&
                                      Contains("method uce: version 77 made the file") &&
                                      !Contains("replayed:"));
  // What the file says stays on its line and is shown, not obeyed.
  CHECK_THAT(verification.report,
             Contains("a \\x1b[31mCPU\\nverified") && !Contains("\x1b") && !Contains("\nverified"));
}

TEST_CASE("§5.6 verify refuses files that this program cannot replay, with a message") {
  REQUIRE_MODELS();
  const File unknown("unknown");
  unknown.Edit([](Json* r) {
    for (Json& record : (*r)["records"]) {
      if (record["method"] == "uce") record["method"] = "ucee";
    }
  });
  CHECK_THROWS_WITH(unknown.Verify(), Contains("made.json cannot be replayed by this program") &&
                                          Contains("Unknown method 'ucee'"));
  const File parameter("parameter");
  parameter.Edit([](Json* r) {
    for (Json& record : (*r)["records"]) {
      if (record["method"] == "uce") record["method_params"]["lambada"] = 1;
    }
  });
  CHECK_THROWS_WITH(parameter.Verify(), Contains("cannot be replayed") && Contains("lambada"));
  const File elsewhere("elsewhere");
  elsewhere.Edit([](Json* r) {
    for (Json& record : (*r)["records"]) {
      if (record["method"] == "uce") record["method_params"] = {{"plugin", "pictures"}};
    }
  });
  CHECK_THAT(elsewhere.Verify().report, Contains("OTHER INPUTS") && Contains("--images=DIR"));
}

TEST_CASE("§5.6 on other numerics verify holds values against what rounding explains") {
  REQUIRE_MODELS();
  const File file("numerics");
  file.Edit([](Json* r) { (*r)["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c'); });
  // A golden profile computes the same everywhere.
  const Verification golden = file.Verify();
  CHECK_FALSE(golden.verified);
  CHECK_THAT(golden.report,
             Contains("FALSE NUMERICS") && Contains("golden profile") && !Contains("replayed:"));
  file.Edit([](Json* r) {
    (*r)["experiment"]["golden"] = false;
    (*r)["inputs"]["numerics"].update(
        {{"isa", "AVX512"}, {"onednn_isa", "AVX512_CORE_AMX"}, {"mkl_cbwr", ""}});
    (*r)["provenance"]["host_cpu"] = "another CPU";
  });
  const Verification within = file.Verify();
  INFO(within.report);
  CHECK(within.verified);
  CHECK_THAT(within.report, Contains("other numerics: computed on another CPU, AVX512") &&
                                Contains("verified on other numerics") &&
                                Contains("tolerance: rounding explains") &&
                                Contains("not verified: title and caveat"));
  file.Edit([](Json* r) { (*r)["records"][Measured(*r)]["n"] = 1; });
  CHECK_FALSE(file.Verify().verified);
}

}  // namespace excise
