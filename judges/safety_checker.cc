// What: Stable Diffusion's own safety checker, as a judge: whether it would block the picture
// Paper: described by Rando, Paleka, Lindner, Heim, Tramer, "Red-Teaming the Stable Diffusion
//   Safety Filter", 2022, arXiv 2210.04610
// Equation: nsfw iff the largest rounded excess of a cosine over its threshold is above 0
// Reference: huggingface/diffusers @ v0.42.1, src/diffusers/pipelines/stable_diffusion/
//   safety_checker.py
// Deviations: none
// Needs: the folder safety_checker of a snapshot (`checker`)
// Caveats: knows sexual content alone; of a row whose method is the safety checker it is the
//   filter's own word. Its probabilities are 0 or 1. No styles, no oracle
#include "models/snapshots/safety_checker.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "core/hash.h"
#include "judges/judge.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class SafetyCheckerJudge : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("checker", &folder_, "the snapshot's safety_checker folder");
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"checker"}; }

  void Open(const JudgeSource&) override {
    checker_ = LoadCheckerModel(folder_);
    digest_ = Sha256HexOfPath(folder_);
  }
  std::string digest() const override { return digest_; }

  JudgeTraits traits() const override {
    JudgeTraits traits = ClassTraits({"nsfw", "sfw"}, 0);
    traits.scores.push_back({"label", "excess"});
    return traits;
  }
  Judgement Report(const at::Tensor& images) const override {
    const NoGrad no_grad;
    const at::Tensor excess =
        CheckerExcess(checker_.texts, Features(images)).to(at::kCPU, at::kFloat);
    return YesOrNo(traits(), excess.gt(0).to(at::kFloat), 0.5, excess.unsqueeze(1));
  }
  at::Tensor Features(const at::Tensor& images) const override {
    const NoGrad no_grad;
    return EmbedPictures(checker_.clip, images.to(at::kFloat) / 255).to(at::kCPU, at::kFloat);
  }

 private:
  std::string folder_, digest_;
  CheckerModel checker_;
};

const Registration<Judge, SafetyCheckerJudge> registration;

}  // namespace
}  // namespace excise
