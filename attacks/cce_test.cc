#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "attacks/seed_pictures.h"
#include "core/registry.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

std::unique_ptr<Attack> Cce(const Json& params) {
  std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("cce");
  DecodeParams(params, *attack, "test");
  return attack;
}

at::Tensor Rows(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Cce(params);
  target->seeds = attack->traits().seeds;
  return attack->Learn(*target, TinyConcept()).tensors.Get("embeddings");
}

// A U-Net of random weights hardly listens to text; this one does.
void LetTextMatter(Backbone* model) {
  const NoGrad no_grad;
  const StateDict before = model->unet;
  for (const auto& [name, tensor] : before) {
    if (name.find("attn2.to_out") != std::string::npos) model->unet.Set(name, 30 * tensor);
  }
}

// Of "a photo of <rows>" on the attacker's pictures, over draws that no search saw.
double Loss(const at::Tensor& rows) {
  const NoGrad no_grad;
  TinyTarget target(nullptr, 77);
  target.seeds = 2;
  LetTextMatter(&target.victim);
  const SeedPictures seeds = DrawSeedPictures(target, 2);
  const SeedBatch batch = DrawSeedBatch(target, TinyConcept(), seeds, 0, 64);
  const Backbone& model = target.Victim();
  const PromptGap gap = MakePromptGap(*model.tokenizer, "a photo of ", "", rows.size(0), 16);
  return InversionLosses(model, gap, rows.unsqueeze(0), seeds.latents.index_select(0, batch.rows),
                         batch.draw)
      .mean()
      .item<double>();
}

}  // namespace

TEST_CASE("cce: starts from the name's embedding and moves by lr in the first step") {
  TinyTarget target;
  const Backbone& model = target.victim;
  std::vector<int64_t> ids;
  for (const std::string& name : TinyConcept().known) {
    for (const int64_t id : model.tokenizer->Encode(name)) ids.push_back(id);
  }
  at::Tensor mean = model.text_encoder.Get("text_model.embeddings.token_embedding.weight")[ids[0]];
  for (size_t i = 1; i < ids.size(); ++i) {
    mean = mean + model.text_encoder.Get("text_model.embeddings.token_embedding.weight")[ids[i]];
  }
  mean = mean / static_cast<double>(ids.size());
  const Json one = {{"pictures", 2}, {"iterations", 1},   {"batch", 2},
                    {"lr", 1e-3},    {"weight_decay", 0}, {"tokens", 2}};
  const at::Tensor rows = Rows(one, &target);
  CHECK(rows.sizes() == at::IntArrayRef({2, 16}));
  CHECK((rows - mean).abs().max().item<double>() == Approx(1e-3).epsilon(1e-2));
  CHECK(target.ledger().gradient_steps == 1);
  CHECK(target.ledger().text_evaluations == 1);
  CHECK(target.ledger().unet_evaluations == 2 * 2 + 2);
}

TEST_CASE("cce: the edited model denoises the concept's pictures better with what was learnt") {
  TinyTarget few, many;
  LetTextMatter(&few.victim);
  LetTextMatter(&many.victim);
  Json params = {{"pictures", 2}, {"iterations", 1}, {"batch", 8}, {"lr", 1e-9}};
  const at::Tensor start = Rows(params, &few);
  params["iterations"] = 40;
  params["lr"] = 0.05;
  const at::Tensor learnt = Rows(params, &many);
  CHECK(Loss(learnt) < Loss(start));
}

TEST_CASE("cce: what it learnt stands in the place of the concept's name") {
  const std::unique_ptr<Attack> attack = Cce(Json::object());
  Learnt learnt;
  learnt.tensors.Set("embeddings", TinyImages(1, 3).reshape({-1}).narrow(0, 0, 16).view({1, 16}));
  const Backbone base = TinyBackbone();
  const auto text = [&](const char* seed) {
    const Prompt prompt = attack->Use(learnt, base, TinyConcept(), TinyPrompt("t/0", seed));
    CHECK(prompt.form() == PromptForm::kTokenEmbeddings);
    CHECK(std::get<TokenEmbeddings>(prompt.driver).rows.shape == std::vector<int64_t>{1, 16});
    return prompt.text;
  };
  CHECK(text("a Poodle on a red background") == "a <embeddings> on a red background");
  CHECK(text("something else") == "something else, <embeddings>");
  // A name inside a longer word is another word.
  CHECK(text("poodles by a poodle") == "poodles by a <embeddings>");
  Concept nameless = TinyConcept();
  nameless.known.clear();
  TinyTarget target;
  target.seeds = 1;
  CHECK_THROWS_WITH(attack->Learn(target, nameless), Catch::Contains("known names"));
  CHECK(attack->Excludes(base, TinyConcept(), TinyPrompt()).empty());
  const std::string words = "a cat a cat a cat a cat a cat a cat a cat a cat a cat";
  CHECK(attack->Excludes(base, TinyConcept(), TinyPrompt("t/0", words)) == "excluded:too_long");
}

}  // namespace excise
