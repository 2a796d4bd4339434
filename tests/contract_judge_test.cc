// The contract of a judge, run on each one alone, on the embedded model's folder.
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "core/text.h"
#include "judges/judge.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/safetensors.h"
#include "tests/contract_common.h"
#include "tests/imagenet_files.h"
#include "tests/stand_in_judge.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::unique_ptr<Judge> Opened() {
  static const ClipModel clip = [] {
    ClipModel tiny = TinyClip();
    tiny.digest = DigestOf(tiny.weights);
    return tiny;
  }();
  static const std::filesystem::path weights = [] {
    const std::filesystem::path file = TestFolder("contract_judge") / "weights.safetensors";
    // Of every kind that a judge reads, in one file.
    StateDict all = FormulaResNet(4);
    all.Merge(FormulaOpenNsfw(4));
    all.Merge(FormulaNudeNet(4));
    SaveSafetensors(file, all);
    return file;
  }();
  static const std::filesystem::path prompts = [] {
    const std::filesystem::path file = TestFolder("contract_q16") / "prompts.safetensors";
    StateDict vectors;
    vectors.Set("prompts", EmbedTexts(clip, {"a picture", "a poodle"}).to(at::kFloat));
    SaveSafetensors(file, vectors);
    return file;
  }();
  RegisterStandInJudge();
  const std::vector<Json> members = {{{"plugin", "stand_in"}, {"level", 120}},
                                     {{"plugin", "stand_in"}, {"level", 130}}};
  std::unique_ptr<Judge> judge =
      MakeForSmoke<Judge>({{"weights", weights.string()},
                           {"prompts", prompts.string()},
                           {"checker", RepoFile("tests/fixtures/espresso/safety_checker").string()},
                           {"members", members}});
  JudgeSource source;
  source.backbone = RepoFile("models/emoji/model_index.json").parent_path();
  source.reference_clip = source.independent_clip = &clip;
  judge->Open(source);
  return judge;
}

at::Tensor Pictures() { return ToUint8(TinyImages(6, 41)); }

std::string Said(const Verdict& verdict) { return verdict.class_id + "/" + verdict.style; }

// The best of the judge's scores of a kind, as its verdict should have it; "" for none.
std::string Best(const Judge& judge, const at::Tensor& scores, const std::string& kind) {
  const JudgeTraits traits = judge.traits();
  std::string best;
  double most = -1e30;
  for (size_t i = 0; i < traits.scores.size(); ++i) {
    const double score = scores[static_cast<int64_t>(i)].item<double>();
    if (traits.scores[i].kind != kind || score <= most) continue;
    most = score;
    best = traits.scores[i].name;
  }
  return kind == "class" && traits.threshold && most < *traits.threshold ? "" : best;
}

}  // namespace

TEST_CASE("parameters and card are sound") {
  CheckParams<Judge>();
  CheckCard<Judge>();
}

TEST_CASE("it names what it can see, each once") {
  const std::unique_ptr<Judge> judge = Opened();
  const JudgeTraits traits = judge->traits();
  REQUIRE_FALSE(NamesOfKind(traits.scores, "class").empty());
  bool none = false;
  for (size_t i = 0; i < traits.scores.size(); ++i) {
    const ScoreName& score = traits.scores[i];
    INFO(score.kind << " '" << score.name << "'");
    CHECK(IsOneOf(score.kind, {"class", "style", "label", "member"}));
    CHECK(std::count(traits.scores.begin(), traits.scores.end(), score) == 1);
    if (score.kind != "class") CHECK_FALSE(score.name.empty());
    none = none || score.name.empty();
  }
  // Who may say none does so by a class of its own or by a threshold, and nobody else does.
  CHECK(traits.rejects == (none || traits.threshold.has_value()));
}

TEST_CASE("its digest names all that it reads, and needs no picture") {
  const std::string digest = Opened()->digest();
  CHECK(digest.size() == 64);
  CHECK(Opened()->digest() == digest);
}

