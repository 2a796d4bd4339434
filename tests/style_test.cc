// What no compiler checks in our own sources.
#include <catch2/catch.hpp>
#include <regex>
#include <sstream>

#include "core/text.h"
#include "tests/source_tree.h"

namespace excise {
namespace {

constexpr const char* kLabels[] = {"What",       "Paper", "Equation", "Reference",
                                   "Deviations", "Needs", "Caveats"};

// The comment that opens a file, line by line without "//" and one space.
std::vector<std::string> OpeningComment(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line) && StartsWith(line, "//");) {
    lines.push_back(line.substr(line.size() > 2 && line[2] == ' ' ? 3 : 2));
  }
  return lines;
}

// What is wrong with the card of a plug-in, or "".
std::string CardComplaint(const std::string& text) {
  size_t next = 0;
  for (const std::string& line : OpeningComment(text)) {
    if (!line.empty() && line[0] == ' ') {
      if (next == 0) return "starts with a continuation line";
      continue;
    }
    if (next == std::size(kLabels)) return "has a line after Caveats: '" + line + "'";
    const std::string label = std::string(kLabels[next]) + ": ";
    if (!StartsWith(line, label)) return "should have '" + label + "' where it has '" + line + "'";
    if (line.size() < label.size() + 4) return "says nothing under '" + label + "'";
    ++next;
  }
  if (next != std::size(kLabels)) return "has no line '" + std::string(kLabels[next]) + ": '";
  return "";
}

bool IsCode(const SourceFile& file) { return !EndsWith(file.name, "BUILD"); }

}  // namespace

TEST_CASE("every plug-in opens with its card") {
  int plugins = 0;
  for (const SourceFile& file : ReadSourceTree()) {
    if (!IsPlugin(file)) continue;
    ++plugins;
    INFO(file.name);
    CHECK(CardComplaint(file.text) == "");
  }
  CHECK(plugins > 0);
}

TEST_CASE("the check of cards sees faults") {
  const std::string good =
      "// What: removes\n// Paper: Name, Title\n// Equation: x = y\n//     + z\n"
      "// Reference: none\n// Deviations: none\n// Needs: a known name\n// Caveats: "
      "none\n\n#include";
  CHECK(CardComplaint(good) == "");
  CHECK(CardComplaint("#include <vector>\n") != "");
  CHECK(CardComplaint("// Paper: a\n" + good) != "");
  CHECK(CardComplaint(good.substr(0, good.find("// Caveats"))) != "");
  CHECK(CardComplaint(std::regex_replace(good, std::regex("Reference: none"), "Reference: ")) !=
        "");
  CHECK(CardComplaint(std::regex_replace(good, std::regex("\n\n"), "\n// Author: me\n\n")) != "");
}

// Numbers must come from Philox streams: the global generator depends on order and threads.
TEST_CASE("nothing draws from a global generator") {
  const std::regex forbidden(
      "(at|torch)::(rand|randn|randint|randperm|normal|dropout|bernoulli|multinomial)(_like)?\\(|"
      "\\.(normal_|uniform_|bernoulli_|random_|bernoulli|multinomial)\\(|"
      "(at|torch)::manual_seed|"
      "std::(mt19937|random_device|default_random_engine)|[^:\\w]s?rand\\(");
  for (const SourceFile& file : ReadSourceTree()) {
    if (!IsCode(file)) continue;
    // diffusers' published layer values start from a seeded generator of PyTorch's own.
    if (file.name == "models/nets/unet_test.cc") continue;
    // Draws as PyTorch's CPU generator would, from a generator object of its own.
    if (file.name == "models/tensors/noise.cc") continue;
    std::smatch match;
    INFO(file.name << ": " << (std::regex_search(file.text, match, forbidden) ? match.str() : ""));
    CHECK_FALSE(std::regex_search(file.text, forbidden));
  }
  CHECK(std::regex_search(std::string("x = at::randn({2});"), forbidden));
  CHECK(std::regex_search(std::string("noise.normal_(0, 1)"), forbidden));
}

// Whatever else opens a file would wait for a pipe that nobody writes to.
TEST_CASE("files are read through core/read_file.h alone") {
  const std::regex forbidden("\\b(ifstream|fopen|istreambuf_iterator)\\b");
  for (const SourceFile& file : ReadSourceTree()) {
    if (!IsCode(file) || EndsWith(file.name, "_test.cc")) continue;
    INFO(file.name);
    CHECK_FALSE(std::regex_search(file.text, forbidden));
  }
  CHECK(std::regex_search(std::string("std::ifstream in(path);"), forbidden));
}

TEST_CASE("lines fit 100 columns, files 500 lines") {
  for (const SourceFile& file : ReadSourceTree()) {
    if (!IsCode(file)) continue;
    int number = 0;
    for (const std::string& line : Lines(file.text)) {
      ++number;
      const size_t columns = TextWidth(line);
      if (columns > 100) FAIL_CHECK(file.name << ":" << number << " has " << columns);
    }
    INFO(file.name);
    CHECK(number <= 500);
  }
}

}  // namespace excise
