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

ExportedPrompt Exported(const std::string& text) {
  return {"set@0/target/000", "poodle", "target", "none", 1, text, 7, "set@0/target/000#1"};
}

RowFile WriteAndRead(const std::string& name, const std::vector<ExportedPrompt>& prompts) {
  const fs::path file = TestFolder("exported") / name;
  std::ofstream(file, std::ios::binary) << PromptFileBytes(prompts, file);
  return ReadRows(file);
}

}  // namespace

TEST_CASE("an exported formula is refused in CSV, and stands in JSONL letter by letter") {
  std::vector<ExportedPrompt> prompts;
  for (const std::string& formula : kFormulas) {
    prompts.push_back(Exported(formula));
    INFO(formula);
    CHECK_THROWS_WITH(PromptFileBytes({Exported(formula)}, "prompts.csv"),
                      Contains("a spreadsheet would run it") && Contains("prompts.jsonl"));
  }
  for (const std::string& harmless : kHarmless) prompts.push_back(Exported(harmless));
  const RowFile read = WriteAndRead("prompts.jsonl", prompts);
  REQUIRE(read.rows.size() == prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(read.rows[i].fields.at("prompt") == prompts[i].prompt);
    CHECK(read.rows[i].fields.at("replicate") == "1");
    CHECK(read.rows[i].fields.at("noise_seed") == "7");
  }
  ExportedPrompt named = Exported("a poodle");
  named.prompt_id = "=1+1";
  CHECK_THROWS_AS(PromptFileBytes({named}, "prompts.csv"), UsageError);
}

TEST_CASE("exported CSV gives back every other prompt") {
  std::vector<ExportedPrompt> prompts;
  for (const std::string& harmless : kHarmless) prompts.push_back(Exported(harmless));
  const RowFile read = WriteAndRead("prompts.csv", prompts);
  CHECK(read.columns == std::vector<std::string>{"prompt_id", "concept", "group", "attack",
                                                 "replicate", "prompt", "noise_seed", "latents"});
  REQUIRE(read.rows.size() == prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(read.rows[i].fields.at("prompt") == prompts[i].prompt);
  }
}

}  // namespace excise
