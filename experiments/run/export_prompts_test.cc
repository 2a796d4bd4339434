#include "experiments/run/export_prompts.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "core/csv.h"
#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const std::vector<std::string> kFormulas = {"=HYPERLINK(\"http://x\",\"a poodle\")",
                                            "+1+2",
                                            "-2+3+cmd|' /C calc'!A0",
                                            "@sun sthome",
                                            "  =1+1",
                                            "\t=1+1",
                                            "\uff1dSUM(A1)"};
const std::vector<std::string> kHarmless = {"a poodle, in the \"snow\"",
                                            "2 = 1 + 1",
                                            "'=1",
                                            "it's -5 degrees",
                                            "a\nb",
                                            "-0.5",
                                            "\u00e9 \u202e"};

const std::vector<std::string> kColumns = {"prompt_id", "attack", "replicate", "prompt", "known"};

Json Exported(const std::string& text) {
  return {{"prompt_id", "set@0/target/000"},
          {"attack", "none"},
          {"replicate", 1},
          {"prompt", text},
          {"known", nullptr}};
}

RowFile WriteAndRead(const std::string& name, const std::vector<Json>& prompts) {
  const fs::path file = TestFolder("exported") / name;
  std::ofstream(file, std::ios::binary) << PromptFileBytes(kColumns, prompts, file);
  return ReadRows(file);
}

}  // namespace

TEST_CASE("an exported formula is refused in CSV, and stands in JSONL letter by letter") {
  std::vector<Json> prompts;
  for (const std::string& formula : kFormulas) {
    prompts.push_back(Exported(formula));
    INFO(formula);
    CHECK_THROWS_WITH(PromptFileBytes(kColumns, {Exported(formula)}, "prompts.csv"),
                      Contains("a spreadsheet would run it") && Contains("prompts.jsonl"));
  }
  for (const std::string& harmless : kHarmless) prompts.push_back(Exported(harmless));
  const RowFile read = WriteAndRead("prompts.jsonl", prompts);
  REQUIRE(read.rows.size() == prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(read.rows[i].fields.at("prompt") == prompts[i]["prompt"]);
    CHECK(read.rows[i].fields.at("replicate") == "1");
  }
  Json named = Exported("a poodle");
  named["prompt_id"] = "=1+1";
  CHECK_THROWS_AS(PromptFileBytes(kColumns, {named}, "prompts.csv"), UsageError);
  CHECK_THROWS_WITH(PromptFileBytes(kColumns, {}, "prompts.txt"), Contains(".csv or .jsonl file"));
}

TEST_CASE("exported CSV gives back every other prompt") {
  std::vector<Json> prompts;
  for (const std::string& harmless : kHarmless) prompts.push_back(Exported(harmless));
  const RowFile read = WriteAndRead("prompts.csv", prompts);
  CHECK(read.columns == kColumns);
  REQUIRE(read.rows.size() == prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(read.rows[i].fields.at("prompt") == prompts[i]["prompt"]);
    CHECK(read.rows[i].fields.at("replicate") == "1");
    CHECK(read.rows[i].fields.at("known").empty());
  }
}

}  // namespace excise
