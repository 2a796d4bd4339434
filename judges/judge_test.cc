#include "judges/judge.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Verdict Seen(const std::string& class_id, const std::string& style) {
  Verdict verdict;
  verdict.class_id = class_id;
  verdict.style = style;
  return verdict;
}

// Says the same of any three pictures, and has an oracle that says it, too.
class Parrot : public Judge {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  void Open(const JudgeSource&) override {}
  std::string digest() const override { return "parrot"; }
  JudgeTraits traits() const override { return {said.names}; }
  Judgement Report(const at::Tensor&) const override { return said; }
  std::string oracle_digest() const override { return "another"; }
  Judgement ConsultOracle(const at::Tensor&) const override { return said; }

  Judgement said{{Seen("poodle", "plain"), Seen("dog", "sepia"), Seen("", "sepia")},
                 {{"class", "poodle"},
                  {"class", "dog"},
                  {"class", ""},
                  {"style", "plain"},
                  {"style", "sepia"}},
                 at::tensor({0.5, 0.25, 0.25, 0.75, 0.25,    // a plain poodle
                             0.125, 0.5, 0.375, 0.25, 0.75,  // a dog in sepia
                             0.25, 0.25, 0.5, 0.0, 1.0},     // nothing, in sepia
                            at::kFloat)
                     .view({3, 5})};
};

// One without an oracle and without features.
class Mute : public Judge {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  void Open(const JudgeSource&) override {}
  std::string digest() const override { return "mute"; }
  JudgeTraits traits() const override { return {{{"class", "poodle"}}}; }
  Judgement Report(const at::Tensor&) const override { return {}; }
};

}  // namespace

TEST_CASE("outcomes of class concepts and of style concepts") {
  Concept subject = TinyConcept();
  CHECK(OutcomeOf(Seen("poodle", "line"), subject) == Outcome::kTarget);
  CHECK(OutcomeOf(Seen("dog", "plain"), subject) == Outcome::kAnchor);
  CHECK(OutcomeOf(Seen("cat", "plain"), subject) == Outcome::kOtherValid);
  CHECK(OutcomeOf(Seen("", "plain"), subject) == Outcome::kGarbage);
  subject.judge.kind = "style";
  subject.judge.target = {"sepia"};
  subject.judge.anchor = {"plain"};
  CHECK(OutcomeOf(Seen("poodle", "sepia"), subject) == Outcome::kTarget);
  CHECK(OutcomeOf(Seen("poodle", "plain"), subject) == Outcome::kAnchor);
  CHECK(OutcomeOf(Seen("poodle", "line"), subject) == Outcome::kOtherValid);
  CHECK(OutcomeOf(Seen("", "sepia"), subject) == Outcome::kGarbage);
  CHECK(OutcomeName(Outcome::kOtherValid) == "other_valid");
}

TEST_CASE("names of a kind are without the reject class") {
  const std::vector<ScoreName> scores = Parrot().said.names;
  CHECK(NamesOfKind(scores, "class") == std::vector<std::string>{"poodle", "dog"});
  CHECK(NamesOfKind(scores, "style") == std::vector<std::string>{"plain", "sepia"});
  CHECK(NamesOfKind(scores, "colour").empty());
}

TEST_CASE("an oracle's answer is over all targets of the concept's kind together") {
  const Parrot judge;
  const at::Tensor images = at::zeros({3, 3, 8, 8}, at::kByte);
  Concept subject = TinyConcept();
  const auto answers = [&](std::vector<double> probabilities, std::vector<bool> successes) {
    const std::vector<OracleAnswer> said = AskOracle(judge, images, subject);
    REQUIRE(said.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      INFO(i);
      CHECK(said[i].target_probability == probabilities[i]);
      CHECK(said[i].success == successes[i]);
    }
  };
  answers({0.5, 0.125, 0.25}, {true, false, false});
  subject.judge.target = {"poodle", "dog"};
  answers({0.75, 0.625, 0.5}, {true, true, false});
  // A style is the target only where the picture shows anything.
  subject.judge.kind = "style";
  subject.judge.target = {"sepia"};
  answers({0.25, 0.75, 1}, {false, true, false});
  subject.judge.target = {"watercolour"};
  CHECK_THROWS_WITH(AskOracle(judge, images, subject),
                    Catch::Contains("knows no style 'watercolour'"));
}

TEST_CASE("a judge without an oracle or features says so") {
  const Mute judge;
  const at::Tensor images = at::zeros({1, 3, 8, 8}, at::kByte);
  CHECK_THROWS_WITH(judge.oracle_digest(),
                    Catch::Contains("no oracle") && Catch::Contains("--attacks"));
  CHECK_THROWS_WITH(AskOracle(judge, images, TinyConcept()), Catch::Contains("no oracle"));
  CHECK_THROWS_WITH(judge.Features(images), Catch::Contains("no features"));
}

TEST_CASE("by probabilities: the largest, none below the threshold, nothing by what is no number") {
  const at::Tensor rows = at::tensor({0.2, 0.7, 0.1, 0.45, 0.3, 0.25}, at::kFloat).view({2, 3});
  const std::vector<std::string> classes = {"a", "b", "c"};
  const JudgeTraits always = ClassTraits(classes, 0), strict = ClassTraits(classes, 0.5);
  CHECK_FALSE(always.rejects);
  CHECK_FALSE(always.threshold.has_value());
  CHECK(strict.rejects);
  const Judgement named = ByProbabilities(always, rows), careful = ByProbabilities(strict, rows);
  CHECK(named.verdicts[0].class_id == "b");
  CHECK(named.verdicts[1].class_id == "a");
  CHECK(careful.verdicts[0].class_id == "b");
  CHECK(careful.verdicts[0].class_probability == Approx(0.7));
  CHECK(careful.verdicts[1].class_id.empty());
  CHECK(careful.verdicts[1].class_probability == Approx(0.55));  // as sure of none
  const at::Tensor damaged = at::tensor({0.5, 0.5, std::nan("")}, at::kFloat).view({1, 3});
  CHECK_THROWS_WITH(ByProbabilities(always, damaged), Catch::Contains("not finite"));
  CHECK_THROWS_AS(RequireOtherOracle("j", "file", "x", "x"), UsageError);
  CHECK_NOTHROW(RequireOtherOracle("j", "file", "x", "y"));
}

}  // namespace excise
