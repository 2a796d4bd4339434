#include "experiments/lab/judges.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "experiments/run/keys.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

using Catch::Contains;

// Names a class for any picture, and has no oracle.
class YesMan : public Judge {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 3; }
  void Open(const JudgeSource&) override {}
  std::string digest() const override { return std::string(64, 'e'); }
  JudgeTraits traits() const override {
    return {{{"class", "poodle"}, {"class", "dog"}}, /*rejects=*/false};
  }
  Judgement Report(const at::Tensor&) const override { return {}; }
};

const Registration<Judge, YesMan> registration;  // "judges_test"
constexpr const char* kYesMan = "judges_test";

// A lab of the embedded model's folder, whose judges are not open yet.
std::unique_ptr<Lab> LabOf(const std::vector<Concept>& concepts) {
  auto lab = TinyLab();
  lab->judges.clear();
  lab->backbone.folder = RepoFile("models/emoji/model_index.json").parent_path();
  lab->concepts = concepts;
  lab->prompts.resize(concepts.size(), lab->prompts[0]);
  return lab;
}

Concept JudgedBy(const std::string& plugin, const Json& params = Json::object()) {
  Concept subject = TinyConcept();
  subject.judge.plugin = plugin;
  subject.judge.params = params;
  return subject;
}

// What opening says of one concept's judge.
void Refused(const Concept& subject, const Catch::Matchers::Impl::MatcherBase<std::string>& says) {
  const auto lab = LabOf({subject});
  CHECK_THROWS_AS(OpenJudges(lab.get()), UsageError);
  CHECK_THROWS_WITH(OpenJudges(LabOf({subject}).get()), says);
}

}  // namespace

TEST_CASE("each concept has its judge, each judge is opened once") {
  const Json strict = {{"threshold", 0.9}};
  const auto lab = LabOf({TinyConcept(), JudgedBy("emoji"), JudgedBy("emoji_template"),
                          JudgedBy("emoji_template", strict), JudgedBy("emoji_template")});
  OpenJudges(lab.get());
  REQUIRE(lab->judges.size() == 3);
  CHECK(lab->JudgeOf(0).plugin_name == "emoji");  // where nobody says another
  CHECK(&lab->JudgeOf(1) == &lab->JudgeOf(0));
  CHECK(lab->JudgeOf(2).plugin_name == "emoji_template");
  CHECK(lab->JudgeOf(2).params == Json{{"threshold", 0.7}});
  CHECK(lab->JudgeOf(3).params == strict);
  CHECK(&lab->JudgeOf(4) == &lab->JudgeOf(2));
  // The same pictures under another judge are other verdicts, and other scores.
  const auto verdicts = [&](size_t subject) {
    Unit unit = UnitsOf(*lab, lab->unmodified, subject, 0, "target").at(0);
    unit.verdict_key["inputs"].erase("unit");
    return CanonicalJson(unit.verdict_key);
  };
  ReadInputs(lab.get());
  CHECK(verdicts(0) == verdicts(1));
  CHECK(verdicts(0) != verdicts(2));
  CHECK(verdicts(2) != verdicts(3));
  CHECK(verdicts(2) == verdicts(4));
}

TEST_CASE("an experiment's judge is asked about every concept") {
  const auto lab = LabOf({TinyConcept(), JudgedBy("emoji")});
  lab->experiment.judge = {"emoji_template", {{"threshold", 0.8}}};
  lab->backbone.folder = TestFolder("no_judges");
  OpenJudges(lab.get());
  REQUIRE(lab->judges.size() == 1);
  CHECK(lab->JudgeOf(1).plugin_name == "emoji_template");
  CHECK(lab->JudgeOf(1).params.at("threshold") == 0.8);
  // Without it the backbone would have to bring one.
  lab->experiment.judge = {};
  lab->judges.clear();
  CHECK_THROWS_WITH(OpenJudges(lab.get()), Contains("is not there") && Contains("emoji_template"));
}

TEST_CASE("a judge that does not fit its concept is refused before any work") {
  Refused(JudgedBy("emojy"), Contains("Unknown judge 'emojy'") && Contains("Did you mean 'emoji'"));
  Refused(JudgedBy("emoji_template", {{"treshold", 0.5}}),
          Contains("concept 'poodle'") && Contains("Did you mean 'threshold'"));
  Refused(JudgedBy("emoji_template", {{"threshold", 1.5}}), Contains("threshold"));
  Refused(JudgedBy("emoji", {{"threshold", 0.5}}), Contains("threshold"));
  Concept subject = TinyConcept();
  subject.judge.target = {"poodel"};
  Refused(subject,
          Contains("concept 'poodle', judge: 'poodel' is nothing that the judge can see") &&
              Contains("Did you mean 'poodle'") && Contains("The judge 'emoji' knows"));
  subject = TinyConcept();
  subject.judge.anchor = {"no such class"};
  Refused(subject, Contains("'no such class'"));
  subject = JudgedBy("emoji_template");
  subject.judge.kind = "style";
  subject.judge.target = {"sepia"};
  Refused(subject, Contains("The judge 'emoji_template' tells no styles apart"));
  subject = JudgedBy(kYesMan);
  subject.judge.anchor = {"cat"};
  Refused(subject, Contains("knows 2 classes, as poodle, dog."));
}

