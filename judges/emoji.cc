// What: the embedded model's own judge, a small network with a reject class, and its oracle
//   of several
// Paper: none
// Equation: verdict = arg max softmax(class logits, the last of which is none); likewise the style;
//   the oracle's = the class whose mean probability over its networks and views of the picture
//   (as it is, moved by 2 pixels either way) is at least 1/2, else none
// Reference: none
// Deviations: none
// Needs: judges/reporting in the backbone's folder; for attacks that ask an oracle judges/oracle
// Caveats: knows the classes of the emoji world and the styles plain, sepia and line, in pictures
//   of 64 x 64; its error rates are in models/emoji/README.md
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "judges/emoji_judges.h"

namespace excise {
namespace {

class Emoji : public Judge {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }

  void Open(const JudgeSource& source) override {
    const std::filesystem::path folder = source.backbone / "judges";
    std::error_code ignored;
    if (!std::filesystem::is_directory(folder / "reporting", ignored)) {
      throw Error(fmt::format(
          "{}: is not there; the judge 'emoji' is a part of the backbone, and this one comes "
          "without. Let the experiment name another judge for the same concepts ({}), as in --set "
          "judge.plugin=NAME, or concepts of your own theirs.",
          (folder / "reporting").string(), fmt::join(Registry<Judge>::Get().Names(), ", ")));
    }
    judges_ = EmojiJudges::Load(folder);
  }

  std::string digest() const override { return judges_->digest(); }
  JudgeTraits traits() const override { return {judges_->names()}; }
  Judgement Report(const at::Tensor& images) const override { return judges_->Report(images); }
  at::Tensor Features(const at::Tensor& images) const override { return judges_->Features(images); }
  std::string oracle_digest() const override { return judges_->oracle_digest(); }
  Judgement ConsultOracle(const at::Tensor& images) const override {
    return judges_->ConsultOracle(images);
  }

 private:
  std::shared_ptr<const EmojiJudges> judges_ = std::make_shared<const EmojiJudges>();
};

const Registration<Judge, Emoji> registration;

}  // namespace
}  // namespace excise
