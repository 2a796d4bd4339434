// The table program on tests/tiny.json and the embedded backbone, as a user runs it who stands in a
// folder of their own. One store for all tests of a file: what one has drawn, another finds.
#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/csv.h"
#include "core/json.h"
#include "tests/process.h"

namespace excise {

std::filesystem::path EmojiFolder();  // models/emoji
std::filesystem::path Cache();
// The folder in which the user stands: relative paths start there.
std::filesystem::path Desk();

ProcessResult RunTiny(std::vector<std::string> arguments);

// Results with their rows.
struct Table {
  Json results;
  std::vector<Json> rows;

  // By "method/concept/attack/metric"; the test fails where there is none.
  const Json& Record(const std::string& name) const;
  // What the judge said of the pictures, by root prompt.
  std::map<std::string, std::string> Outcomes(const std::string& method,
                                              const std::string& attack = "none") const;
};

// Runs, requires the exit code, and reads what was written.
Table RunTable(std::vector<std::string> arguments, int code = 0);
// The program refuses the arguments with a message and without output.
void Refused(const std::vector<std::string>& arguments, const std::string& message, int code = 2);
// Writes a file on the desk.
void Write(const std::string& name, const std::string& bytes);
// --export_prompts=prompts.csv, read.
RowFile Export(const std::vector<std::string>& arguments);

}  // namespace excise
