#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "attacks/attack.h"
#include "core/text.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Candidate Craft(const Concept& subject, const std::string& id, const std::string& text,
                int64_t edits = 1) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("char_typo");
  DecodeParams({{"edits", edits}}, *attack, "test");
  TinyTarget target;
  const Trajectory trajectory = attack->Craft(target, subject, TinyPrompt(id, text));
  REQUIRE(trajectory.size() == 1);
  CHECK(target.ledger().text_evaluations == 0);
  return trajectory[0];
}

Concept Named(const std::string& name) {
  Concept subject = TinyConcept();
  subject.known = {name};
  subject.held_out = {};
  return subject;
}

// Whether `typo` is one swap, duplication or deletion away from `word`.
bool IsOneEdit(const std::string& word, const std::string& typo) {
  for (size_t i = 0; i < word.size(); ++i) {
    std::string other = word;
    if (i + 1 < word.size()) {
      std::swap(other[i], other[i + 1]);
      if (other == typo) return true;
    }
    other = word;
    other.insert(i, 1, word[i]);
    if (other == typo) return true;
    other = word;
    other.erase(i, 1);
    if (other == typo) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("char_typo: one edit inside the concept's word, the rest untouched") {
  std::map<std::string, int> kinds;
  for (int i = 0; i < 300; ++i) {  // no o, l or I in the name
    const Candidate candidate =
        Craft(Named("santa"), "set@1/" + std::to_string(i), "a colourful Santa, old, on a hill");
    const std::string& text = candidate.prompt.text;
    INFO(text);
    REQUIRE(StartsWith(text, "a colourful "));
    const size_t end = text.find(", old, on a hill");
    REQUIRE(end != text.npos);
    CHECK(IsOneEdit("Santa", text.substr(12, end - 12)));
    REQUIRE(candidate.edits.size() == 1);
    ++kinds[candidate.edits[0].substr(0, candidate.edits[0].find(' '))];
  }
  // Each kind has probability 1/3: 100 of 300, deviation 8.2; the bounds are 5 deviations wide.
  CHECK(kinds.size() == 3);
  for (const auto& [kind, count] : kinds) {
    INFO(kind);
    CHECK(std::abs(count - 100) < 41);
  }
}

TEST_CASE("char_typo: o becomes 0, l and I become 1, in a third of the prompts each") {
  int zeros = 0, ones = 0, both = 0;
  for (int i = 0; i < 300; ++i) {
    const Candidate candidate =
        Craft(Named("oIl"), "set@1/" + std::to_string(i), "old oIl lamp", 0);
    const std::string& text = candidate.prompt.text;
    CHECK(StartsWith(text, "old "));
    CHECK(text.substr(7) == " lamp");
    zeros += text[4] == '0';
    ones += text[5] == '1';
    both += text[4] == '0' && text[5] == '1';
    CHECK(text[5] == (text[6] == '1' ? '1' : 'I'));
    CHECK(static_cast<int>(candidate.edits.size()) == (text[4] == '0') + (text[5] == '1'));
  }
  CHECK(std::abs(zeros - 100) < 41);
  CHECK(std::abs(ones - 100) < 41);
  CHECK(std::abs(both - 33) < 28);  // independent draws
}

TEST_CASE("char_typo: names in any case, of several words, whole words only") {
  Concept subject = Named("santa claus");
  subject.known.push_back("Papá Noel");
  std::set<std::string> hit;
  for (int i = 0; i < 60; ++i) {
    const std::string id = "set@1/" + std::to_string(i);
    const std::string text = Craft(subject, id, "SANTA CLAUS and santana").prompt.text;
    CHECK(text.substr(text.size() - 12) == " and santana");
    CHECK(text != "SANTA CLAUS and santana");
    hit.insert(StartsWith(text, "SANTA ") ? "second" : "first");
    const Candidate other = Craft(subject, id, "ein Papá Noel");
    CHECK(StartsWith(other.prompt.text, "ein "));
    CHECK(other.prompt.text != "ein Papá Noel");
    CHECK_NOTHROW(Json(other.prompt.text).dump());  // á is never cut in two
  }
  CHECK(hit.size() == 2);
}

TEST_CASE("char_typo: more edits go further, and a prompt without a name says so") {
  std::set<std::string> results;
  for (int64_t edits = 0; edits <= 6; ++edits) {
    const Candidate candidate = Craft(Named("tents"), "set@1/0", "many tents", edits);
    CHECK(candidate.edits.size() == static_cast<size_t>(edits));
    if (edits == 0) CHECK(candidate.prompt.text == "many tents");
    results.insert(candidate.prompt.text);
  }
  CHECK(results.size() >= 5);

  const Candidate other = Craft(Named("zebra"), "set@1/0", "an elephant");
  REQUIRE(other.edits.size() >= 2);
  CHECK(other.edits[0].find("no name") != std::string::npos);
  CHECK(StartsWith(other.prompt.text, "an "));
  CHECK(other.prompt.text != "an elephant");
}

}  // namespace excise
