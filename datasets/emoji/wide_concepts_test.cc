#include "datasets/emoji/wide_concepts.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "core/text.h"
#include "tests/testdata.h"

namespace excise {
namespace {

std::vector<Concept> Committed(const std::string& folder) {
  std::vector<Concept> concepts;
  for (const std::string& name : ListConcepts(RepoFile(folder))) {
    concepts.push_back(LoadConcept(RepoFile(folder) / (name + ".json")));
  }
  return concepts;
}

Concept Find(const std::vector<Concept>& concepts, const std::string& name) {
  for (const Concept& one : concepts) {
    if (one.name == name) return one;
  }
  FAIL("no concept " << name);
  return {};
}

TEST_CASE("the committed files are what the rule makes") {
  const auto world = EmojiWorld::Load();
  const std::vector<Concept> made = WideConcepts(*world, Committed("datasets/concepts"));
  const std::vector<Concept> committed = Committed("datasets/concepts/wide");
  REQUIRE(made.size() == committed.size());
  for (const Concept& one : made) {
    INFO(one.name);
    CHECK(ConceptToJson(one) == ConceptToJson(Find(committed, one.name)));
  }
}

TEST_CASE("what is near, far, lexical and kept is so by the class list") {
  const auto world = EmojiWorld::Load();
  const std::vector<Concept> others = Committed("datasets/concepts");
  const std::vector<Concept> wide = Committed("datasets/concepts/wide");
  std::set<std::string> targets;
  for (const std::vector<Concept>* all : {&others, &wide}) {
    for (const Concept& one : *all) {
      // No class is the target of two.
      for (const std::string& id : one.judge.target) CHECK(targets.insert(id).second);
    }
  }
  const auto category = [&](const std::string& name) {
    const int index = world->ClassNamed(name);
    REQUIRE(index >= 0);
    return world->classes()[index].category;
  };
  for (const Concept& one : wide) {
    INFO(one.name);
    const std::string own = category(one.known.front());
    CHECK(one.neighbours.near.size() >= 4);
    CHECK(one.neighbours.near.size() <= 8);
    for (const std::string& name : one.neighbours.near) CHECK(category(name) == own);
    CHECK(one.anchor == one.neighbours.near.front());
    CHECK(one.neighbours.far.size() == 8);
    for (const std::string& name : one.neighbours.far) CHECK(category(name) != own);
    CHECK(one.preserve.size() == 10);
    for (const std::string& name : one.preserve) {
      CHECK(targets.count(world->classes()[world->ClassNamed(name)].id) == 0);
    }
    CHECK(one.held_out.size() >= 3);
    for (const std::string& name : one.held_out) {
      CHECK(world->ClassNamed(name) == world->ClassIndex(one.name));
    }
    std::set<std::string> used = {one.known.front()};
    for (const std::vector<std::string>* list :
         {&one.neighbours.near, &one.neighbours.far, &one.neighbours.lexical, &one.preserve}) {
      for (const std::string& name : *list) CHECK(used.insert(name).second);
    }
  }
}

TEST_CASE("alike by the eye too") {
  const std::vector<Concept> wide = Committed("datasets/concepts/wide");
  CHECK(Find(wide, "mrs_claus").anchor == "Santa Claus");
  CHECK(Find(wide, "pick").anchor == "hammer");
  CHECK(Find(wide, "red_apple").neighbours.lexical == std::vector<std::string>{"red heart"});
  CHECK(Find(wide, "woman").category == "identity");
  CHECK(Find(wide, "car").neighbours.near.size() == 5);  // all other vehicles
}

}  // namespace
}  // namespace excise
