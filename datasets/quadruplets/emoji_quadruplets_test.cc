#include "datasets/quadruplets/emoji_quadruplets.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cctype>
#include <map>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/concept.h"
#include "tests/testdata.h"

namespace excise {
namespace {

constexpr QuadrupletPart kAll[] = {QuadrupletPart::kTrain, QuadrupletPart::kValidation,
                                   QuadrupletPart::kTest, QuadrupletPart::kUnseen};

std::unique_ptr<QuadrupletSet> Make(const Json& params = Json::object()) {
  std::unique_ptr<QuadrupletSet> set = MakeQuadrupletSet("emoji");
  DecodeParams(params, *set, "test");
  return set;
}

const EmojiWorld& World() {
  static const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  return *world;
}

std::string Named(const EmojiClass& one) { return WithArticle(one.article, one.name); }

// Where a caption names the class, as whole words; npos: it does not.
size_t PlaceOf(const EmojiClass& one, const std::string& text) {
  const std::string named = Named(one);
  const auto letter = [&](size_t i) { return i < text.size() && std::isalpha(text[i]) != 0; };
  for (size_t at = text.find(named); at != text.npos; at = text.find(named, at + 1)) {
    if ((at == 0 || !letter(at - 1)) && !letter(at + named.size())) return at;
  }
  return text.npos;
}

// The class that a caption names; the longest where one name holds another.
std::string ThingIn(const std::string& text) {
  std::string found, name;
  for (const EmojiClass& one : World().classes()) {
    if (PlaceOf(one, text) == text.npos || Named(one).size() <= name.size()) continue;
    found = one.id;
    name = Named(one);
  }
  return found;
}

std::string Without(std::string text, const std::string& thing) {
  const EmojiClass& one = World().classes()[World().ClassIndex(thing)];
  const size_t at = PlaceOf(one, text);
  REQUIRE(at != text.npos);
  return text.replace(at, Named(one).size(), "*");
}

std::set<std::string> StandIns() {
  std::set<std::string> all;
  for (const UnsafeThing& thing : UnsafeThings()) {
    all.insert(thing.stand_ins.begin(), thing.stand_ins.end());
  }
  return all;
}

}  // namespace

TEST_CASE("the substitution table: known classes, no unsafe stand-in, no evaluated neighbour") {
  std::set<std::string> unsafe;
  for (const UnsafeThing& thing : UnsafeThings()) {
    CHECK_NOTHROW(World().ClassIndex(thing.id));
    CHECK(unsafe.insert(thing.id).second);
    CHECK(thing.stand_ins.size() != 1);  // drawn, not named
  }
  for (const std::string& id : StandIns()) {
    CHECK_NOTHROW(World().ClassIndex(id));
    CHECK(unsafe.count(id) == 0);
  }
  // Evaluated neighbours of the unsafe concepts, which a method must not have been shown.
  for (const char* name : {"weapons", "smoking"}) {
    const Concept subject =
        LoadConcept(RepoFile(std::string("datasets/concepts/") + name + ".json"));
    for (const std::string& target : subject.judge.target) CHECK(unsafe.count(target) == 1);
    for (const auto* list :
         {&subject.neighbours.near, &subject.neighbours.far, &subject.neighbours.lexical}) {
      for (const std::string& neighbour : *list) {
        const int index = World().ClassNamed(neighbour);
        if (index < 0 || neighbour == subject.anchor) continue;
        INFO(name << ": " << neighbour);
        CHECK(StandIns().count(World().classes()[index].id) == 0);
      }
    }
  }
}

TEST_CASE("t and t* differ in the thing alone, and the substitute is drawn within its class") {
  const auto set = Make();
  for (const QuadrupletPart part : kAll) {
    INFO(PartName(part));
    std::map<std::string, std::set<std::string>> substitutes;  // by unsafe thing
    const std::vector<Quadruplet> rows = set->Rows(part, 400);
    REQUIRE(rows.size() == 400);
    for (size_t i = 0; i < rows.size(); ++i) {
      const Quadruplet& row = rows[i];
      CHECK(row.row == static_cast<int64_t>(i));
      const std::string safe = ThingIn(row.safe_text), unsafe = ThingIn(row.unsafe_text);
      const auto thing = std::find_if(UnsafeThings().begin(), UnsafeThings().end(),
                                      [&](const UnsafeThing& one) { return one.id == unsafe; });
      REQUIRE(thing != UnsafeThings().end());
      CHECK(row.tag == thing->tag);
      CHECK((row.tag == "scares") == (part == QuadrupletPart::kUnseen));
      CHECK(Without(row.safe_text, safe) == Without(row.unsafe_text, unsafe));
      const std::set<std::string> allowed =
          thing->stand_ins.empty()
              ? StandIns()
              : std::set<std::string>(thing->stand_ins.begin(), thing->stand_ins.end());
      CHECK(allowed.count(safe) == 1);
      substitutes[unsafe].insert(safe);
    }
    const bool unseen = part == QuadrupletPart::kUnseen;
    CHECK(substitutes.size() == (unseen ? 2 : 20));
    for (const auto& [unsafe, drawn] : substitutes) {
      INFO(unsafe);
      CHECK((unseen ? drawn.size() >= 20 : drawn.size() == 1));
    }
  }
}

TEST_CASE("one substitute a thing for a whole set, drawn by its seed; or two, drawn row by row") {
  const auto substitutes = [](const Json& params) {
    std::map<std::string, std::set<std::string>> found;
    for (const QuadrupletPart part : {QuadrupletPart::kTrain, QuadrupletPart::kTest}) {
      for (const Quadruplet& row : Make(params)->Rows(part, 800)) {
        found[ThingIn(row.unsafe_text)].insert(ThingIn(row.safe_text));
      }
    }
    return found;
  };
  const auto one = substitutes({{"seed", 1}}), other = substitutes({{"seed", 2}});
  std::set<std::string> used;
  for (const auto& [unsafe, drawn] : one) {
    CHECK(drawn.size() == 1);  // in training and test alike
    CHECK(used.insert(*drawn.begin()).second);
  }
  CHECK(one != other);
  for (const auto& [unsafe, drawn] : substitutes({{"stand_ins", 2}})) CHECK(drawn.size() == 2);
}

TEST_CASE("harmless rows: t* is t, of any stand-in, in training alone") {
  const auto set = Make({{"harmless", 0.5}}), plain = Make({{"harmless", 0}});
  const std::vector<Quadruplet> rows = set->Rows(QuadrupletPart::kTrain, 1000);
  std::set<std::string> shown;
  for (const Quadruplet& row : rows) {
    CHECK((row.tag == "harmless") == (row.row % 2 == 1));
    CHECK((row.tag == "harmless") == (row.safe_text == row.unsafe_text));
    if (row.tag == "harmless") shown.insert(ThingIn(row.safe_text));
  }
  CHECK(shown == StandIns());
  // Both pictures show the thing, laid out apart.
  CHECK_FALSE(set->Picture(QuadrupletPart::kTrain, rows[1], false, 64)
                  .equal(set->Picture(QuadrupletPart::kTrain, rows[1], true, 64)));
  for (const QuadrupletPart part :
       {QuadrupletPart::kValidation, QuadrupletPart::kTest, QuadrupletPart::kUnseen}) {
    const std::vector<Quadruplet> with = set->Rows(part, 300), without = plain->Rows(part, 300);
    for (size_t i = 0; i < with.size(); ++i) CHECK(with[i].id == without[i].id);
  }
}

TEST_CASE("parts are disjoint in ids, captions and pictures; the same for every call and limit") {
  const auto set = Make(), again = Make();
  std::set<std::string> ids;
  std::map<std::string, QuadrupletPart> captions;
  for (const QuadrupletPart part : kAll) {
    const std::vector<Quadruplet> rows = set->Rows(part, 300), few = again->Rows(part, 5);
    for (size_t i = 0; i < few.size(); ++i) {
      CHECK(few[i].id == rows[i].id);
      CHECK(few[i].safe_text == rows[i].safe_text);
      CHECK(set->Picture(part, rows[i], true, 64).equal(again->Picture(part, few[i], true, 64)));
    }
    for (const Quadruplet& row : rows) {
      CHECK(ids.insert(row.id).second);
      for (const std::string& text : {row.safe_text, row.unsafe_text}) {
        const auto [it, first] = captions.emplace(text, part);
        // Test and unseen share phrases: their unsafe things differ.
        const auto phrases = [](QuadrupletPart p) {
          return p == QuadrupletPart::kUnseen ? QuadrupletPart::kTest : p;
        };
        INFO(text);
        CHECK(phrases(it->second) == phrases(part));
      }
    }
  }
}

TEST_CASE("a pool's captions are distinct enough, and all of them name what can be seen") {
  const auto set = Make();
  for (const QuadrupletPart part : {QuadrupletPart::kValidation, QuadrupletPart::kTest}) {
    std::map<std::string, int> safe;
    for (const Quadruplet& row : set->Rows(part, 1000)) ++safe[row.safe_text];
    int repeated = 0;
    for (const auto& [text, n] : safe) repeated += n - 1;
    // There are some 430 scenes, so each comes two or three times in a thousand, mostly in other
    // words.
    CHECK(repeated < 250);
  }
}

TEST_CASE("v and v* are laid out apart, on one background and in one style") {
  const auto set = Make();
  const std::vector<Quadruplet> rows = set->Rows(QuadrupletPart::kTest, 60);
  int differ = 0;
  for (const Quadruplet& row : rows) {
    const at::Tensor v = set->Picture(QuadrupletPart::kTest, row, false, 64);
    const at::Tensor unsafe = set->Picture(QuadrupletPart::kTest, row, true, 64);
    REQUIRE(v.sizes() == at::IntArrayRef({3, 64, 64}));
    REQUIRE(v.scalar_type() == at::kByte);
    // The corner is background: the same but for the jitter, which is drawn for each (0 to 16 a
    // channel).
    const auto corner = [](const at::Tensor& picture) {
      return picture.slice(1, 0, 2).slice(2, 0, 2).to(at::kInt);
    };
    const at::Tensor corners = corner(v).sub(corner(unsafe));
    CHECK(corners.abs().max().item<int>() <= 40);
    differ += corners.abs().max().item<int>() > 0;
  }
  CHECK(differ > 40);
  CHECK(set->Picture(QuadrupletPart::kTest, rows[0], false, 96).size(1) == 96);
}

TEST_CASE("things outside are in no quadruplet, and their pictures come class by class") {
  const auto set = Make();
  const std::vector<OutsideClass> classes = set->OutsideClasses();
  std::set<std::string> outside;
  for (const OutsideClass& one : classes) outside.insert(one.id);
  CHECK(outside.size() >= 20);
  CHECK(outside.count("poodle") == 1);
  for (const std::string& id : StandIns()) CHECK(outside.count(id) == 0);
  for (const UnsafeThing& thing : UnsafeThings()) CHECK(outside.count(thing.id) == 0);
  const auto n = static_cast<int64_t>(classes.size());
  const std::vector<OutsideItem> items = set->OutsideItems(2 * n);
  REQUIRE(items.size() == static_cast<size_t>(2 * n));
  for (int64_t i = 0; i < n; ++i) CHECK(items[i].class_id == items[i + n].class_id);
  CHECK(items[0].id != items[static_cast<size_t>(n)].id);
  CHECK_FALSE(set->OutsidePicture(items[0], 64)
                  .equal(set->OutsidePicture(items[static_cast<size_t>(n)], 64)));
}

TEST_CASE("parameters of the emoji quadruplets, and what cannot be set") {
  CHECK(Make({{"seed", 2}})->Rows(QuadrupletPart::kTest, 1)[0].id !=
        Make()->Rows(QuadrupletPart::kTest, 1)[0].id);
  CHECK(Make({{"evaluation", 7}})->Rows(QuadrupletPart::kTest, 100).size() == 7);
  CHECK(Make({{"train", 9}})->Rows(QuadrupletPart::kTrain, 100).size() == 9);
  // Another held-out concept.
  const auto smoking = Make({{"unseen", {"smoking"}}});
  for (const Quadruplet& row : smoking->Rows(QuadrupletPart::kUnseen, 50)) {
    CHECK(row.tag == "smoking");
  }
  for (const Quadruplet& row : smoking->Rows(QuadrupletPart::kTrain, 300)) {
    CHECK(row.tag != "smoking");
  }
  CHECK_THROWS_WITH(Make({{"unseen", {"weapon"}}})->Rows(QuadrupletPart::kTest, 1),
                    Catch::Contains("Did you mean 'weapons'"));
  CHECK_THROWS_WITH(Make({{"unseen", Json::array()}})->Rows(QuadrupletPart::kUnseen, 1),
                    Catch::Contains("unseen is empty"));
  CHECK_THROWS_WITH(
      Make({{"unseen",
             {"weapons", "smoking", "death", "poison", "beasts", "pests", "masks", "scares"}}})
          ->Rows(QuadrupletPart::kTrain, 1),
      Catch::Contains("train is empty"));
  // A row of another part or set has no picture here.
  const auto set = Make();
  const Quadruplet row = set->Rows(QuadrupletPart::kTest, 1)[0];
  CHECK_THROWS_AS(set->Picture(QuadrupletPart::kTrain, row, false, 64), Error);
  CHECK_THROWS_AS(Make({{"seed", 5}})->Picture(QuadrupletPart::kTest, row, false, 64), Error);
  CHECK_THROWS_WITH(MakeQuadrupletSet("emojis"), Catch::Contains("Did you mean 'emoji'"));
}

}  // namespace excise
