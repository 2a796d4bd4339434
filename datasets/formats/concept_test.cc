#include "datasets/formats/concept.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

Json Good() {
  return ParseJson(R"({
    "name": "x", "title": "x -> y", "category": "object", "sensitivity": "benign_proxy",
    "names": {"known": ["a"], "held_out": ["b"]}, "anchor": "y", "preserve": ["c"],
    "neighbours": {"near": ["d"], "far": ["e"], "lexical": []},
    "judge": {"kind": "class", "target": ["x"], "anchor": ["y"]}})",
                   "test");
}

Concept Load(const Json& json) {
  const auto file = TestFolder("concept") / "x.json";
  std::ofstream(file) << json.dump();
  return LoadConcept(file);
}

Concept LoadWith(const std::function<void(Json&)>& change) {
  Json json = Good();
  change(json);
  return Load(json);
}

TEST_CASE("a concept is read and written back") {
  const Concept subject = Load(Good());
  CHECK(subject.name == "x");
  CHECK(subject.title == "x -> y");
  CHECK(subject.category == "object");
  CHECK(subject.known == std::vector<std::string>{"a"});
  CHECK(subject.held_out == std::vector<std::string>{"b"});
  CHECK(subject.preserve == std::vector<std::string>{"c"});
  CHECK(subject.neighbours.near == std::vector<std::string>{"d"});
  CHECK(subject.neighbours.far == std::vector<std::string>{"e"});
  CHECK(subject.neighbours.lexical.empty());
  CHECK(subject.judge.kind == "class");
  CHECK(subject.judge.anchor == std::vector<std::string>{"y"});
  CHECK(subject.judge.plugin.empty());
  CHECK(subject.judge.params == Json::object());
  CHECK(ConceptToJson(subject) == Good());
}

TEST_CASE("a concept may name its judge, with parameters") {
  Json named = Good();
  named["judge"]["plugin"] = "nudity";
  CHECK(Load(named).judge.plugin == "nudity");
  CHECK(ConceptToJson(Load(named)) == named);
  named["judge"]["params"] = {{"threshold", 0.5}};
  CHECK(Load(named).judge.params == Json{{"threshold", 0.5}});
  CHECK(ConceptToJson(Load(named)) == named);
}

TEST_CASE("every kind of mistake is refused, with its place") {
  using Catch::Contains;
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j.erase("anchor"); }),
                    Contains("x.json") && Contains("'anchor' is missing"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["ancor"] = "y"; }),
                    Contains("unknown key 'ancor'") && Contains("Did you mean 'anchor'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["names"]["others"] = Json::array(); }),
                    Contains("/names: unknown key 'others'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["judge"].erase("target"); }),
                    Contains("/judge: the field 'target' is missing"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["neighbours"] = 3; }), Contains("expected an object"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["title"] = 3; }), Contains("/title: expected a text"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["anchor"] = ""; }), Contains("not empty"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["preserve"] = "c"; }),
                    Contains("/preserve: expected a list"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) {
                      j["preserve"] = {"c", 1};
                    }),
                    Contains("1 is not a text"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["preserve"] = {"c", "c"}; }), Contains("twice"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["names"]["known"] = Json::array(); }),
                    Contains("/names/known: the list is empty"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["category"] = "objct"; }),
                    Contains("Did you mean 'object'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["sensitivity"] = "no"; }), Contains("benign_proxy"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["judge"]["kind"] = "colour"; }),
                    Contains("/judge/kind"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["judge"]["plugin"] = 3; }),
                    Contains("/judge/plugin: expected a text"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["judge"]["plugins"] = "emoji"; }),
                    Contains("unknown key 'plugins'") && Contains("Did you mean 'plugin'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["judge"]["params"] = Json::object(); }),
                    Contains("'plugin' says of which one"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) {
                      j["judge"]["plugin"] = "emoji";
                      j["judge"]["params"] = 3;
                    }),
                    Contains("/judge/params: expected an object"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["name"] = "z"; }), Contains("file's stem 'x'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["names"]["held_out"] = {"a"}; }),
                    Contains("names/held_out"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) {
                      j["preserve"] = {"c", "d"};
                    }),
                    Contains("neighbours/near"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["preserve"] = {"e"}; }), Contains("neighbours/far"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["neighbours"]["lexical"] = {"c"}; }),
                    Contains("neighbours/lexical"));
  CHECK_THROWS_AS(Load(Json::array()), Error);
  CHECK_THROWS_AS(LoadConcept(TestFolder("concept") / "absent.json"), Error);
}

TEST_CASE("descriptions are optional and say no name") {
  CHECK(Load(Good()).implied.empty());
  CHECK_FALSE(ConceptToJson(Load(Good())).at("names").contains("implied"));
  const auto implied = [](const std::string& text) {
    return LoadWith([&](Json& j) { j["names"]["implied"] = {text}; });
  };
  const Concept subject = implied("an ab with c");
  CHECK(subject.implied == std::vector<std::string>{"an ab with c"});
  CHECK(ConceptToJson(subject).at("names").at("implied") == Json{"an ab with c"});
  using Catch::Contains;
  CHECK_THROWS_WITH(implied("such an A"), Contains("'such an A' says the name 'a'"));
  CHECK_THROWS_WITH(implied("b by the sea"), Contains("says the name 'b'"));
  CHECK_THROWS_WITH(LoadWith([](Json& j) { j["names"]["implied"] = Json::array(); }),
                    Contains("/names/implied: the list is empty"));
}

TEST_CASE("the six concepts of the benchmark") {
  const auto folder = RepoFile("datasets/concepts");
  const std::vector<std::string> names = ListConcepts(folder);
  CHECK(names == std::vector<std::string>{"poodle", "santa_claus", "sepia", "smoking",
                                          "tropical_fish", "weapons"});
  for (const std::string& name : names) {
    INFO(name);
    const Concept subject = LoadConcept(folder / (name + ".json"));
    CHECK(subject.judge.plugin == "emoji");
    CHECK(subject.preserve.size() >= 10);
    CHECK(subject.held_out.size() >= 3);
    CHECK(subject.neighbours.near.size() >= 8);
    CHECK(subject.neighbours.far.size() >= 8);
    CHECK_FALSE(subject.neighbours.lexical.empty());
    CHECK(subject.implied.size() >= 2);
  }
  CHECK_THROWS_AS(ListConcepts(folder / "none"), Error);
}

}  // namespace
}  // namespace excise
