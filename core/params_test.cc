#include "core/params.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

struct Example : Parameterised {
  bool debias = true;
  int64_t steps = 20;
  double lambda = 0.1;
  std::string note = "x";
  std::string variant = "paper";
  std::vector<std::string> layers = {"to_k", "to_v"};
  void Fields(ParamVisitor& v) override {
    v.Flag("debias", &debias, "keep neighbours in place");
    v.Integer("steps", &steps, "edit steps", {1, 1000});
    v.Number("lambda", &lambda, "weight of the original map", {0.0});
    v.Text("note", &note, "free text");
    v.Choice("variant", &variant, "which form", {"paper", "released"});
    v.Texts("layers", &layers, "projections that are edited");
  }
};
struct Nothing : Parameterised {
  void Fields(ParamVisitor&) override {}
};

void Decode(const std::string& json, Example& target) {
  DecodeParams(ParseJson(json, "test"), target, "t.json#/methods/uce");
}

TEST_CASE("defaults are encoded and decoding them changes nothing", "[params]") {
  Example a;
  const Json defaults = EncodeParams(a);
  CHECK(CanonicalJson(defaults) == R"({"debias":true,"lambda":0.1,"layers":["to_k","to_v"],)"
                                   R"("note":"x","steps":20,"variant":"paper"})");
  Example b;
  DecodeParams(defaults, b, "t");
  CHECK(EncodeParams(b) == defaults);
  Nothing none;
  CHECK(CanonicalJson(EncodeParams(none)) == "{}");
}

TEST_CASE("given fields are set and the others keep their defaults", "[params]") {
  Example a;
  Decode(R"({"debias":false,"steps":7,"lambda":2,"variant":"released","layers":[]})", a);
  CHECK(!a.debias);
  CHECK(a.steps == 7);
  CHECK(a.lambda == 2.0);
  CHECK(a.note == "x");
  CHECK(a.variant == "released");
  CHECK(a.layers.empty());
}

TEST_CASE("equal values have equal keys however they were written", "[params]") {
  Example a, b;
  Decode(R"({"lambda":1})", a);
  Decode(R"({"lambda":1.0})", b);
  CHECK(CanonicalJson(EncodeParams(a)) == CanonicalJson(EncodeParams(b)));
  Decode(R"({"lambda":0})", a);
  Decode(R"({"lambda":-0.0})", b);
  CHECK(CanonicalJson(EncodeParams(a)) == CanonicalJson(EncodeParams(b)));
}

TEST_CASE("errors name the origin, the pointer and the reason, and change nothing", "[params]") {
  struct Case {
    const char *json, *pointer, *reason;
  };
  for (const Case& c : std::vector<Case>{
           {R"({"lambdaa":1})", "/lambdaa", "Did you mean 'lambda'?"},
           {R"({"zzzzzz":1})", "/zzzzzz", "Known: debias, steps, lambda, note, variant, layers."},
           {R"({"a/b~c":1})", "/a~1b~0c", "unknown"},
           {R"({"debias":1})", "/debias", "true or false"},
           {R"({"steps":1.5})", "/steps", "integer"},
           {R"({"steps":"5"})", "/steps", "integer"},
           {R"({"steps":0})", "/steps", "outside 1 to 1000"},
           {R"({"steps":18446744073709551615})", "/steps", "outside"},
           {R"({"lambda":-0.1})", "/lambda", "outside 0 to inf"},
           {R"({"lambda":true})", "/lambda", "number"},
           {R"({"lambda":null})", "/lambda", "number"},
           {R"({"note":3})", "/note", "string"},
           {R"({"variant":"relaesed"})", "/variant", "Did you mean 'released'?"},
           {R"({"variant":3})", "/variant", "one of paper, released"},
           {R"({"layers":["a",1]})", "/layers", "array of strings"},
           {R"({"layers":"a"})", "/layers", "array of strings"},
       }) {
    Example a;
    // A correct field beside the wrong one must not be set either.
    Json object = ParseJson(c.json, "t");
    if (!object.contains("debias")) object["debias"] = false;
    CAPTURE(c.json);
    CHECK_THROWS_AS(DecodeParams(object, a, "t.json#/methods/uce"), UsageError);
    CHECK_THROWS_WITH(
        DecodeParams(object, a, "t.json#/methods/uce"),
        Contains("t.json#/methods/uce: ") && Contains(c.pointer) && Contains(c.reason));
    Example untouched;
    CHECK(EncodeParams(a) == EncodeParams(untouched));
  }
  Example a;
  CHECK_THROWS_AS(DecodeParams(Json::array(), a, "t"), UsageError);
  Nothing none;
  CHECK_THROWS_WITH(DecodeParams(Json{{"a", 1}}, none, "t"), Contains("no parameters"));
}

