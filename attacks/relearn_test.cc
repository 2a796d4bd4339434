#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "attacks/seed_pictures.h"
#include "core/registry.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Learnt Relearn(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("relearn");
  DecodeParams(params, *attack, "test");
  target->seeds = attack->traits().seeds;
  return attack->Learn(*target, TinyConcept());
}

// Of `unet` on the attacker's pictures, over draws that no training saw.
double Loss(const StateDict& unet) {
  const NoGrad no_grad;
  TinyTarget target(nullptr, 77);
  target.seeds = 2;
  const SeedPictures seeds = DrawSeedPictures(target, 2);
  const Backbone& model = target.Victim();
  const at::Tensor states =
      EncodeText(model, TokenizeBatch(*model.tokenizer, {seeds.prompts[0].text}, 16));
  const SeedBatch batch = DrawSeedBatch(target, TinyConcept(), seeds, 0, 64);
  return DenoisingLosses(model.unet_config, model.scheduler, unet,
                         seeds.latents.index_select(0, batch.rows), states.expand({64, -1, -1}),
                         batch.draw)
      .mean()
      .item<double>();
}

}  // namespace

TEST_CASE("relearn: the first step of AdamW moves every weight with a gradient by lr") {
  TinyTarget target;
  const Learnt learnt =
      Relearn({{"pictures", 2}, {"iterations", 1}, {"batch", 2}, {"lr", 1e-3}, {"layers", "cross"}},
              &target);
  REQUIRE(learnt.unet.size() > 0);
  double most = 0;
  for (const auto& [name, tensor] : learnt.unet) {
    INFO(name);
    CHECK(name.find("attn2.") != std::string::npos);
    const double moved = (tensor - target.victim.unet.Get(name)).abs().max().item<double>();
    CHECK(moved <= 1.001e-3);
    most = std::max(most, moved);
  }
  CHECK(most == Approx(1e-3).epsilon(1e-2));
  CHECK(learnt.ledger.gradient_steps == 1);
  // Two pictures of two steps each, and one batch.
  CHECK(learnt.ledger.unet_evaluations == 2 * 2 + 2);
  CHECK(learnt.text_encoder.size() + learnt.vae.size() + learnt.tensors.size() == 0);
}

TEST_CASE("relearn: the edited model denoises the concept's pictures better than before") {
  TinyTarget target;
  const Learnt learnt =
      Relearn({{"pictures", 2}, {"iterations", 30}, {"batch", 8}, {"lr", 1e-2}}, &target);
  StateDict unet = target.victim.unet;
  const double before = Loss(unet);
  unet.Merge(learnt.unet);
  CHECK(Loss(unet) < before);
}

TEST_CASE("seed pictures are shared out evenly, and a batch depends on its step alone") {
  TinyTarget target;
  target.seeds = 3;
  const SeedPictures seeds = DrawSeedPictures(target, 5);
  CHECK(seeds.latents.sizes() == at::IntArrayRef({5, 4, 8, 8}));
  CHECK(seeds.prompts.size() == 5);
  CHECK(seeds.prompts[1].id == seeds.prompts[0].id);
  CHECK(seeds.prompts[4].id != seeds.prompts[3].id);
  const SeedBatch a = DrawSeedBatch(target, TinyConcept(), seeds, 4, 6);
  DrawSeedBatch(target, TinyConcept(), seeds, 5, 6);
  const SeedBatch b = DrawSeedBatch(target, TinyConcept(), seeds, 4, 6);
  CHECK(a.rows.equal(b.rows));
  CHECK(a.draw.noise.equal(b.draw.noise));
  CHECK(a.rows.max().item<int64_t>() < 5);
}

}  // namespace excise
