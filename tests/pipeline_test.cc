// The table program as a process, on tests/tiny.json and the embedded backbone: the same bytes for
// any number of workers and shards and after any kill; damaged stores, bad input, full disks. The
// build says where the program is (EXCISE_TABLE).
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/json.h"
#include "core/json_schema.h"
#include "core/random.h"
#include "core/text.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

ProcessResult Run(const std::vector<std::string>& arguments, const std::string& device = "") {
  ProcessSetup setup;
  setup.out = device;
  return Process("EXCISE_TABLE", arguments, setup).Wait();
}

std::vector<std::string> Tiny(const fs::path& cache, const std::vector<std::string>& more = {},
                              int workers = 2) {
  std::vector<std::string> arguments = {
      RepoFile("tests/tiny.json").string(),
      "--models=" + RepoFile("models/emoji").parent_path().string(), "--cache=" + cache.string(),
      "--workers=" + std::to_string(workers)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

#define REQUIRE_MODELS()                                                                      \
  if (!HaveModels()) {                                                                        \
    WARN(                                                                                     \
        "SKIPPED: models/emoji is not there; //models:pretrain_emoji makes it. The pipeline " \
        "was not tested.");                                                                   \
    return;                                                                                   \
  }

// What must be the same of the results at `stem`: the deterministic part, the rows, the table.
std::string Bytes(const fs::path& stem) {
  Json results = ReadJsonFile(stem.string() + ".json");
  results.erase("cost");
  results.erase("provenance");
  return CanonicalJson(results) + ReadBytes(stem.string() + ".rows.jsonl") +
         ReadBytes(stem.string() + ".md") + ReadBytes(stem.string() + ".tex") +
         ReadBytes(stem.string() + ".csv");
}

std::vector<std::string> With(std::vector<std::string> arguments, const std::string& more) {
  arguments.push_back(more);
  return arguments;
}

// Every plug-in takes part in one of these: all methods, and all attacks on methods that train,
// solve, hook and filter. (All attacks on all methods are for the night.)
std::vector<std::vector<std::string>> Everything() {
  if (Nightly()) return {{}};
  return {{"--attacks=none,alias"},
          {"--methods=none,retrained,esd,uce,latent_blend,espresso", "--concepts=poodle"}};
}

// What stands for the whole where a test runs it again: a method that trains, one that solves, one
// that hooks, and an attack of each kind.
std::vector<std::string> Part() {
  return {"--methods=none,esd,uce,latent_blend", "--concepts=poodle",
          "--attacks=none,char_typo,pez,unlearn_diff_atk"};
}

// A store that holds this part alone, and its results at `PartStem()`.
fs::path PartStem() {
  static const fs::path stem = [] {
    const fs::path folder = TestFolder("part");
    const ProcessResult result =
        Run(Tiny(folder, With(Part(), "--out=" + (folder / "part.json").string())));
    INFO(result.err);
    REQUIRE(result.code == 0);
    return folder / "part";
  }();
  return stem;
}

// That run once more.
ProcessResult PartAgain(const std::string& more = "") {
  std::vector<std::string> arguments = With(Part(), "--out=" + PartStem().string() + ".json");
  if (!more.empty()) arguments.push_back(more);
  return Run(Tiny(PartStem().parent_path(), arguments));
}

// Of a run of what is `asked` for.
std::string BytesOf(const fs::path& cache, std::vector<std::string> asked, int workers) {
  const fs::path stem = TestFolder("bytes") / "results";
  asked.push_back("--out=" + stem.string() + ".json");
  const ProcessResult result = Run(Tiny(cache, asked, workers));
  INFO(result.err);
  REQUIRE(result.code == 0);
  return Bytes(stem);
}

// The program is refused `arguments` with exit code 2 and a message.
void Refused(const std::vector<std::string>& arguments, const std::string& message, int code = 2) {
  const ProcessResult result = Run(arguments);
  INFO(message << " in\n" << result.err);
  CHECK(result.code == code);
  CHECK_THAT(result.err, Contains(message));
  CHECK(result.out.empty());
}

// A number, or why there is none. The judge's word on a method that removes any concept, under an
// attack that fits any method, is always there.
void CheckAnswered(const Json& record) {
  const std::string status = record["status"], reason = record["reason"];
  INFO(record["method"] << " " << record["attack"] << " " << record["metric"] << ": " << reason);
  CHECK(status != "error");
  CHECK((status == "ok") == reason.empty());
  const std::string attack = record["attack"];
  const bool any_attack = attack.find("_adaptive") == std::string::npos;
  if (record["metric"] == "asr" && record["method"] != "safe_clip" && any_attack) {
    CHECK(status == "ok");
  }
}

}  // namespace

TEST_CASE("a run writes results that fit their schema, and a stored run does no work") {
  REQUIRE_MODELS();
  const fs::path cache = TestFolder("straight");
  const Json schema = ReadJsonFile(RepoFile("results/schema.json"));
  for (const std::vector<std::string>& part : Everything()) {
    const fs::path stem = cache / "tiny";
    const std::vector<std::string> asked = With(part, "--out=" + stem.string() + ".json");
    const ProcessResult straight = Run(Tiny(cache, asked));
    INFO(straight.err);
    REQUIRE(straight.code == 0);
    CHECK_THAT(straight.out, Contains("\nnone "));
    const Json results = ReadJsonFile(stem.string() + ".json");
    CHECK(SchemaProblems(results, schema) == std::vector<std::string>{});
    for (const Json& record : results["records"]) CheckAnswered(record);
    const std::string before = Bytes(stem);
    const ProcessResult again = Run(Tiny(cache, asked));
    CHECK(again.code == 0);
    CHECK_THAT(again.err, Catch::StartsWith("tiny (profile default): everything is stored") &&
                              Contains("\ntook ") && Contains("; peak memory "));
    CHECK(Bytes(stem) == before);
    CHECK(ReadJsonFile(stem.string() + ".json")["cost"]["work_seconds"].empty());
    const ProcessResult plan = Run(Tiny(cache, With(asked, "--dry_run")));
    CHECK(plan.code == 0);
    CHECK_THAT(plan.out, Contains("nothing to draw"));
  }
}

TEST_CASE("each format is printed as it is written, and the page shows pictures and its command") {
  REQUIRE_MODELS();
  for (const char* format : {"md", "tex", "csv", "json", "html"}) {
    const ProcessResult result = PartAgain("--format=" + std::string(format));
    INFO(format << "\n" << result.err);
    CHECK(result.code == 0);
    CHECK(result.out == ReadBytes(PartStem().string() + "." + format));
    if (std::string(format) != "html") continue;
    CHECK_THAT(result.out, Contains("<img alt=\"") && Contains("src=\"data:image/png;base64,"));
    CHECK_THAT(result.out, Contains("Success by budget") && Contains("What attacks spent"));
    CHECK_THAT(result.out, Contains("./bazelw run //experiments:tiny -- --models="));
  }
  Refused(Tiny(PartStem().parent_path(), {"--format=htm"}), "Did you mean 'html'?");
}

TEST_CASE("what is printed without --format is laid out for a terminal, without markup") {
  REQUIRE_MODELS();
  const ProcessResult printed = PartAgain();
  CHECK(printed.code == 0);
  CHECK(printed.out == PartAgain("--format=text").out);
  for (const char* markup : {"|", "**", "\\_", "&#", "`"})
    CHECK_THAT(printed.out, !Contains(markup));
  for (const std::string& line : Lines(printed.out)) {
    INFO(line);
    CHECK(TextWidth(line) <= 100);  // a pipe has the same bytes everywhere
  }
}

TEST_CASE("shards, one worker and no memory for models give the bytes of a whole run") {
  REQUIRE_MODELS();
  const fs::path cache = TestFolder("shards");
  for (const char* shard : {"--shard=2/3", "--shard=0/3", "--shard=1/3"}) {
    std::vector<std::string> arguments = Part();
    arguments.insert(arguments.end(), {shard, "--model_memory=0"});  // each model made anew
    const ProcessResult result = Run(Tiny(cache, arguments, 1));
    INFO(result.err);
    REQUIRE(result.code == 0);
    CHECK(result.out.empty());
  }
  CHECK(BytesOf(cache, Part(), 1) == Bytes(PartStem()));
}

TEST_CASE("killed ten times at random moments, the run ends with the same bytes") {
  REQUIRE_MODELS();
  const fs::path cache = TestFolder("killed");
  Philox rng({static_cast<uint64_t>(getpid()), "kill", 0, Stream::kOrder, 0});
  int killed = 0;
  for (int i = 0; i < 10; ++i) {
    Process run("EXCISE_TABLE", Tiny(cache, Part()));
    const double seconds = rng.Uniform(0.1, 2.5);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    run.Signal(SIGKILL);
    killed += run.Wait().code == 128 + SIGKILL;
  }
  CHECK(killed >= 1);
  CHECK(BytesOf(cache, Part(), 2) == Bytes(PartStem()));
}

TEST_CASE("an interrupt ends the run with 130, a termination with 143") {
  REQUIRE_MODELS();
  const int signal = GENERATE(SIGINT, SIGTERM);
  const fs::path cache = TestFolder("interrupted");
  Process run("EXCISE_TABLE", Tiny(cache, {"--set", "methods.esd.iterations=100000"}));
  std::this_thread::sleep_for(std::chrono::seconds(4));
  run.Signal(signal);
  const ProcessResult result = run.Wait();
  CHECK(result.code == 128 + signal);
  CHECK(result.out.empty());
}

TEST_CASE("a damaged store entry is reported and made anew") {
  REQUIRE_MODELS();
  const std::string before = Bytes(PartStem());
  const std::string stage = GENERATE(as<std::string>{}, "generate", "judge", "score");
  const fs::path store = PartStem().parent_path() / "store";
  for (const auto& entry : fs::recursive_directory_iterator(store / stage)) {
    if (!entry.is_regular_file() || entry.path().filename() == "manifest.json") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.put('#');
    break;
  }
  const ProcessResult result = PartAgain();
  INFO(result.err);
  CHECK(result.code == 0);
  CHECK_THAT(result.err, Contains("is damaged"));
  CHECK(Bytes(PartStem()) == before);
}

TEST_CASE("a wrong command line is refused with a suggestion and exit code 2") {
  const fs::path cache = TestFolder("refused");
  const std::string tiny = RepoFile("tests/tiny.json").string(),
                    store = "--cache=" + cache.string();
  Refused({tiny, store, "--wrokers=2"}, "Did you mean '--workers'?");
  Refused({tiny, store, "--workers=many"}, "--workers");
  Refused({tiny, store, "--workers=-1"}, "--workers=-1");
  Refused({tiny, store, "--model_memory=-1"}, "--model_memory=-1");
  Refused({tiny, store, "--methods=ucee"}, "Did you mean 'uce'?");
  Refused({tiny, store, "--attacks=pezz"}, "Did you mean 'pez'?");
  Refused({tiny, store, "--metrics=asrr"}, "Did you mean 'asr'?");
  Refused({tiny, store, "--concepts=poodel"}, "Did you mean 'poodle'?");
  Refused({tiny, store, "--methods=uce,"}, "an empty name");
  Refused({tiny, store, "--set", "methods.esd.iteration=5"}, "Did you mean 'iterations'?");
  Refused({tiny, store, "--set", "methods.esd.iterations=\"five\""}, "iterations");
  Refused({tiny, store, "--set", "sampler.guidence=5"}, "Did you mean 'guidance'?");
  Refused({tiny, store, "--profile=smok"}, "--profile=smok");
  Refused({tiny, store, "--device=cuda"}, "CPU only");
  Refused({tiny, store, "--format=pdf"}, "--format=pdf");
  Refused({tiny, store, "--stage=generat"}, "Did you mean 'generate'?");
  Refused({tiny, store, "--shard=2/2"}, "shard 2 of 2");
  Refused({tiny, store, "--out=table.txt"}, ".json file");
  Refused({tiny, store, "--check=silver"}, "--check=silver");
  Refused({tiny, store, "--check", "--shard=0/2"}, "whole run");
  Refused({store}, "No experiment");
  std::ofstream(cache / "bad.json") << R"({"name": "bad", "concepts": ["poodle"], "sampler": 3})";
  Refused({(cache / "bad.json").string(), store}, "sampler");
}

TEST_CASE("files that cannot be used end the run with a message") {
  const fs::path folder = TestFolder("unusable");
  const std::string tiny = RepoFile("tests/tiny.json").string();
  std::ofstream(folder / "file") << "not a folder";
  Refused({tiny, "--cache=" + (folder / "file").string()}, "--cache=DIR");
  Refused({tiny, "--cache=/proc/nowhere"}, "--cache=DIR");
  const std::string store = "--cache=" + (folder / "cache").string();
  Refused({tiny, store, "--models=" + folder.string()}, "--models=DIR", 1);
  Refused({(folder / "none.json").string(), store}, "none.json", 1);
  std::ofstream(folder / "cut.json") << "{\"name\": ";
  Refused({(folder / "cut.json").string(), store}, "cut.json", 1);
  // A snapshot of which most is missing: every missing file is named.
  fs::create_directories(folder / "emoji" / "unet");
  Refused({tiny, store, "--models=" + folder.string()}, "unet/config.json", 1);
  if (geteuid() != 0) {  // root may read everything
    fs::create_directory(folder / "locked");
    fs::permissions(folder / "locked", fs::perms::none);
    Refused({tiny, "--cache=" + (folder / "locked").string()}, "--cache=DIR");
    Refused({tiny, store, "--models=" + (folder / "locked").string()}, "--models=DIR", 1);
    fs::permissions(folder / "locked", fs::perms::owner_all);
  }
}

TEST_CASE("a full disk is reported, for the table and for the results") {
  REQUIRE_MODELS();
  const fs::path cache = PartStem().parent_path();
  ProcessResult result = Run(Tiny(cache, Part()), "/dev/full");
  CHECK(result.code == 1);
  CHECK_THAT(result.err, Contains("No space left on device"));
  const fs::path folder = TestFolder("full");
  fs::create_symlink("/dev/full", folder / "out.json");
  result = Run(Tiny(cache, With(Part(), "--out=" + (folder / "out.json").string())));
  CHECK(result.code == 1);
  CHECK_THAT(result.err, Contains("No space left on device"));
}

TEST_CASE("a method that cannot do its work costs its own cells alone") {
  REQUIRE_MODELS();
  // A learning rate that leads to numbers that are not finite.
  const fs::path cache = TestFolder("failing");
  fs::copy(PartStem().parent_path() / "store", cache / "store", fs::copy_options::recursive);
  const std::string out = (cache / "failing.json").string();
  std::vector<std::string> asked = With(Part(), "--out=" + out);
  asked.insert(asked.end(), {"--set", "methods.esd.lr=1e38"});
  const ProcessResult result = Run(Tiny(cache, asked));
  INFO(result.err);
  CHECK(result.code == 1);
  CHECK_THAT(result.out, Contains("error (1)"));
  const Json results = ReadJsonFile(out);
  for (const Json& record : results["records"]) {
    if (record["method"] != "esd") {
      CheckAnswered(record);
      continue;
    }
    // Whether an adaptive attack has anything to adapt to is read off the model, which is not
    // there.
    CHECK(record["status"] == "error");
  }
  CHECK(SchemaProblems(results, ReadJsonFile(RepoFile("results/schema.json"))) ==
        std::vector<std::string>{});
}

TEST_CASE("--help and --list need nothing and print to stdout") {
  const ProcessResult help = Run({"--help"});
  CHECK(help.code == 0);
  CHECK_THAT(help.out, Contains("--profile") && Contains("--update_golden"));
  const ProcessResult list = Run({"--list"});
  CHECK(list.code == 0);
  for (const char* name : {"\n  uce ", "\n  pez ", "\n  kid ", "\n  emoji_prompts "}) {
    CHECK_THAT(list.out, Contains(name));
  }
  const ProcessResult esd = Run({"--list=esd"});
  CHECK(esd.code == 0);
  CHECK_THAT(esd.out, Contains("what: ") && Contains("--set methods.esd.iterations="));
  Refused({"--list=edd"}, "Did you mean 'esd'?");
}

}  // namespace excise
