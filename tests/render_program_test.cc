// What is printed of committed results, by programs as a user meets them: as processes
// (EXCISE_RENDER, EXCISE_TABLE1).
#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "core/read_file.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Catch::StartsWith;

fs::path Committed(const std::string& extension) {
  return RepoFile("results/table1/table1_adaptive" + extension);
}

ProcessResult Render(const fs::path& file, const std::vector<std::string>& flags,
                     const fs::path& where = {}) {
  std::vector<std::string> arguments = {file.string()};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return RunProcess("EXCISE_RENDER", arguments, where);
}

// It exits with `code`, says so in one message, and prints no table.
void CheckRefused(const ProcessResult& result, int code, const std::string& message) {
  INFO(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK_THAT(result.err, Contains(message));
}

// A copy of the committed file with `edit` done to it, in a folder without rows.
fs::path Edited(const std::string& folder, const std::function<void(Json*)>& edit) {
  Json results = ReadJsonFile(Committed(".json"));
  edit(&results);
  const fs::path file = TestFolder(folder) / "edited.json";
  WriteFileAtomically(file, results.dump());
  return file;
}

}  // namespace

TEST_CASE("a committed table is printed again in every format, without a run") {
  for (const std::string format : {"md", "tex", "csv", "json"}) {
    const ProcessResult result = Render(Committed(".json"), {"--format=" + format});
    INFO(format << ": " << result.err);
    CHECK(result.code == 0);
    CHECK(result.out == ReadFile(Committed("." + format)));
  }
  const Json results = ReadJsonFile(Committed(".json"));
  const std::string title = results.at("experiment").at("title");
  const ProcessResult text = Render(Committed(".json"), {});
  CHECK(text.code == 0);
  CHECK_THAT(text.out, Contains(title));
  for (const Json& record : results.at("records")) {
    const std::string method = record.at("method");
    if (text.out.find(method) == std::string::npos) FAIL_CHECK("the text has no row " << method);
  }
  const ProcessResult html = Render(Committed(".json"), {"--format=html"});
  CHECK(html.code == 0);
  CHECK_THAT(html.out, StartsWith("<!DOCTYPE html>") && Contains("</html>") && Contains(title));
}

TEST_CASE("a rendered table goes to a file, with its plot, and rows need not lie beside") {
  const fs::path desk = TestFolder("desk");
  const ProcessResult result = Render(
      RepoFile("results/table4/table4.json"),
      {"--format=md", "--out=" + (desk / "new" / "a.md").string(), "--plot=front.svg"}, desk);
  INFO(result.err);
  CHECK(result.code == 0);
  CHECK(result.out.empty());
  CHECK_THAT(result.err, Contains("a.md") && Contains("front.svg"));
  CHECK(ReadBytes(desk / "new" / "a.md") == ReadFile(RepoFile("results/table4/table4.md")));
  CHECK(ReadBytes(desk / "front.svg") == ReadFile(RepoFile("results/table4/table4_front.svg")));

  const fs::path alone = Edited("alone", [](Json*) {});
  const ProcessResult json = Render(alone, {"--format=json"});
  INFO(json.err);
  CHECK(json.code == 0);
  CHECK(json.out == ReadFile(Committed(".json")));
}

TEST_CASE("render refuses what is no results file of this version, and exits 1") {
  const fs::path folder = TestFolder("refused");
  CheckRefused(Render(folder / "none.json", {}), 1, "does not exist");
  CheckRefused(Render(Edited("older", [](Json* r) { (*r)["schema"] = 1; }), {}), 1,
               "another version wrote the file");
  // As versions of schema 1 wrote comparisons, by a file that says that it is of this one.
  const fs::path adjusted = Edited("adjusted", [](Json* r) {
    for (Json& comparison : r->at("comparisons")) comparison["p_holm"] = 0.5;
  });
  CheckRefused(Render(adjusted, {}), 1, "p_holm");
  CheckRefused(Render(Edited("unknown", [](Json* r) { (*r)["speed"] = 1; }), {}), 1, "speed");
  CheckRefused(Render(Edited("empty", [](Json* r) { (*r)["records"] = Json::array(); }), {}), 1,
               "records");

  const std::string whole = ReadFile(Committed(".json"));
  const std::vector<std::pair<std::string, std::string>> junk = {
      {"", "is empty"},
      {"{", "junk.json"},
      {"[]", "not a results file"},
      {"{\"a\": 1}", "not a results file"},
      {"a picture of a poodle", "junk.json"},
      {std::string("\xff\xfe\0{}", 5), "junk.json"},
      {whole.substr(0, whole.size() / 2), "junk.json"}};
  for (const auto& [bytes, message] : junk) {
    WriteFileAtomically(folder / "junk.json", bytes);
    INFO("'" << bytes.substr(0, 40) << "'");
    CheckRefused(Render(folder / "junk.json", {}), 1, message);
  }
  // Rows that lie beside are held against the file.
  WriteFileAtomically(folder / "rows.json", whole);
  WriteFileAtomically(folder / "rows.rows.jsonl", "{\"method\": 1}\n");
  CheckRefused(Render(folder / "rows.json", {}), 1, "rows.rows.jsonl, line 1");
}

TEST_CASE("a wrong command line of render exits 2 and writes nothing") {
  const fs::path folder = TestFolder("usage");
  CheckRefused(Render(Committed(".json"), {"--format=htm"}), 2, "Did you mean 'html'?");
  CheckRefused(Render(Committed(".json"), {"--format=pdf", "--out=a.pdf"}, folder), 2,
               "--format=pdf");
  CheckRefused(Render(Committed(".json"), {"--format="}), 2, "empty value");
  CheckRefused(Render(Committed(".md"), {}), 2, "FILE.json");
  CheckRefused(Render(Committed(".json"), {"--fromat=md"}), 2, "--format");
  CheckRefused(RunProcess("EXCISE_RENDER", {}), 2, "file");
  CHECK(fs::is_empty(folder));
}

TEST_CASE("docs/published.md is what --check=published prints") {
  const ProcessResult result = RunProcess(
      "EXCISE_TABLE1", {RepoFile("experiments/table1.json").string(), "--check=published"});
  INFO(result.err);
  CHECK(result.code == 0);
  // Its head says by which command it was printed; a claim more or less, or another number, shows.
  CHECK(result.out == ReadFile(RepoFile("docs/published.md")));
}

}  // namespace excise
