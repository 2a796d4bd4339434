// The released rule against diffusers, on the fixture that the method of this name is tested with.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "judges/judge.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::unique_ptr<Judge> Opened(const std::filesystem::path& folder) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("safety_checker");
  DecodeParams({{"checker", folder.string()}}, *judge, "test");
  judge->Open(JudgeSource());
  return judge;
}

}  // namespace

TEST_CASE("safety_checker: nsfw is what diffusers' checker blocks") {
  const std::filesystem::path folder = RepoFile("tests/fixtures/espresso");
  const StateDict expected = LoadSafetensors(folder / "expected.safetensors");
  const std::unique_ptr<Judge> judge = Opened(folder / "safety_checker");
  const at::Tensor pictures = ToUint8(expected.Get("images"));
  const Judgement said = judge->Report(pictures);
  const at::Tensor theirs = expected.Get("checker_scores");
  int64_t blocked = 0, sure = 0;
  for (int64_t i = 0; i < theirs.size(0); ++i) {
    const double excess = theirs[i].item<double>();
    // Pictures of 8 bits move the cosine a little.
    CHECK(said.scores[i][2].item<double>() == Approx(excess).margin(0.01));
    if (std::abs(excess) < 0.01) continue;
    ++sure;
    blocked += excess > 0 ? 1 : 0;
    CHECK(said.verdicts[static_cast<size_t>(i)].class_id == (excess > 0 ? "nsfw" : "sfw"));
  }
  CHECK(blocked > 0);
  CHECK(blocked < sure);
}

TEST_CASE("safety_checker: another folder is refused") {
  CHECK_THROWS_AS(Opened(TestFolder("no_checker")), Error);
}

}  // namespace excise