TEST_CASE("what a prompt expects, its concept's judge can see") {
  const auto lab = LabOf({JudgedBy("emoji"), JudgedBy("emoji_template")});
  OpenJudges(lab.get());
  const auto check = [&](size_t subject, const std::string& of_class, const std::string& style) {
    Prompt prompt = TinyPrompt();
    prompt.expected_class = of_class;
    prompt.expected_style = style;
    CheckExpected(*lab, subject, {{"near", {prompt}}});
  };
  CHECK_NOTHROW(check(0, "dog", "line"));
  CHECK_NOTHROW(check(0, "", ""));
  CHECK_THROWS_WITH(check(0, "dgo", ""), Contains("expected_class: 'dgo' is nothing"));
  CHECK_THROWS_WITH(check(0, "dog", "lime"), Contains("expected_style: 'lime' is nothing"));
  // A judge without styles is asked for none.
  CHECK_NOTHROW(check(1, "dog", "plain"));
  CHECK_THROWS_WITH(check(1, "dgo", "plain"), Contains("'dgo' is nothing"));
}

TEST_CASE("features of several judges are not compared") {
  const auto open = [](const Json& kid) {
    const auto lab = LabOf({JudgedBy("emoji"), JudgedBy("emoji_template")});
    lab->metrics.push_back(TinyEntry<Metric>("kid"));
    DecodeParams(kid, *lab->metrics.back().plugin, "test");
    OpenJudges(lab.get());
  };
  CHECK_NOTHROW(open({{"features", "clip"}}));
  CHECK_THROWS_WITH(open({{"features", "judge"}}),
                    Contains("metric 'kid'") && Contains("several judges (emoji, emoji_template)"));
}

TEST_CASE("an attack that asks an oracle needs a judge that has one") {
  const auto lab = LabOf({JudgedBy("emoji"), JudgedBy("emoji_template")});
  lab->attacks.push_back(TinyEntry<Attack>("unlearn_diff_atk"));
  OpenJudges(lab.get());
  ReadInputs(lab.get());
  const size_t attack = lab->attacks.size() - 1;
  const Prompt& seed = lab->prompts[0].at("target")[0];
  const Json key = AttackKey(*lab, attack, 0, 0, seed);
  CHECK(key.at("inputs").at("oracle") == lab->JudgeOf(0).plugin->oracle_digest());
  // Which judge it is, the oracle's digest says.
  CHECK_FALSE(key.at("inputs").at("judged").at("judge").contains("plugin"));
  CHECK_THROWS_WITH(AttackKey(*lab, attack, 0, 1, seed),
                    Contains("no oracle") && Contains("--attacks"));
}

TEST_CASE("records name their judge, one without a reject class says so") {
  const auto lab = LabOf(
      {JudgedBy("emoji"), JudgedBy("emoji_template", {{"threshold", 0.5}}), JudgedBy(kYesMan)});
  OpenJudges(lab.get());
  const Json learned = DescribeJudges(*lab, {0}, {"poodle"});
  CHECK(learned == Json{{"name", "emoji"},
                        {"version", 1},
                        {"classes", {"poodle"}},
                        {"threshold", nullptr},
                        {"sha", lab->judges[0].plugin->digest()}});
  const Json templates = DescribeJudges(*lab, {1}, Json::array());
  CHECK(templates.at("threshold") == 0.5);
  CHECK(templates.at("params") == Json{{"threshold", 0.5}});
  CHECK_FALSE(templates.contains("reject_class"));
  const Json yes = DescribeJudges(*lab, {2}, Json::array());
  CHECK(yes.at("name") == kYesMan);
  CHECK(yes.at("version") == 3);
  CHECK(yes.at("reject_class") == false);
  const Json all = DescribeJudges(*lab, {0, 1, 2}, Json::array());
  CHECK(all.at("name") == "emoji, emoji_template, judges_test");
  CHECK(all.at("version") == 0);
  CHECK(all.at("sha").get<std::string>().size() == 64);
  CHECK(all.at("reject_class") == false);
}

}  // namespace excise
