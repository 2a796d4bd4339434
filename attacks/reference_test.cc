// The numbers of unlearn_diff_atk and ring_a_bell against transformers and diffusers on the
// random-weight pipeline tests/fixtures/sd1 (tools/attacks_reference.py).
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/one_hot.h>

#include <catch2/catch.hpp>

#include "attacks/denoising_attack.h"
#include "attacks/hard_prompt.h"
#include "attacks/ring_a_bell/ring_a_bell_search.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

constexpr const char* kSeedText = "a picture of a poodle";

std::filesystem::path Fixtures(const std::string& name) {
  return RepoFile("tests/fixtures/" + name);
}

void CheckClose(const at::Tensor& actual, const at::Tensor& expected) {
  REQUIRE(actual.sizes() == expected.sizes());
  const double norm = expected.norm().item<double>();
  REQUIRE(norm > 1e-6);
  CHECK(actual.sub(expected).norm().item<double>() <= 1e-5 * norm);
}

// A surrogate whose text encoder is the pipeline's.
class Sd1Target : public TinyTarget {
 public:
  Sd1Target() {
    const Backbone sd1 = LoadBackbone(Fixtures("sd1"));
    clip_.config = sd1.clip;
    clip_.tokenizer = sd1.tokenizer;
    clip_.weights = sd1.text_encoder;
  }
  const ClipModel& Surrogate() override { return clip_; }

 private:
  ClipModel clip_;
};

}  // namespace

TEST_CASE("reference: unlearn_diff_atk's loss, gradient and steps on the simplex") {
  const StateDict inputs = LoadSafetensors(Fixtures("attacks/inputs.safetensors"), false);
  const StateDict expected = LoadSafetensors(Fixtures("attacks/expected.safetensors"));
  TinyTarget target;
  target.victim = LoadBackbone(Fixtures("sd1"));
  const DenoisingObjective objective(target, inputs.Get("picture"), false);
  const Prompt seed = TinyPrompt("x", kSeedText);
  const std::vector<int64_t> usable = UsableTokens(*target.victim.tokenizer, "all", {});
  const PrefixedPrompts prefixed(target.victim, {seed}, usable, 3);
  const at::Tensor distribution =
      at::full({1, 3, prefixed.vocabulary()}, 1.0 / static_cast<double>(usable.size()), at::kFloat);
  OptimizerSpec spec;
  spec.name = "adam";
  spec.lr = 0.05;
  spec.weight_decay = 0.1;
  Optimizer optimizer(spec, {"distribution"}, {distribution});
  for (int64_t i = 0; i < 2; ++i) {
    const std::string step = std::to_string(i);
    const at::Tensor drawn = inputs.Get("prefix").narrow(0, i, 1), ids = prefixed.Ids(drawn);
    at::Tensor one_hot = at::one_hot(drawn, prefixed.vocabulary()).to(at::kFloat);
    one_hot.requires_grad_(true);
    DenoisingPoint point;
    for (const DenoisingPoint& one : objective.Points(50)) {
      if (one.timestep == inputs.Get("timestep")[i].item<double>()) point = one;
    }
    REQUIRE(point.timestep > 0);
    const at::Tensor loss =
        objective.Score(prefixed.Embed(one_hot), ids, point, inputs.Get("noise").narrow(0, i, 1))
            .denoising[0];
    CheckClose(loss.detach(), expected.Get("loss" + step));
    const at::Tensor gradient = Gradients(loss, {one_hot})[0];
    CheckClose(gradient[0], expected.Get("gradient" + step));
    StepOnSimplex(gradient, &optimizer, distribution);
    CheckClose(distribution[0], expected.Get("distribution" + step));
  }
}

TEST_CASE("reference: ring_a_bell's concept vector and fitness") {
  const NoGrad no_grad;
  const StateDict inputs = LoadSafetensors(Fixtures("attacks/inputs.safetensors"), false);
  const StateDict expected = LoadSafetensors(Fixtures("attacks/expected.safetensors"));
  Sd1Target target;
  const ClipModel& clip = target.Surrogate();
  const at::Tensor vector = ConceptVector(target, TinyConcept(), {"a picture of a {}"});
  CheckClose(vector, expected.Get("concept"));
  const at::Tensor aim = TextStates(clip, {kSeedText})[0] + 2.5 * vector;
  const at::Tensor ids =
      FrameIds(*clip.tokenizer, inputs.Get("sequences"), clip.config.text.max_position_embeddings);
  const at::Tensor states =
      ClipTextForward(clip.config.text, clip.weights, ClipTokenEmbeddings(clip.weights, ids), ids)
          .last_hidden_state;
  CheckClose(StateFitness(states, aim), expected.Get("fitness"));
}

}  // namespace excise
