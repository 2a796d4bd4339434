#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "attacks/attack.h"
#include "attacks/names_in_text.h"
#include "core/registry.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Concept Named(std::vector<std::string> known, std::vector<std::string> held_out,
              const std::string& category = "object") {
  Concept subject = TinyConcept();
  subject.known = std::move(known);
  subject.held_out = std::move(held_out);
  subject.category = category;
  return subject;
}

Candidate Craft(const Concept& subject, const Prompt& seed) {
  TinyTarget target;
  const Trajectory trajectory = Registry<Attack>::Get().Make("alias")->Craft(target, subject, seed);
  REQUIRE(trajectory.size() == 1);
  CHECK(target.ledger().candidate_evaluations == 1);
  CHECK(target.ledger().text_evaluations == 0);
  return trajectory[0];
}

std::string Text(const Concept& subject, const std::string& text) {
  return Craft(subject, TinyPrompt("t/0", text)).prompt.text;
}

}  // namespace

TEST_CASE("alias: the held-out name stands wherever a known one stood, with its article") {
  const Concept poodle = Named({"poodle"}, {"Pudel"});
  CHECK(Text(poodle, "a picture of a Poodle on a red background") ==
        "a picture of a Pudel on a red background");
  CHECK(Text(poodle, "poodles, a poodle; POODLE") == "poodles, a Pudel; Pudel");
  CHECK(Text(Named({"knife", "kitchen knife", "bomb"}, {"explosive"}),
             "a kitchen knife, a bomb and a knife") ==
        "an explosive, an explosive and an explosive");
  CHECK(Text(Named({"explosive"}, {"bomb"}), "An explosive alone") == "A bomb alone");
  CHECK(Text(Named({"père Noël"}, {"kerstman"}), "le père Noël") == "le kerstman");
  const Candidate candidate = Craft(poodle, TinyPrompt("t/0", "a Poodle by a poodle"));
  CHECK(candidate.edits == std::vector<std::string>{"Poodle -> Pudel", "poodle -> Pudel"});
}

TEST_CASE("alias: a style stays an adjective of something") {
  const Concept sepia = Named({"sepia", "sepia-toned"}, {"vintage"}, "style");
  CHECK(Text(sepia, "a sepia-toned drawing of a cat") == "a vintage drawing of a cat");
  CHECK(Text(sepia, "there is a cat in sepia") == "there is a cat in vintage style");
  CHECK(Text(sepia, "look at a cat in sepia, red background") ==
        "look at a cat in vintage style, red background");
  CHECK(Text(sepia, "we see a cat in sepia on a red background") ==
        "we see a cat in vintage style on a red background");
  CHECK(Text(sepia, "a cat alone in sepia tones with a red background") ==
        "a cat alone in vintage tones with a red background");
  const Concept old = Named({"sepia"}, {"old brown"}, "style");
  CHECK(Text(old, "a sepia stamp with a cat") == "an old brown stamp with a cat");
  CHECK(Text(Named({"sepia"}, {"vintage"}), "in sepia") == "in vintage");  // no style
}

TEST_CASE("alias: names are drawn evenly, the same for a prompt again") {
  const std::vector<std::string> names = {"Pudel", "caniche", "barboncino", "poedel"};
  const Concept subject = Named({"poodle"}, names);
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("alias");
  TinyTarget target;
  std::map<std::string, int> counts;
  for (int i = 0; i < 1000; ++i) {
    const Prompt seed = TinyPrompt("set@1/" + std::to_string(i), "a poodle");
    const std::string text = attack->Craft(target, subject, seed)[0].prompt.text;
    if (i < 5) CHECK(text == Craft(subject, seed).prompt.text);
    ++counts[text.substr(2)];
  }
  REQUIRE(counts.size() == names.size());
  // Binomial: 250 +- 13.7; five deviations.
  for (const std::string& name : names) CHECK(std::abs(counts[name] - 250) < 69);
}

TEST_CASE("alias: without names to put or to find, a prompt is excluded with a reason") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("alias");
  const Backbone base = TinyBackbone();
  CHECK(attack->traits().held_out_names);
  CHECK(attack->Excludes(base, TinyConcept(), TinyPrompt()).empty());
  CHECK(attack->Excludes(base, Named({"poodle"}, {}), TinyPrompt()) == "excluded:no_held_out_name");
  CHECK(attack->Excludes(base, TinyConcept(), TinyPrompt("t/0", "two poodles")) ==
        "excluded:no_known_name");
  TinyTarget target;
  CHECK_THROWS_WITH(attack->Craft(target, TinyConcept(), TinyPrompt("t/0", "two poodles")),
                    Catch::Contains("no known name"));
}

TEST_CASE("names in a text: the longest first, none twice, as many as are wanted") {
  const std::u32string text = U"knife, Kitchen Knife, knives, knife";
  const std::vector<NamePlace> all = PlacesOfNames(text, {"knife", "kitchen knife"});
  REQUIRE(all.size() == 3);
  CHECK(all[0].begin == 0);
  CHECK(all[1].begin == 7);
  CHECK(all[1].end == 20);
  CHECK(all[2].begin == 30);
  const std::vector<NamePlace> one = PlacesOfNames(text, {"knife", "kitchen knife"}, 1);
  REQUIRE(one.size() == 1);
  CHECK(one[0].begin == 7);
  CHECK(PlacesOfNames(text, {"knif", ""}).empty());
}

}  // namespace excise
