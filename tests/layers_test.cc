// core <- models <- training <- datasets <- {methods, attacks, judges <- metrics} <- {pretraining,
// experiments}, and likewise the rooms inside each; no include sideways or upwards: in what files
// include, in what Bazel lets a room see, and in what headers cost.
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "core/text.h"
#include "tests/source_tree.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Names = std::set<std::string>;

// What each house may use beside its own rooms.
const std::map<std::string, Names> kHouses = {
    {"core", {}},
    {"models", {"core"}},
    {"training", {"core", "models"}},
    {"datasets", {"core", "models", "training"}},
    {"methods", {"core", "models", "training", "datasets"}},
    {"attacks", {"core", "models", "training", "datasets"}},
    {"judges", {"core", "models", "datasets"}},
    {"metrics", {"core", "models", "training", "datasets", "judges"}},
    {"pretraining", {"core", "models", "training", "datasets", "attacks", "judges"}},
    {"experiments",
     {"core", "models", "training", "datasets", "methods", "attacks", "judges", "metrics"}},
};

// Rooms of a house, and which of the same house each may use. A room `formats` knows no LibTorch:
// it uses core and the formats below alone.
const std::map<std::string, Names> kRooms = {
    {"models/formats", {}},
    {"models/tensors", {"models/formats"}},
    {"models/nets", {"models/formats", "models/tensors"}},
    {"models/samplers", {"models/formats"}},
    {"models/pictures", {"models/formats"}},
    {"models/snapshots", {"models/formats", "models/tensors", "models/nets", "models/samplers"}},
    {"datasets/formats", {}},
    {"datasets/emoji", {"datasets/formats"}},
    {"datasets/quadruplets", {"datasets/formats", "datasets/emoji"}},
    {"pretraining/stages", {}},
    {"pretraining/bars", {"pretraining/stages"}},
    {"experiments/formats", {"models/formats", "datasets/formats"}},
    {"experiments/results", {"experiments/formats"}},
    {"experiments/lab", {"experiments/formats", "experiments/results"}},
    {"experiments/run", {"experiments/formats", "experiments/results", "experiments/lab"}},
    {"experiments/tables", {"experiments/formats", "experiments/results"}},
    {"experiments/page",
     {"experiments/formats", "experiments/results", "experiments/lab", "experiments/run",
      "experiments/tables"}},
    {"experiments/check",
     {"experiments/formats", "experiments/results", "experiments/lab", "experiments/run",
      "experiments/tables"}},
};

std::string HouseOf(const std::string& path) { return path.substr(0, path.find('/')); }

// "models/nets/clip.h" stands in "models/nets", "methods/esd/esd.cc" in "methods".
std::string RoomOf(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/'));
  return kRooms.count(folder) != 0 ? folder : HouseOf(path);
}

bool IsTest(const std::string& name) {
  return EndsWith(name, "_test.cc") || EndsWith(name, "_benchmark.cc");
}

// What stands at the top of a house (its programs) may use all its rooms, and so may a test.
bool MayInclude(const SourceFile& file, const std::string& room) {
  const std::string house = HouseOf(file.room);
  if (room == file.room) return true;
  if (HouseOf(room) == house) {
    return file.room == house || IsTest(file.name) || kRooms.at(file.room).count(room) != 0;
  }
  if (EndsWith(file.room, "/formats") && !IsTest(file.name)) {
    return room == "core" || kRooms.at(file.room).count(room) != 0;
  }
  return kHouses.at(house).count(HouseOf(room)) != 0;
}

