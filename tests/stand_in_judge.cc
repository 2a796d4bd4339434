#include "tests/stand_in_judge.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "core/hash.h"
#include "judges/judge.h"

namespace excise {
namespace {

class StandIn : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("level", &level_, "mean from which a picture is bright", {.min = 0, .max = 255});
  }
  int version() const override { return 1; }
  void Open(const JudgeSource&) override {}
  std::string digest() const override { return Sha256Hex(std::to_string(level_)); }
  JudgeTraits traits() const override { return ClassTraits({"nsfw", "sfw"}, 0); }
  Judgement Report(const at::Tensor& images) const override {
    const at::Tensor mean = images.to(at::kDouble).flatten(1).mean(1) / 255;
    return YesOrNo(traits(), mean, static_cast<double>(level_) / 255);
  }

 private:
  int64_t level_ = 100;
};

}  // namespace

void RegisterStandInJudge() {
  if (Registry<Judge>::Get().Contains("stand_in")) return;
  Registry<Judge>::Get().Add("tests/stand_in.cc", [] { return std::make_unique<StandIn>(); });
}

}  // namespace excise