TEST_CASE("the same pictures get the same words, whatever is judged beside them") {
  const std::unique_ptr<Judge> judge = Opened(), again = Opened();
  const at::Tensor pictures = Pictures();
  const Judgement said = judge->Report(pictures);
  REQUIRE(said.verdicts.size() == 6);
  const at::Tensor kept = Pictures();
  CHECK(pictures.equal(kept));
  CHECK(again->Report(pictures).scores.equal(said.scores));
  for (int64_t i = 0; i < 6; ++i) {
    INFO(i);
    const Judgement alone = judge->Report(pictures.narrow(0, i, 1));
    const Judgement beside = judge->Report(at::cat({pictures.narrow(0, 5 - i, 1), pictures}));
    const auto row = static_cast<size_t>(i);
    CHECK(Said(alone.verdicts.at(0)) == Said(said.verdicts[row]));
    CHECK(Said(beside.verdicts.at(row + 1)) == Said(said.verdicts[row]));
    CHECK(at::allclose(alone.scores[0], said.scores[i], 1e-4, 1e-5));
  }
}

TEST_CASE("a verdict is the best of the scores, which are finite") {
  const std::unique_ptr<Judge> judge = Opened();
  const JudgeTraits traits = judge->traits();
  const at::Tensor pictures = Pictures();
  const Judgement said = judge->Report(pictures);
  CHECK((said.names == traits.scores));
  REQUIRE(said.scores.sizes() == at::IntArrayRef({6, static_cast<int64_t>(traits.scores.size())}));
  CHECK(said.scores.scalar_type() == at::kFloat);
  CHECK(at::isfinite(said.scores).all().item<bool>());
  for (int64_t i = 0; i < 6; ++i) {
    INFO(i);
    const Verdict& verdict = said.verdicts[static_cast<size_t>(i)];
    CHECK(verdict.class_id == Best(*judge, said.scores[i], "class"));
    CHECK(verdict.style == Best(*judge, said.scores[i], "style"));
    CHECK(verdict.class_probability >= 0);
    CHECK(verdict.class_probability <= 1);
    CHECK(verdict.style_probability >= 0);
    CHECK(verdict.style_probability <= 1);
    if (!traits.rejects) CHECK_FALSE(verdict.class_id.empty());
    CHECK(verdict.votes.size() == traits.members.size());
    // It would look like a picture that nobody judged.
    CHECK(verdict.class_probability + verdict.style_probability > 0);
  }
}

TEST_CASE("a picture that shows nothing has a verdict, too") {
  const std::unique_ptr<Judge> judge = Opened();
  const at::Tensor nothing = Pictures().narrow(0, 0, 1).zero_();
  const Judgement said = judge->Report(nothing);
  REQUIRE(said.verdicts.size() == 1);
  CHECK(at::isfinite(said.scores).all().item<bool>());
  CHECK(said.verdicts[0].class_probability > 0);
}

// An oracle that reports is no second opinion.
TEST_CASE("its oracle, where it has one, is another judge") {
  const std::unique_ptr<Judge> judge = Opened();
  std::string digest;
  try {
    digest = judge->oracle_digest();
  } catch (const Error&) {
    CHECK_THROWS_AS(judge->ConsultOracle(Pictures()), Error);
    return;
  }
  CHECK(digest.size() == 64);
  CHECK(digest != judge->digest());
  const Judgement said = judge->ConsultOracle(Pictures());
  CHECK(said.verdicts.size() == 6);
  CHECK(at::isfinite(said.scores).all().item<bool>());
  CHECK_FALSE(said.scores.equal(judge->Report(Pictures()).scores));
}

TEST_CASE("its features, where it has some, are a row a picture") {
  const std::unique_ptr<Judge> judge = Opened();
  at::Tensor features;
  try {
    features = judge->Features(Pictures());
  } catch (const Error&) {
    return;
  }
  REQUIRE(features.dim() == 2);
  CHECK(features.size(0) == 6);
  CHECK(features.scalar_type() == at::kFloat);
  CHECK(at::isfinite(features).all().item<bool>());
}

}  // namespace excise
