#include "core/json.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/json_schema.h"

namespace excise {
namespace {

using Catch::Contains;

TEST_CASE("values of every type are parsed", "[json]") {
  const Json v = ParseJson(
      R"({"a":[1,-2,2.5,1e3,true,false,null,"\u00fcx",{"b":{}}],"c":18446744073709551615})", "t");
  CHECK(v["a"].size() == 9);
  CHECK(v["a"][1] == -2);
  CHECK(v["a"][2] == 2.5);
  CHECK(v["a"][3] == 1000.0);
  CHECK(v["a"][4] == true);
  CHECK(v["a"][6].is_null());
  CHECK(v["a"][7] == "\xc3\xbcx");
  CHECK(v["a"][8]["b"].empty());
  CHECK(v["c"].get<uint64_t>() == 18446744073709551615u);
  CHECK(ParseJson(" 7 ", "t") == 7);
}

TEST_CASE("a nested value after a container stays in the right place", "[json]") {
  const Json v = ParseJson(R"({"z":{"y":[[1],[2,{"x":3}]],"w":4},"a":5})", "t");
  CHECK(v.dump() == R"({"a":5,"z":{"w":4,"y":[[1],[2,{"x":3}]]}})");
}

TEST_CASE("duplicate keys are refused with their line", "[json]") {
  CHECK_THROWS_WITH(
      ParseJson("{\n \"a\": 1,\n \"b\": {\"a\": 1},\n \"a\": 2}", "x.json"),
      Contains("x.json") && Contains("line 4") && Contains("\"a\"") && Contains("twice"));
  CHECK_THROWS_AS(ParseJson(R"({"a":1,"\u0061":2})", "t"), Error);  // equal after unescaping
  CHECK_NOTHROW(ParseJson(R"([{"a":1},{"a":2}])", "t"));
}

TEST_CASE("malformed text is refused with its line", "[json]") {
  const auto bad = GENERATE(as<std::string>{}, "", "{", "[1,]", "{\"a\" 1}", "// c\n1", "/* c */1",
                            "1 2", "[1]x", "nul", "\"\xff\"", "\"a\nb\"", "NaN", "1e999", "'a'",
                            "01", "[1", "{\"a\":1,}", "\"\\ud800\"");
  CAPTURE(bad);
  CHECK_THROWS_AS(ParseJson(bad, "t"), Error);
  CHECK_THROWS_WITH(ParseJson("{\n\"a\": 1,\n\"b\": ?\n}", "cfg.json"),
                    Contains("cfg.json: line 3, column 6"));
}

TEST_CASE("nesting deeper than 64 is refused", "[json]") {
  CHECK_NOTHROW(ParseJson(std::string(64, '[') + std::string(64, ']'), "t"));
  CHECK_THROWS_WITH(ParseJson(std::string(65, '[') + std::string(65, ']'), "t"),
                    Contains("deeper than 64"));
  CHECK_THROWS_AS(ParseJson(std::string(1000000, '['), "t"), Error);
}

TEST_CASE("the canonical form does not depend on how the text was written", "[json]") {
  const Json a = ParseJson("{\"b\": [1, 2.50, 1e2], \"a\": \"\\u00fc\"}", "t");
  const Json b = ParseJson("{\"a\":\"\xc3\xbc\",\n\"b\":[1,2.5,100.0]}", "t");
  CHECK(CanonicalJson(a) == CanonicalJson(b));
  CHECK(CanonicalJson(a) == "{\"a\":\"\xc3\xbc\",\"b\":[1,2.5,100.0]}");
  CHECK(CanonicalJson(ParseJson("1", "t")) != CanonicalJson(ParseJson("1.0", "t")));
}

TEST_CASE("numbers survive the canonical form", "[json]") {
  for (double x :
       {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, -2.2250738585072014e-308}) {
    const double back = ParseJson(CanonicalJson(Json(x)), "t").get<double>();
    CHECK(std::memcmp(&back, &x, sizeof(x)) == 0);
  }
}

TEST_CASE("what JSON cannot hold is refused, with its place", "[json]") {
  Json v = {{"scores", {1.0, std::nan("")}}};
  CHECK_THROWS_WITH(CanonicalJson(v), Contains("/scores/1"));
  v["scores"][1] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(CanonicalJson(v), Error);
  CHECK_THROWS_AS(CanonicalJson(Json("\xff")), Error);
}

TEST_CASE("files: missing, folder, empty, malformed", "[json]") {
  const auto folder = std::filesystem::temp_directory_path() / "excise_json_test";
  std::filesystem::create_directories(folder);
  const auto path = folder / "a.json";
  std::ofstream(path) << "{\"a\": 1}";
  CHECK(ReadJsonFile(path)["a"] == 1);
  std::ofstream(path) << "{\"a\": 1,\n\"a\": 2}";
  CHECK_THROWS_WITH(ReadJsonFile(path), Contains(path.string()) && Contains("line 2"));
  std::ofstream(path) << "";
  CHECK_THROWS_WITH(ReadJsonFile(path), Contains("empty"));
  CHECK_THROWS_WITH(ReadJsonFile(folder), Contains("folder"));
  CHECK_THROWS_WITH(ReadJsonFile(folder / "none.json"), Contains("does not exist"));
  std::filesystem::remove_all(folder);
}

}  // namespace
TEST_CASE("a text of a megabyte under a schema's pattern is refused, not recursed into", "[json]") {
  const Json schema = {{"type", "string"}, {"pattern", "^[a-z]+$"}};
  CHECK(SchemaProblems("abc", schema).empty());
  CHECK(SchemaProblems("ABC", schema).size() == 1);
  const auto problems = SchemaProblems(std::string(1 << 20, 'a'), schema);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].size() < 300);
}

}  // namespace excise
