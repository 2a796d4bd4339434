// What: masked correlation with the renderings of every emoji; nothing is learned
// Paper: none
// Equation: score = max < I - b, a (T - b) > / (|I - b| |a (T - b)|) over a class's templates T of
//   alpha a and over small shifts, b the median of the picture's border; none below the threshold
// Reference: none
// Deviations: none
// Needs: the emoji fonts and CLDR annotations; nothing of the backbone's folder
// Caveats: knows the classes of the emoji world, in plain pictures of 64 x 64, and no styles; has
//   no oracle and no features
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "core/hash.h"
#include "judges/judge.h"
#include "judges/template_judge.h"

namespace excise {
namespace {

class EmojiTemplate : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("threshold", &threshold_, "cosine below which a picture shows no class", {0, 1});
  }
  int version() const override { return 1; }

  void Open(const JudgeSource&) override { world_ = EmojiWorld::Load(); }

  // What the templates are rendered from.
  std::string digest() const override {
    Sha256 sha;
    for (const auto& [file, digest] : world_->Inputs()) sha.Update(file + " " + digest + "\n");
    for (const EmojiClass& one : world_->classes()) {
      sha.Update(one.id + "\n");
      for (const std::string& glyph : one.glyphs) sha.Update(glyph + "\n");
    }
    return sha.Hex();
  }

  JudgeTraits traits() const override {
    JudgeTraits traits;
    for (const EmojiClass& one : world_->classes()) traits.scores.push_back({"class", one.id});
    traits.threshold = threshold_;
    return traits;
  }

  Judgement Report(const at::Tensor& images) const override {
    if (images.size(2) != kSceneSize || images.size(3) != kSceneSize) {
      throw Error(
          fmt::format("The judge 'emoji_template' knows pictures of {} x {}, and this one has {} x "
                      "{}. It suits models of the emoji world alone.",
                      kSceneSize, kSceneSize, images.size(3), images.size(2)));
    }
    std::call_once(once_, [this] { templates_ = TemplateJudge::Build(*world_, threshold_); });
    Judgement said;
    said.names = traits().scores;
    said.scores = at::zeros({images.size(0), static_cast<int64_t>(said.names.size())}, at::kFloat);
    for (const TemplateJudge::Match& match : templates_->Report(images)) {
      said.scores[static_cast<int64_t>(said.verdicts.size())].copy_(match.scores);
      const double score = std::clamp(match.score, 0.0, 1.0);
      // As sure of none as the best class is unlike the picture.
      said.verdicts.push_back({match.class_id, "", match.class_id.empty() ? 1 - score : score, 0});
    }
    return said;
  }

 private:
  double threshold_ = 0.7;
  std::shared_ptr<const EmojiWorld> world_;
  // Rendered when the first picture is judged: keys need none.
  mutable std::once_flag once_;
  mutable std::shared_ptr<const TemplateJudge> templates_;
};

const Registration<Judge, EmojiTemplate> registration;

}  // namespace
}  // namespace excise
