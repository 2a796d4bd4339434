#include "datasets/quadruplets/quadruplet_builder.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/error.h"
#include "datasets/quadruplets/visu_quadruplets.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

const char* const kTable = R"({
  "weapons": {"unsafe": ["dagger", "kitchen knife", "axe"], "safe": ["umbrella", "pencil"]},
  "Drug Use": {"unsafe": ["syringe"], "safe": ["flower", "knife"]}
})";

std::vector<Substitution> Table() { return ParseSubstitutions(ParseJson(kTable, "t"), "t"); }

Json OnlyRow(const std::string& caption, uint64_t seed = 1) {
  const BuiltQuadruplets built = BuildQuadruplets({{42, caption}}, Table(), seed);
  REQUIRE(built.rows.size() == 1);
  return built.rows[0];
}

std::string Reason(const std::string& caption) {
  const BuiltQuadruplets built = BuildQuadruplets({{42, caption}}, Table(), 1);
  CHECK(built.rows.empty());
  for (const auto& [reason, n] : built.counts) {
    if (n == 1) return reason;
  }
  return "";
}

std::filesystem::path Written(const std::string& name, const std::string& text) {
  const std::filesystem::path file = TestFolder("builder") / name;
  std::ofstream(file) << text;
  return file;
}

}  // namespace

TEST_CASE("a safe caption gets an unsafe word, an unsafe one a safe word") {
  const Json syringe = OnlyRow("There is a syringe, on a table.");
  CHECK(syringe["nsfw"] == "There is a syringe, on a table.");
  CHECK((syringe["safe"] == "There is a flower, on a table." ||
         syringe["safe"] == "There is a knife, on a table."));
  CHECK(syringe["tag"] == "drug_use");
  CHECK(syringe["coco_id"] == 42);
  CHECK(syringe["nsfw_im_path"] == "drug_use/00000000.png");
  const Json flower = OnlyRow("two people with a flower");
  CHECK(flower["safe"] == "two people with a flower");
  CHECK(flower["nsfw"] == "two people with a syringe");
}

TEST_CASE("articles, capitals, whole words and the longest match") {
  std::set<std::string> unsafe;
  for (uint64_t seed = 0; seed < 40; ++seed) unsafe.insert(OnlyRow("An umbrella", seed)["nsfw"]);
  CHECK(unsafe == std::set<std::string>{"A dagger", "A kitchen knife", "An axe"});
  unsafe.clear();
  for (uint64_t seed = 0; seed < 40; ++seed) unsafe.insert(OnlyRow("Pencil here", seed)["nsfw"]);
  CHECK(unsafe == std::set<std::string>{"Dagger here", "Kitchen knife here", "Axe here"});
  // "kitchen knife" is a weapon, though "knife" alone is in the other class's safe list.
  CHECK(OnlyRow("my kitchen knife")["tag"] == "weapons");
  CHECK(OnlyRow("my knife")["nsfw"] == "my syringe");
  CHECK(OnlyRow("pizza, axe")["nsfw"] == "pizza, axe");  // no article ends in "pizza, "
  CHECK(Reason("daggers and pencilled notes") == "no_word");
  CHECK(Reason("a dagger and another dagger") == "several_words");
  CHECK(Reason("a dagger by a flower") == "several_words");
  CHECK(Reason("a girl with an umbrella") == "excluded:minor");
  CHECK(Reason(" ") == "excluded:empty");
}

TEST_CASE("what is drawn depends on seed and row alone") {
  std::vector<Caption> captions;
  for (int64_t i = 0; i < 200; ++i) captions.push_back({i, "an umbrella"});
  const BuiltQuadruplets built = BuildQuadruplets(captions, Table(), 3);
  CHECK(built.counts.at("built") == 200);
  std::map<std::string, int> drawn;
  for (const Json& row : built.rows) ++drawn[row["nsfw"]];
  REQUIRE(drawn.size() == 3);
  for (const auto& [text, n] : drawn) CHECK(n > 40);  // 200 / 3 each
  captions.resize(50);
  const BuiltQuadruplets few = BuildQuadruplets(captions, Table(), 3);
  for (size_t i = 0; i < 50; ++i) CHECK(few.rows[i] == built.rows[i]);
  CHECK(BuildQuadruplets(captions, Table(), 4).rows != few.rows);
}

TEST_CASE("what is written is what the loader reads") {
  const BuiltQuadruplets built =
      BuildQuadruplets({{7, "an umbrella"}, {9, "nothing"}, {8, "a syringe"}}, Table(), 1);
  const std::vector<VisuRow> rows = ReadVisuRows(Written("visu_b.json", built.rows.dump(1)));
  REQUIRE(rows.size() == 2);
  CHECK(rows[1].coco_id == 8);
  CHECK(rows[1].nsfw == "a syringe");
  CHECK(rows[1].nsfw_im_path == "drug_use/00000002.png");
}

TEST_CASE("captions: COCO's layout, CSV and JSONL") {
  const auto coco = ReadCaptions(Written(
      "coco.json", R"({"info": {}, "annotations": [{"image_id": 5, "id": 1, "caption": "x"}]})"));
  REQUIRE(coco.size() == 1);
  CHECK(coco[0].coco_id == 5);
  const auto csv = ReadCaptions(Written("c.csv", "caption\n\"a, b\"\nc\n"));
  REQUIRE(csv.size() == 2);
  CHECK(csv[0].text == "a, b");
  CHECK(csv[1].coco_id == 1);
  const auto lines = ReadCaptions(Written("c.jsonl", "{\"text\": \"x\", \"image_id\": 12}\n"));
  CHECK(lines[0].coco_id == 12);

  CHECK_THROWS_WITH(ReadCaptions(Written("a.json", "{}")), Contains("annotations"));
  CHECK_THROWS_WITH(
      ReadCaptions(Written("b.json", R"({"annotations": [{"image_id": -5, "caption": "x"}]})")),
      Contains("annotation 0"));
  CHECK_THROWS_WITH(ReadCaptions(Written("d.csv", "caption,coco_id\nx,1\ny,two\n")),
                    Contains("line 3") && Contains("'two'"));
  CHECK_THROWS_AS(ReadCaptions(Written("e.csv", "words\nx\n")), UsageError);
}

TEST_CASE("substitution tables that are refused") {
  const auto complaint = [](const char* text) -> std::string {
    try {
      ParseSubstitutions(ParseJson(text, "t.json"), "t.json");
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(complaint("[]"), Contains("t.json: an object is expected"));
  CHECK_THAT(complaint("{}"), Contains("an object is expected"));
  CHECK_THAT(complaint(R"({"w": {"unsafe": ["a"]}})"), Contains("t.json/w: a list 'safe'"));
  CHECK_THAT(complaint(R"({"w": {"unsafe": ["a"], "safe": []}})"), Contains("a list 'safe'"));
  CHECK_THAT(complaint(R"({"w": {"unsafe": ["a"], "saf": ["b"]}})"),
             Contains("Did you mean 'safe'"));
  CHECK_THAT(complaint(R"({"w": {"unsafe": ["a"], "safe": [1]}})"), Contains("w/safe: words"));
  CHECK_THAT(complaint(R"({"w": {"unsafe": ["a"], "safe": ["A"]}})"), Contains("twice"));
  CHECK_THAT(complaint(R"({"w": ["a"]})"), Contains("t.json/w"));
  CHECK_THAT(complaint(R"({"../w": {"unsafe": ["a"], "safe": ["b"]}})"), Contains("a tag"));
}

}  // namespace excise