TEST_CASE("a field named twice and a default outside its choices are programming errors",
          "[params]") {
  struct Twice : Parameterised {
    int64_t a = 0, b = 0;
    void Fields(ParamVisitor& v) override {
      v.Integer("k", &a, "");
      v.Integer("k", &b, "");
    }
  } twice;
  CHECK_THROWS_WITH(EncodeParams(twice), Contains("'k' twice"));
  struct BadDefault : Parameterised {
    std::string v = "c";
    void Fields(ParamVisitor& visitor) override { visitor.Choice("v", &v, "", {"a", "b"}); }
  } bad;
  CHECK_THROWS_WITH(EncodeParams(bad), Contains("not one of a, b"));
}

TEST_CASE("help has a line for every field", "[params]") {
  Example a;
  CHECK(DescribeParams(a) ==
        "debias (flag, default true): keep neighbours in place\n"
        "steps (integer, default 20, 1 to 1000): edit steps\n"
        "lambda (number, default 0.1, >= 0): weight of the original map\n"
        "note (text, default \"x\"): free text\n"
        "variant (paper|released, default paper): which form\n"
        "layers (list of texts, default [\"to_k\",\"to_v\"]): projections that are edited\n");
}

struct WithFile : Parameterised {
  std::string file, folder, note;
  void Fields(ParamVisitor& v) override {
    v.Path("file", &file, "the prompts");
    v.Path("folder", &folder, "the model");
    v.Text("note", &note, "free text");
  }
  std::vector<std::string> needs_one_of() const override { return {"file", "folder"}; }
};

TEST_CASE("paths start where the user stands, and are in no key", "[params]") {
  const std::filesystem::path desk = TestFolder("params");
  std::ofstream(desk / "a.csv") << "x";
  setenv("BUILD_WORKING_DIRECTORY", desk.c_str(), 1);
  WithFile given;
  DecodeParams({{"file", "a.csv"}}, given, "t");
  CHECK(given.file == (desk / "a.csv").string());
  CHECK_THROWS_WITH(DecodeParams({{"file", "b.csv"}}, given, "t"),
                    Contains("t: /file: ") && Contains("b.csv: there is no such file or folder"));
  CHECK_THROWS_AS(DecodeParams({{"file", "/dev/null"}}, given, "t"), UsageError);
  CHECK_THROWS_AS(DecodeParams({{"file", 3}}, given, "t"), UsageError);
  unsetenv("BUILD_WORKING_DIRECTORY");
  DecodeParams({{"folder", desk.string() + "/./"}}, given, "t");
  CHECK(given.folder == desk.string());
  const std::string name = desk.filename().string();
  CHECK(EncodeParams(given, PathForm::kName) ==
        Json{{"file", "a.csv"}, {"folder", name}, {"note", ""}});
  CHECK(EncodeParams(given, PathForm::kLeftOut) == Json{{"note", ""}});
  CHECK(PathsOf(given) ==
        std::map<std::string, std::string>{{"file", given.file}, {"folder", desk.string()}});
  WithFile copy;
  DecodeParams(EncodeParams(given), copy, "t");
  CHECK(EncodeParams(copy) == EncodeParams(given));
  CHECK_THAT(DescribeParams(given), Contains("file (file or folder, default none): the prompts"));
}

TEST_CASE("what needs a setting says so", "[params]") {
  WithFile none;
  CHECK(MissingSetting(none) == "none of its parameters file, folder is set");
  none.folder = "/tmp";
  CHECK(MissingSetting(none).empty());
  Example plain;
  CHECK(MissingSetting(plain).empty());
}

}  // namespace
}  // namespace excise
