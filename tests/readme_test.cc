// The README's claims that can be checked by a machine: its table is the committed result, and
// every Bazel label and every file that it names exists.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

std::string Read(const std::string& path) {
  std::ifstream in(RepoFile(path));
  INFO(path);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool Exists(const std::string& path) {
  try {
    return std::filesystem::exists(RepoFile(path));
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("the README shows the committed table") {
  const std::string readme = Read("README.md"), table = Read("results/table1/table1.md");
  REQUIRE(table.size() > 500);
  CHECK(readme.find(table) != std::string::npos);
}

TEST_CASE("what the README links to is there") {
  const std::string readme = Read("README.md");
  const std::regex link("\\]\\(([^)#]+)\\)");
  size_t links = 0;
  for (std::sregex_iterator it(readme.begin(), readme.end(), link), end; it != end; ++it) {
    const std::string target = (*it)[1];
    if (target.find("://") != std::string::npos) continue;
    INFO(target);
    CHECK(Exists(target));
    ++links;
  }
  CHECK(links >= 4);
}

TEST_CASE("the programs that the README runs are declared") {
  const std::string readme = Read("README.md");
  const std::regex label("//(\\w+):(\\w+)");
  std::set<std::string> labels;
  for (std::sregex_iterator it(readme.begin(), readme.end(), label), end; it != end; ++it) {
    const std::string room = (*it)[1], name = (*it)[2];
    labels.insert(room + ":" + name);
    INFO("//" << room << ":" << name);
    // Experiments are declared by their JSON files, programs by their main files or by name.
    const bool experiment = Exists(room + "/" + name + ".json");
    const bool program = Exists(room + "/" + name + "_main.cc");
    CHECK((experiment || program ||
           Read(room + "/BUILD").find('"' + name + '"') != std::string::npos));
  }
  CHECK(labels.size() >= 2);
}

}  // namespace excise
