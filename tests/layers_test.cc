// core <- models <- training <- datasets <- {methods, attacks, metrics} <- {pretraining,
// experiments}, no sideways includes: in what files include, in what Bazel lets a room see, and in
// what headers cost.
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <set>

#include "tests/source_tree.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Names = std::set<std::string>;

// What a room may include beside itself.
const std::map<std::string, Names> kBelow = {
    {"core", {}},
    {"models", {"core"}},
    {"training", {"core", "models"}},
    {"datasets", {"core", "models", "training"}},
    {"methods", {"core", "models", "training", "datasets"}},
    {"attacks", {"core", "models", "training", "datasets"}},
    {"metrics", {"core", "models", "training", "datasets"}},
    {"pretraining", {"core", "models", "training", "datasets", "metrics"}},
    {"experiments", {"core", "models", "training", "datasets", "methods", "attacks", "metrics"}},
};

bool StartsWith(const std::string& text, const std::string& start) {
  return text.rfind(start, 0) == 0;
}

// What is wrong with one include of `file`, or "".
std::string Complaint(const SourceFile& file, const std::string& include) {
  const std::string path = include.substr(1);
  if (include[0] == '"') {
    const std::string room = path.substr(0, path.find('/'));
    const bool test = EndsWith(file.name, "_test.cc") || EndsWith(file.name, "_benchmark.cc");
    if (room == file.room || kBelow.at(file.room).count(room)) return "";
    if (test && (room == "tests" || room == "catch2")) return "";
    return "includes '" + path + "': not below " + file.room;
  }
  const bool torch =
      StartsWith(path, "ATen/") || StartsWith(path, "torch/") || StartsWith(path, "c10/");
  if (torch && file.room == "core") return "includes <" + path + ">: core knows no LibTorch";
  if (path == "torch/torch.h" || path == "ATen/ATen.h") return "includes <" + path + ">: too heavy";
  // A header that says "For tests:" is compiled a few times only.
  if (!EndsWith(file.name, ".h") || StartsWith(file.text, "// For tests:")) return "";
  if (torch && path != "ATen/core/Tensor.h" && !StartsWith(path, "c10/")) {
    return "is a header and includes <" + path + "> (only ATen/core/Tensor.h is allowed)";
  }
  if (StartsWith(path, "fmt/") || StartsWith(path, "CLI/") || StartsWith(path, "Eigen/")) {
    return "is a header and includes <" + path + ">, which belongs in .cc files";
  }
  return "";
}

std::vector<std::string> Complaints(const std::vector<SourceFile>& files) {
  std::vector<std::string> complaints;
  for (const SourceFile& file : files) {
    if (EndsWith(file.name, "BUILD")) continue;
    for (const std::string& include : Includes(file.text)) {
      const std::string complaint = Complaint(file, include);
      if (!complaint.empty()) complaints.push_back(file.name + " " + complaint);
    }
  }
  return complaints;
}

Names ReadLines(const std::string& path) {
  Names lines;
  std::ifstream in(RepoFile(path));
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.insert(line);
  }
  return lines;
}

}  // namespace

TEST_CASE("no file includes sideways or upwards") {
  const std::vector<SourceFile> files = ReadSourceTree();
  REQUIRE(files.size() > 50);
  CHECK(Complaints(files) == std::vector<std::string>{});
}

TEST_CASE("the check of includes sees what is forbidden") {
  const auto one = [](const char* room, const char* name, const char* text) {
    return Complaints({{room, name, text}}).size();
  };
  CHECK(one("methods", "methods/a.cc", "#include \"attacks/attack.h\"\n") == 1);
  CHECK(one("attacks", "attacks/a.cc", "// x\n#include \"metrics/metric.h\"\n") == 1);
  CHECK(one("datasets", "datasets/a.h", "#include \"methods/method.h\"\n") == 1);
  CHECK(one("models", "models/a.cc", "#include \"training/trainer.h\"\n") == 1);
  CHECK(one("core", "core/a.h", "#include <ATen/core/Tensor.h>\n") == 1);
  CHECK(one("core", "core/a.cc", "  #  include <c10/util/Half.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <torch/torch.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <ATen/ops/linear.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <fmt/format.h>\n") == 1);
  CHECK(one("methods", "methods/a.cc", "#include \"tests/testdata.h\"\n") == 1);
  CHECK(one("methods", "methods/a_test.cc", "#include \"tests/testdata.h\"\n") == 0);
  CHECK(one("methods", "methods/a.cc",
            "#include <ATen/ops/linear.h>\n#include \"datasets/concept.h\"\n") == 0);
}

// tests/BUILD asks Bazel itself: the rooms' libraries that are visible to each room.
TEST_CASE("Bazel's visibility is the layering") {
  for (const auto& [room, below] : kBelow) {
    Names expected;
    for (const std::string& other : below) expected.insert("//" + other + ":" + other);
    Names visible = ReadLines("tests/visible_to_" + room + ".txt");
    visible.erase("//" + room + ":" + room);  // a package always sees itself
    visible.erase("//" + room + ":plugins");
    if (room == "experiments") {
      for (const char* plugins : {"attacks", "datasets", "methods", "metrics"}) {
        expected.insert("//" + std::string(plugins) + ":plugins");
      }
    }
    INFO(room);
    CHECK(visible == expected);
  }
}

}  // namespace excise
