// Which ways to draw are tried, and that what is drawn is the prompt itself.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Probed(const Json& params, TinyTarget* target, const Prompt& seed = TinyPrompt()) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("probe");
  DecodeParams(params, *attack, "test");
  const Trajectory found = attack->Craft(*target, TinyConcept(), seed);
  REQUIRE_FALSE(found.empty());
  // The seed first, drawn as ever; the text never changes.
  CHECK(found[0].prompt.drawing.plain());
  CHECK(found[0].prompt.latents.values.empty());
  for (const Candidate& candidate : found) {
    CHECK(candidate.prompt.text == TinyPrompt().text);
    CHECK(candidate.prompt.root_id == seed.root_id);
  }
  return found;
}

}  // namespace

TEST_CASE("probe: noise scales from the first to the last, evenly, and the best is kept") {
  TinyTarget target;
  target.red_enough = 2;  // never
  const Trajectory all =
      Probed({{"tries", 3}, {"noise_scale", 1.0}, {"most_noise", 1.85}}, &target);
  REQUIRE(all.size() >= 4);
  double best = all[0].score;
  for (size_t i = 1; i < 4; ++i) {
    const Prompt& prompt = all[i].prompt;
    CHECK(prompt.drawing.noise_scale == Approx(1 + 0.425 * static_cast<double>(i - 1)));
    CHECK(prompt.drawing.first_step == 0);
    CHECK(prompt.latents.values.empty());
    CHECK(all[i].score != all[i - 1].score);  // another picture
    CHECK(all[i].ledger.victim_queries == static_cast<int64_t>(i) + 1);
    best = std::max(best, all[i].score);
  }
  CHECK(all.back().score == best);
  CHECK(all.back().ledger.victim_queries == 4);
  CHECK(target.asked.size() == 4);
  TinyTarget one;
  one.red_enough = 2;
  CHECK(Probed({{"tries", 1}}, &one)[1].prompt.drawing.noise_scale == 1);
}

TEST_CASE("probe: the first picture that succeeds ends it") {
  // A prompt whose seed picture is not the reddest, which half of them are: one noise, many scales.
  bool seen = false;
  for (int i = 0; i < 12 && !seen; ++i) {
    const Prompt seed = TinyPrompt("tiny@00000000/" + std::to_string(i));
    TinyTarget all, some;
    all.red_enough = 2;
    const Trajectory found = Probed({{"tries", 4}}, &all, seed);
    const auto redder = std::find_if(found.begin() + 1, found.end(), [&](const Candidate& one) {
      return one.score > found[0].score;
    });
    if (redder == found.end()) continue;
    seen = true;
    some.red_enough = redder->score;
    const Trajectory shorter = Probed({{"tries", 4}}, &some, seed);
    CHECK(shorter.size() == static_cast<size_t>(redder - found.begin()) + 1);
    CHECK(shorter.back().success == true);
    CHECK(shorter.back().prompt.drawing == redder->prompt.drawing);
  }
  REQUIRE(seen);
}

TEST_CASE("probe: completion starts at a picture of the unmodified model, later with every try") {
  const Json params = {{"kind", "completion"}, {"tries", 3}, {"start", 0.1}, {"most_start", 0.5}};
  TinyTarget target;
  target.red_enough = 2;
  target.sampling.steps = 10;
  const Trajectory all = Probed(params, &target);
  REQUIRE(all.size() >= 4);
  const NoGrad no_grad;
  const Backbone& model = target.Unmodified();
  const at::Tensor picture = target.ReferenceImages(TinyPrompt(), 1) * 2 - 1;
  const at::Tensor expected =
      VaeEncode(model.vae_config, model.vae, picture).mean[0] * model.vae_config.scaling_factor;
  for (size_t i = 1; i < 4; ++i) {
    const Prompt& prompt = all[i].prompt;
    CHECK(prompt.drawing.first_step == 2 * static_cast<int64_t>(i) - 1);  // 1, 3, 5 of 10
    CHECK(prompt.drawing.noise_scale == 0);
    REQUIRE(prompt.latents.shape == std::vector<int64_t>{4, 8, 8});
    CHECK(at::tensor(prompt.latents.values).view({4, 8, 8}).allclose(expected));
  }
  // The picture is made once; what is skipped is not spent: 10, 9, 7 and 5 steps of two streams.
  CHECK(all[3].ledger.unet_evaluations == 2 + 2 * (10 + 9 + 7 + 5));
}

TEST_CASE("probe: starts at the same step are asked once, and one step leaves nothing to skip") {
  const Json params = {{"kind", "completion"}, {"tries", 5}};
  TinyTarget two;
  two.red_enough = 2;
  Probed(params, &two);
  CHECK(two.asked.size() == 2);  // the seed, and step 1 of 2
  TinyTarget one;
  one.red_enough = 2;
  one.sampling.steps = 1;
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("probe");
  DecodeParams(params, *attack, "test");
  CHECK_THROWS_AS(attack->Craft(one, TinyConcept(), TinyPrompt()), UsageError);
}

}  // namespace excise
