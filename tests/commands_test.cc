// What a command line may do beside its table: which files it writes, what it must not be taken
// for, and what a shell has left for it.
#include <stdlib.h>

#include <fstream>
#include <set>

#include "tests/testdata.h"
#include "tests/tiny_table.h"

namespace excise {

namespace fs = std::filesystem;
using Catch::Contains;

namespace {

// One method, no attack, one concept, one metric: a second.
std::vector<std::string> Least(const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"--methods=none", "--attacks=none", "--concepts=poodle",
                                        "--metrics=asr"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Variables of the user's shell while it lives.
class Shell {
 public:
  explicit Shell(const std::map<std::string, std::string>& variables) : variables_(variables) {
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Shell() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }

 private:
  std::map<std::string, std::string> variables_;
};

const std::map<std::string, std::string> kLeftOver = {{"RANK", "1"}, {"WORLD_SIZE", "4"}};
const std::map<std::string, std::string> kTorchrun = {{"RANK", "1"},
                                                      {"WORLD_SIZE", "4"},
                                                      {"LOCAL_RANK", "1"},
                                                      {"LOCAL_WORLD_SIZE", "4"},
                                                      {"MASTER_ADDR", "127.0.0.1"},
                                                      {"MASTER_PORT", "29500"},
                                                      {"TORCHELASTIC_RUN_ID", "none"}};

// The program in a checkout of its own, whose golden files are those of a run that gave `golden`.
ProcessResult CheckGolden(const Json& golden, const std::vector<std::string>& more = {}) {
  static const fs::path checkout = TestFolder("checkout");
  const fs::path folder = checkout / "results" / "checks" / "golden";
  fs::create_directories(folder / "tiny");
  Json table = golden, none = {{"verified_on", Json::array()}};
  for (const char* of_methods : {"records", "comparisons"}) {
    none[of_methods] = table[of_methods];
    table.erase(of_methods);
  }
  std::ofstream(folder / "tiny.json") << table.dump();
  std::ofstream(folder / "tiny" / "none.json") << none.dump();
  ProcessSetup setup;
  setup.in_child = [] { setenv("BUILD_WORKSPACE_DIRECTORY", checkout.c_str(), 1); };
  std::vector<std::string> arguments = {RepoFile("tests/tiny.json").string(),
                                        "--models=" + EmojiFolder().parent_path().string(),
                                        "--cache=" + Cache().string(), "--check=golden"};
  for (const std::string& argument : Least(more)) arguments.push_back(argument);
  return Process("EXCISE_TABLE", arguments, setup).Wait();
}

// Every file below a folder, with its bytes.
std::map<std::string, std::string> Tree(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    files[entry.path().string()] = entry.is_regular_file() ? ReadBytes(entry.path()) : "";
  }
  return files;
}

}  // namespace

TEST_CASE("a tampered golden file is not passed by variables that were left in a shell") {
  Json golden = RunTable(Least()).results;
  for (const char* other_every_time : {"cost", "provenance"}) golden.erase(other_every_time);
  const ProcessResult good = CheckGolden(golden);
  INFO(good.err);
  CHECK(good.code == 0);
  CHECK_THAT(good.err, Contains("golden: the same bytes"));
  golden["records"][0]["value"] = 0.123;
  {
    const Shell shell(kLeftOver);
    const ProcessResult result = CheckGolden(golden);
    CHECK(result.code == 1);
    CHECK_THAT(result.err, Contains("RANK=1 and WORLD_SIZE=4 are not heeded"));
    CHECK_THAT(result.err, Contains("0.123"));
  }
  const Shell shell(kTorchrun);
  const ProcessResult refused = CheckGolden(golden);
  CHECK(refused.code == 2);
  CHECK(refused.out.empty());
  CHECK_THAT(refused.err, Contains("torchrun (RANK=1, WORLD_SIZE=4)") &&
                              Contains("unset RANK WORLD_SIZE") && Contains("--shard=0/1"));
  CHECK(CheckGolden(golden, {"--shard=0/1"}).code == 1);
}

TEST_CASE("a launcher's part is named in the first line, and is no table") {
  const Shell shell(kTorchrun);
  const ProcessResult part = RunTiny(Least());
  INFO(part.err);
  CHECK(part.code == 0);
  CHECK(part.out.empty());
  CHECK(part.err.find("this run does part 1 of 4") == 0);
  CHECK_THAT(part.err.substr(0, part.err.find('\n')), Contains("torchrun (RANK=1, WORLD_SIZE=4)"));
  for (const char* flag : {"--out=out.json", "--plot=front.svg", "--update_golden",
                           "--update_reference=3", "--export_prompts=p.csv"}) {
    Refused(Least({flag}), "needs a whole run");
  }
  CHECK_THAT(RunTiny(Least({"--shard=0/1"})).out, Contains("Is the concept gone?"));
}

TEST_CASE("no run replaces the results of another selection") {
  const fs::path results = Cache() / "results";
  fs::remove_all(results);
  fs::create_directories(results);
  for (const char* extension : {"json", "rows.jsonl", "md", "tex", "csv", "html"}) {
    std::ofstream(results / ("tiny-default." + std::string(extension))) << "of the whole run";
  }
  std::set<std::string> names;
  for (const std::vector<std::string>& selection :
       {Least(), Least({"--limit=1"}), Least({"--set", "seeds.noise=7"})}) {
    const ProcessResult result = RunTiny(selection);
    INFO(result.err);
    CHECK(result.code == 0);
    CHECK_THAT(result.err, Contains("have a name of their own; tiny-default.json is the whole"));
    const size_t path = result.err.find("results: ") + 9;
    names.insert(result.err.substr(path, result.err.find('\n', path) - path));
  }
  CHECK(names.size() == 3);
  for (const std::string& name : names) {
    CHECK(fs::path(name).parent_path() == results);
    CHECK(ReadJsonFile(name).at("experiment").at("name") == "tiny");
  }
  for (const auto& [name, bytes] : Tree(results)) {
    if (name.find("tiny-default.") != name.npos) CHECK(bytes == "of the whole run");
  }
  Refused(Least({"--update_golden"}), "writes what is committed of the whole table");
}

TEST_CASE("--explain and --dry_run write nothing and do no work") {
  RunTable(Least());
  const fs::path home = TestFolder("home");
  const Shell shell({{"HOME", home.string()}});
  const auto cache = Tree(Cache()), desk = Tree(Desk());
  // Export would write, were it not for the plan.
  for (const char* looks : {"--explain", "--dry_run"}) {
    const ProcessResult result =
        RunTiny(Least({"--set", "seeds.noise=8", looks, "--export_prompts=p.csv", "--force"}));
    INFO(looks << "\n" << result.err << result.out);
    CHECK(result.code == 0);
    CHECK_THAT(result.out, Contains("generate") && !Contains("Is the concept gone?"));
  }
  CHECK(Tree(Cache()) == cache);
  CHECK(Tree(Desk()) == desk);
  // Nor do they make a folder that is not there.
  const fs::path fresh = TestFolder("fresh") / "cache";
  const ProcessResult plan =
      RunProcess("EXCISE_TABLE", {RepoFile("tests/tiny.json").string(), "--cache=" + fresh.string(),
                                  "--models=" + EmojiFolder().parent_path().string(), "--explain"});
  INFO(plan.err);
  CHECK(plan.code == 0);
  CHECK_THAT(plan.out, Contains("nothing like it is stored"));
  CHECK_FALSE(fs::exists(fresh));
  CHECK(fs::is_empty(home));
  Refused(Least({"--dry_run", "--check=golden"}), "need a run");
}

TEST_CASE("nothing is written outside --cache, and an empty --cache is refused") {
  const fs::path home = TestFolder("home");
  const Shell shell({{"HOME", home.string()}, {"XDG_CACHE_HOME", (home / "xdg").string()}});
  const auto desk = Tree(Desk());
  CHECK(RunTiny(Least()).code == 0);
  CHECK(fs::is_empty(home));
  CHECK(Tree(Desk()) == desk);
  const ProcessResult empty =
      RunProcess("EXCISE_TABLE", {RepoFile("tests/tiny.json").string(), "--cache="}, Desk());
  CHECK(empty.code == 2);
  CHECK_THAT(empty.err, Contains("--cache=: an empty value"));
}

}  // namespace excise
