#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <regex>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/formats/dataset.h"
#include "tests/testdata.h"

namespace excise {
namespace {

const std::vector<std::string> kGroups = {"target",  "held_out", "near",   "far",
                                          "lexical", "preserve", "anchor", "implied"};
const std::vector<Split> kSplits = {Split::kErase, Split::kAttackSeed, Split::kSelect,
                                    Split::kTest};

std::unique_ptr<Dataset> Make() { return Registry<Dataset>::Get().Make("emoji_prompts"); }

Concept Load(const std::string& name) {
  return LoadConcept(RepoFile("datasets/concepts") / (name + ".json"));
}

bool EvaluationOnly(const std::string& group) {
  return group == "held_out" || group == "near" || group == "far" || group == "lexical" ||
         group == "implied";
}

bool Open(Split split) { return split == Split::kErase || split == Split::kAttackSeed; }

// Template, by its words: what is left of a prompt that has lost its thing is hard to say, so a
// prompt is looked up among everything that the grammar can say about that thing.
struct Origin {
  Split split;
  CaptionPart part;
};
std::map<std::string, Origin> Sayable(const std::string& thing, const EmojiWorld& world) {
  std::map<std::string, Origin> all;
  for (size_t t = 0; t < CaptionTemplates().size(); ++t) {
    const int index = static_cast<int>(t);
    for (int s = -1; s < static_cast<int>(StyleWords().size()); ++s) {
      for (size_t b = 0; b <= world.backgrounds().size(); ++b) {
        const std::string background =
            b < world.backgrounds().size() ? world.backgrounds()[b].name : "";
        all[ComposeCaption(index, thing, background, s)] = {CaptionTemplates()[t].split,
                                                            PartOf(index, background, s)};
      }
    }
  }
  return all;
}

TEST_CASE("every group has its prompts, ids are unique, splits share no text") {
  const auto dataset = Make();
  std::set<std::string> ids;
  size_t count = 0;
  for (const std::string& name : ListConcepts(RepoFile("datasets/concepts"))) {
    const Concept subject = Load(name);
    std::map<std::string, Split> texts;
    for (const std::string& group : kGroups) {
      for (const Split split : kSplits) {
        INFO(name << " " << group << " " << SplitName(split));
        if (EvaluationOnly(group) && Open(split)) {
          REQUIRE_THROWS_AS(dataset->Prompts(subject, group, split, 1), UsageError);
          continue;
        }
        const std::vector<Prompt> prompts = dataset->Prompts(subject, group, split, 1000).prompts;
        const bool target = group == "target" || group == "held_out" || group == "implied";
        CHECK(prompts.size() >= (target && split == Split::kTest ? 20u : 8u));
        CHECK(prompts.size() <= 48u);
        for (const Prompt& prompt : prompts) {
          CHECK(ids.insert(prompt.id).second);
          CHECK(prompt.root_id == prompt.id);
          CHECK(std::regex_match(prompt.id, std::regex("emoji_prompts@[0-9a-f]{8}/[0-9]+")));
          const bool any_of_several = group == "implied" && subject.judge.target.size() > 1;
          CHECK(prompt.expected_class.empty() == any_of_several);
          const auto [it, fresh] = texts.emplace(prompt.text, split);
          if (!fresh) CHECK(it->second == split);  // a neighbour may be the anchor too
        }
        count += prompts.size();
      }
    }
  }
  CHECK(ids.size() == count);
}

TEST_CASE("select and test use templates and combinations that nothing else uses") {
  const auto dataset = Make();
  const auto world = EmojiWorld::Load();
  const Concept subject = Load("poodle");
  const auto sayable = Sayable("a poodle", *world);
  for (const Split split : kSplits) {
    for (const Prompt& prompt : dataset->Prompts(subject, "target", split, 1000).prompts) {
      INFO(prompt.text);
      const auto it = sayable.find(prompt.text);
      REQUIRE(it != sayable.end());
      CHECK(it->second.split == split);
      CHECK(it->second.part == (Open(split) ? CaptionPart::kTrain : CaptionPart::kTest));
    }
  }
}

TEST_CASE("what is expected is what the concept's judge calls target or anchor") {
  const auto dataset = Make();
  for (const std::string& name : ListConcepts(RepoFile("datasets/concepts"))) {
    INFO(name);
    const Concept subject = Load(name);
    auto judged = [&](const Prompt& prompt) {
      return subject.judge.kind == "style" ? prompt.expected_style : prompt.expected_class;
    };
    std::set<std::string> seen, things;
    for (const char* group : {"target", "held_out"}) {
      for (const Prompt& prompt : dataset->Prompts(subject, group, Split::kTest, 24).prompts) {
        CHECK(IsOneOf(judged(prompt), subject.judge.target));
        seen.insert(judged(prompt));
        things.insert(prompt.expected_class);
      }
    }
    CHECK(seen.size() == subject.judge.target.size());  // weapons: all four within 24 prompts
    if (subject.judge.kind == "style") CHECK(things.size() >= 20);
    for (const Prompt& prompt : dataset->Prompts(subject, "anchor", Split::kTest, 24).prompts) {
      CHECK(IsOneOf(judged(prompt), subject.judge.anchor));
    }
    for (const char* group : {"near", "far", "lexical", "preserve"}) {
      for (const Prompt& prompt : dataset->Prompts(subject, group, Split::kTest, 1000).prompts) {
        CHECK_FALSE(IsOneOf(judged(prompt), subject.judge.target));
      }
    }
  }
}

TEST_CASE("descriptions ask for the concept and never name it") {
  const auto dataset = Make();
  for (const std::string& name : ListConcepts(RepoFile("datasets/concepts"))) {
    INFO(name);
    const Concept subject = Load(name);
    for (const Prompt& prompt : dataset->Prompts(subject, "implied", Split::kTest, 48).prompts) {
      INFO(prompt.text);
      const std::string padded = " " + LowerAscii(prompt.text) + " ";
      for (const std::vector<std::string>* names : {&subject.known, &subject.held_out}) {
        for (const std::string& one : *names) {
          CHECK(padded.find(" " + LowerAscii(one) + " ") == std::string::npos);
        }
      }
      if (subject.judge.kind == "style") CHECK(prompt.expected_style == "sepia");
    }
  }
  const auto sepia = dataset->Prompts(Load("sepia"), "implied", Split::kTest, 48).prompts;
  const auto says = [&](const std::string& words) {
    return std::count_if(sepia.begin(), sepia.end(), [&](const Prompt& prompt) {
      return prompt.text.find(words) != std::string::npos;
    });
  };
  CHECK(says("an old drawing of a ") + says("an old painting of a ") > 0);
  CHECK(says(" in old-fashioned style") > 0);
}

// Noise is keyed by a prompt's id: a group that came later must not move the others'.
TEST_CASE("ids of targets do not depend on the descriptions") {
  const auto dataset = Make();
  const Concept poodle = Load("poodle");
  Concept other = poodle;
  other.implied = {"a curly thing"};
  const auto id = [&](const Concept& subject, const std::string& group) {
    return dataset->Prompts(subject, group, Split::kTest, 1).prompts.front().id;
  };
  CHECK(id(poodle, "target") == id(other, "target"));
  CHECK(id(poodle, "near") == id(other, "near"));
  CHECK(id(poodle, "implied") != id(other, "implied"));
  other.implied.clear();
  CHECK(dataset->Prompts(other, "implied", Split::kTest, 5).prompts.empty());
}

TEST_CASE("a limit cuts the list and changes nothing else") {
  const auto dataset = Make();
  const Concept subject = Load("weapons");
  const auto all = dataset->Prompts(subject, "target", Split::kTest, 1000).prompts;
  const auto few = dataset->Prompts(subject, "target", Split::kTest, 5).prompts;
  REQUIRE(few.size() == 5);
  for (size_t i = 0; i < few.size(); ++i) {
    CHECK(few[i].id == all[i].id);
    CHECK(few[i].text == all[i].text);
  }
  CHECK(dataset->Prompts(subject, "target", Split::kTest, 0).prompts.empty());
}

TEST_CASE("mistakes are refused") {
  const auto dataset = Make();
  Concept subject = Load("poodle");
  CHECK_THROWS_WITH(dataset->Prompts(subject, "nearby", Split::kTest, 5),
                    Catch::Contains("unknown group 'nearby'"));
  CHECK_THROWS_WITH(dataset->Prompts(subject, "pairs", Split::kTest, 5),
                    Catch::Contains("draws one of them"));
  subject.neighbours.near = {"smoking"};  // two classes
  CHECK_THROWS_WITH(dataset->Prompts(subject, "near", Split::kTest, 5),
                    Catch::Contains("'smoking' names no emoji class, or more than one"));
  Concept style = Load("sepia");
  style.known = {"baroque"};
  CHECK_THROWS_WITH(dataset->Prompts(style, "target", Split::kTest, 5),
                    Catch::Contains("'baroque' is no style word"));
}

}  // namespace
}  // namespace excise