// What is wrong with one include of `file`, or "".
std::string Complaint(const SourceFile& file, const std::string& include) {
  const std::string path = include.substr(1);
  if (include[0] == '"') {
    const std::string room = RoomOf(path);
    if (IsTest(file.name) && (room == "tests" || room == "catch2")) return "";
    if (MayInclude(file, room)) return "";
    return "includes '" + path + "': not below " + file.room;
  }
  const bool torch =
      StartsWith(path, "ATen/") || StartsWith(path, "torch/") || StartsWith(path, "c10/");
  const bool formats = EndsWith(file.room, "/formats") && !IsTest(file.name);
  if (torch && (file.room == "core" || formats)) {
    return "includes <" + path + ">: " + file.room + " knows no LibTorch";
  }
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

TEST_CASE("the words of the emoji judge are its own, the emoji world's and its training's") {
  const std::regex words("\"sepia\"|/ \"judges\"|\"judges/|JudgeStyles");
  size_t found = 0;
  for (const SourceFile& file : ReadSourceTree()) {
    if (EndsWith(file.name, "BUILD") || IsTest(file.name)) continue;
    const bool own = file.room == "judges" || file.room == "datasets/emoji" ||
                     HouseOf(file.room) == "pretraining";
    // What includes say is layered above.
    const std::string text = std::regex_replace(file.text, std::regex("#include \"[^\"]*\""), "");
    if (!std::regex_search(text, words)) continue;
    ++found;
    INFO(file.name);
    CHECK(own);
  }
  CHECK(found > 0);
}

TEST_CASE("the check of includes sees what is forbidden") {
  const auto one = [](const char* room, const char* name, const char* text) {
    return Complaints({{room, name, text}}).size();
  };
  CHECK(one("methods", "methods/a.cc", "#include \"attacks/attack.h\"\n") == 1);
  CHECK(one("attacks", "attacks/a.cc", "// x\n#include \"metrics/metric.h\"\n") == 1);
  CHECK(one("judges", "judges/a.cc", "#include \"metrics/metric.h\"\n") == 1);
  CHECK(one("datasets", "datasets/a.h", "#include \"methods/method.h\"\n") == 1);
  CHECK(one("models", "models/a.cc", "#include \"training/trainer.h\"\n") == 1);
  CHECK(one("models/samplers", "models/samplers/a.cc", "#include \"models/nets/unet.h\"\n") == 1);
  CHECK(one("experiments/tables", "experiments/tables/a.h",
            "#include \"experiments/run/report.h\"\n") == 1);
  CHECK(one("experiments/tables", "experiments/tables/a_test.cc",
            "#include \"experiments/run/report.h\"\n") == 0);
  CHECK(one("models/formats", "models/formats/a.cc", "#include <ATen/core/Tensor.h>\n") == 1);
  CHECK(one("experiments/formats", "experiments/formats/a.cc",
            "#include \"models/nets/unet.h\"\n") == 1);
  CHECK(one("experiments/formats", "experiments/formats/a.cc",
            "#include \"models/formats/unet_config.h\"\n") == 0);
  CHECK(one("core", "core/a.h", "#include <ATen/core/Tensor.h>\n") == 1);
  CHECK(one("core", "core/a.cc", "  #  include <c10/util/Half.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <torch/torch.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <ATen/ops/linear.h>\n") == 1);
  CHECK(one("models", "models/a.h", "#include <fmt/format.h>\n") == 1);
  CHECK(one("methods", "methods/a.cc", "#include \"tests/testdata.h\"\n") == 1);
  CHECK(one("methods", "methods/a_test.cc", "#include \"tests/testdata.h\"\n") == 0);
  CHECK(one("methods", "methods/a.cc",
            "#include <ATen/ops/linear.h>\n#include \"datasets/formats/concept.h\"\n") == 0);
}

// "//models/nets:nets", the library of a room.
std::string LibraryOf(const std::string& room) {
  return "//" + room + ":" + room.substr(room.rfind('/') + 1);
}

// The libraries that a room may depend on; its tests take the whole house.
Names Libraries(const std::string& room) {
  const std::string house = HouseOf(room);
  Names expected;
  for (const std::string& other : kHouses.at(house)) expected.insert(LibraryOf(other));
  if (house == "experiments") {
    for (const char* kind : {"attacks", "datasets", "judges", "methods", "metrics"}) {
      expected.insert("//" + std::string(kind) + ":plugins");
    }
  }
  if (room != house) {
    expected.insert(LibraryOf(house));
    for (const std::string& other : kRooms.at(room)) expected.insert(LibraryOf(other));
    return expected;
  }
  for (const auto& [other, below] : kRooms) {
    if (HouseOf(other) == house) expected.insert(LibraryOf(other));
  }
  return expected;
}

// tests/BUILD asks Bazel itself: the rooms' libraries that are visible to each room.
TEST_CASE("Bazel's visibility is the layering") {
  Names rooms;
  for (const auto& [house, below] : kHouses) rooms.insert(house);
  for (const auto& [room, below] : kRooms) rooms.insert(room);
  for (const std::string& room : rooms) {
    Names visible =
        ReadLines("tests/visible_to_" + std::regex_replace(room, std::regex("/"), "_") + ".txt");
    visible.erase(LibraryOf(room));  // a package always sees itself
    visible.erase("//" + room + ":plugins");
    INFO(room);
    CHECK(visible == Libraries(room));
  }
}

}  // namespace excise
