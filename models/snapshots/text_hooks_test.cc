// Hooks inside the text encoder (Hooks::TextLayers).
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <functional>
#include <set>

#include "models/snapshots/backbone.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/numerics.h"
#include "tests/gradient_check.h"

namespace excise {
namespace {

constexpr const char* kAttention = "text_model.encoder.layers.1.self_attn";
constexpr const char* kLinear = "text_model.encoder.layers.0.mlp.fc1";

// A model of which there is nothing but a small text encoder, in double.
struct Scene {
  Backbone model;
  at::Tensor ids =
      at::tensor({18, 3, 5, 19, 19, 19, 19, 18, 7, 2, 9, 11, 4, 19}, at::kLong).view({2, 7});

  Scene() {
    ClipConfig& config = model.clip;
    config.text.vocab_size = 20;
    config.text.hidden_size = 8;
    config.text.intermediate_size = 12;
    config.text.num_hidden_layers = 2;
    config.text.num_attention_heads = 2;
    config.text.max_position_embeddings = 7;
    config.text.eos_token_id = 19;
    config.vision.hidden_size = 8;
    config.vision.intermediate_size = 8;
    config.vision.num_hidden_layers = 1;
    config.vision.num_attention_heads = 2;
    config.vision.image_size = 8;
    config.vision.patch_size = 4;
    config.projection_dim = 6;
    int i = 0;
    for (const auto& [name, tensor] : InitClip(config, 0)) {
      const bool norm =
          name.find("norm") != std::string::npos && name.find(".weight") != std::string::npos;
      const at::Tensor values = SineTensor(tensor.sizes(), i++) * 0.3;
      model.text_encoder.Set(name, norm ? values + 1 : values);
    }
  }
  at::Tensor Encode(const Hooks* hooks = nullptr) const { return EncodeText(model, ids, hooks); }
  // The same with one tensor replaced and no hooks.
  at::Tensor Edited(const std::string& name,
                    const std::function<at::Tensor(const at::Tensor&)>& edit) const {
    Backbone edited = model;
    edited.text_encoder.Set(name, edit(model.text_encoder.Get(name)));
    return EncodeText(edited, ids);
  }
};

// Hooks whose text layers `make` makes.
class TextHooks : public Hooks {
 public:
  using Make = std::function<std::unique_ptr<LayerHooks>()>;
  explicit TextHooks(Make make) : make_(std::move(make)) {}
  std::unique_ptr<LayerHooks> TextLayers() const override { return make_(); }

 private:
  Make make_;
};

// Adds `constant` to what one linear layer answers.
class Adds : public LayerHooks {
 public:
  explicit Adds(at::Tensor constant) : constant_(std::move(constant)) {}
  bool WantsLinear(const std::string& name) const override { return name == kLinear; }
  at::Tensor OnLinear(const std::string&, const at::Tensor&, at::Tensor y) override {
    return y + constant_;
  }

 private:
  at::Tensor constant_;
};

TextHooks Adding(const at::Tensor& constant) {
  return TextHooks([constant] { return std::make_unique<Adds>(constant); });
}

class ScalesValues : public LayerHooks {
 public:
  bool WantsAttention(const std::string& name) const override { return name == kAttention; }
  void OnAttention(const std::string&, at::Tensor*, at::Tensor*, at::Tensor* v) override {
    *v = *v * 3;
  }
};

class ScalesOutput : public LayerHooks {
 public:
  bool WantsAttention(const std::string& name) const override { return name == kAttention; }
  at::Tensor OnAttentionOutput(const std::string&, at::Tensor output) override {
    return output * 3;
  }
};

// Every token reads all that it may see, in equal parts.
class ReadsEvenly : public LayerHooks {
 public:
  bool WantsProbabilities(const std::string& name) const override { return name == kAttention; }
  at::Tensor OnProbabilities(const std::string&, at::Tensor probabilities) override {
    const at::Tensor visible = at::ones_like(probabilities).tril();
    return visible / visible.sum(-1, /*keepdim=*/true);
  }
};

// Wants everything, keeps what it saw and copies of it, changes nothing.
struct Seen {
  std::set<std::string> linear, attention, probabilities;
  std::vector<at::Tensor> kept, copies;
  void Keep(const at::Tensor& tensor) {
    kept.push_back(tensor);
    copies.push_back(tensor.clone());
  }
};

class Observer : public LayerHooks {
 public:
  explicit Observer(Seen* seen) : seen_(*seen) {}
  bool WantsLinear(const std::string&) const override { return true; }
  bool WantsAttention(const std::string&) const override { return true; }
  bool WantsProbabilities(const std::string&) const override { return true; }
  at::Tensor OnLinear(const std::string& name, const at::Tensor&, at::Tensor y) override {
    seen_.linear.insert(name);
    seen_.Keep(y);
    return y;
  }
  void OnAttention(const std::string& name, at::Tensor* q, at::Tensor*, at::Tensor*) override {
    CHECK(q->sizes() == at::IntArrayRef({2, 2, 7, 4}));
    seen_.attention.insert(name);
  }
  at::Tensor OnProbabilities(const std::string& name, at::Tensor p) override {
    CHECK(p.sizes() == at::IntArrayRef({2, 2, 7, 7}));
    CHECK(p.triu(1).abs().max().item<double>() == 0);  // causal
    seen_.probabilities.insert(name);
    return p;
  }
  at::Tensor OnAttentionOutput(const std::string&, at::Tensor output) override {
    CHECK(output.sizes() == at::IntArrayRef({2, 7, 8}));
    seen_.Keep(output);
    return output;
  }

 private:
  Seen& seen_;
};

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("a constant that is added to a linear layer of the text encoder is its bias") {
  const NoGrad no_grad;
  const Scene scene;
  const at::Tensor constant = SineTensor({12}, 9);
  const at::Tensor expected = scene.Edited(std::string(kLinear) + ".bias",
                                           [&](const at::Tensor& bias) { return bias + constant; });
  const TextHooks hooks = Adding(constant);
  CHECK(Distance(expected, scene.Encode()) > 1e-2);
  CHECK(Distance(scene.Encode(&hooks), expected) < 1e-12);
  // Token embeddings from elsewhere go the same way, and so do pooled ones.
  const at::Tensor tokens = ClipTokenEmbeddings(scene.model.text_encoder, scene.ids);
  CHECK(at::equal(EncodeTokens(scene.model, tokens, scene.ids, &hooks), scene.Encode(&hooks)));
  const auto pooled = [&](const StateDict& weights, LayerHooks* layers) {
    return EmbedIds(scene.model.clip.text, weights, scene.ids, ClipPass::kPooledToken, layers);
  };
  StateDict edited = scene.model.text_encoder;
  const std::string bias = std::string(kLinear) + ".bias";
  edited.Set(bias, edited.Get(bias) + constant);
  const auto layers = hooks.TextLayers();
  CHECK(Distance(pooled(scene.model.text_encoder, layers.get()), pooled(edited, nullptr)) < 1e-12);
}

TEST_CASE("values and outputs of the text encoder's attention that are scaled are their weights'") {
  const NoGrad no_grad;
  const Scene scene;
  const auto scaled = [&](const std::string& part) {
    Backbone edited = scene.model;
    for (const char* suffix : {".weight", ".bias"}) {
      const std::string name = std::string(kAttention) + part + suffix;
      edited.text_encoder.Set(name, edited.text_encoder.Get(name) * 3);
    }
    return EncodeText(edited, scene.ids);
  };
  const TextHooks values([] { return std::make_unique<ScalesValues>(); });
  const TextHooks outputs([] { return std::make_unique<ScalesOutput>(); });
  CHECK(Distance(scene.Encode(&values), scaled(".v_proj")) < 1e-12);
  CHECK(Distance(scene.Encode(&outputs), scaled(".out_proj")) < 1e-12);
  CHECK(Distance(scaled(".v_proj"), scaled(".out_proj")) > 1e-3);
  CHECK(Distance(scaled(".v_proj"), scene.Encode()) > 1e-3);
}

TEST_CASE("probabilities of the text encoder's attention can be replaced") {
  const NoGrad no_grad;
  const Scene scene;
  // Queries of zero score all tokens alike.
  Backbone edited = scene.model;
  for (const char* suffix : {".q_proj.weight", ".q_proj.bias"}) {
    const std::string name = std::string(kAttention) + suffix;
    edited.text_encoder.Set(name, edited.text_encoder.Get(name) * 0);
  }
  const at::Tensor expected = EncodeText(edited, scene.ids);
  const TextHooks hooks([] { return std::make_unique<ReadsEvenly>(); });
  CHECK(Distance(expected, scene.Encode()) > 1e-4);
  CHECK(Distance(scene.Encode(&hooks), expected) < 1e-12);
}

TEST_CASE("the text encoder offers the state dict's names, all of them, and nothing changes") {
  const NoGrad no_grad;
  const Scene scene;
  Seen seen;
  const TextHooks hooks([&] { return std::make_unique<Observer>(&seen); });
  CHECK(at::equal(scene.Encode(&hooks), scene.Encode()));
  std::set<std::string> linear, attention;
  for (const auto& [name, tensor] : scene.model.text_encoder) {
    const size_t dot = name.rfind(".weight");
    if (name.rfind("text_model.encoder.", 0) != 0 || dot == std::string::npos) continue;
    const std::string layer = name.substr(0, dot);
    if (tensor.dim() == 2) linear.insert(layer);
    const size_t part = layer.rfind(".q_proj");
    if (part != std::string::npos) attention.insert(layer.substr(0, part));
  }
  CHECK(linear.size() == 2 * 6);
  CHECK(seen.linear == linear);
  CHECK(seen.attention == attention);
  CHECK(seen.probabilities == attention);
  // What a hook keeps is not overwritten.
  REQUIRE(seen.kept.size() == 2 * 7);
  for (size_t i = 0; i < seen.kept.size(); ++i) CHECK(at::equal(seen.kept[i], seen.copies[i]));
}

TEST_CASE("hooks without text layers, and none, give the same bytes") {
  const NoGrad no_grad;
  const Scene scene;
  const Hooks none;
  CHECK(at::equal(scene.Encode(&none), scene.Encode()));
  const ClipTextOutput whole =
      ClipTextForward(scene.model.clip.text, scene.model.text_encoder,
                      ClipTokenEmbeddings(scene.model.text_encoder, scene.ids), scene.ids);
  CHECK(at::equal(scene.Encode(), whole.last_hidden_state));
}

TEST_CASE("gradients pass through hooks in the text encoder") {
  UseOneThreadPerWorker();
  const Scene scene;
  at::Tensor constant = SineTensor({12}, 9);
  at::Tensor tokens =
      ClipTokenEmbeddings(scene.model.text_encoder, scene.ids.narrow(0, 0, 1)).detach().clone();
  const auto encode = [&] {
    const TextHooks hooks = Adding(constant);
    return EncodeTokens(scene.model, tokens, scene.ids.narrow(0, 0, 1), &hooks);
  };
  CHECK(GradientError(encode, {constant, tokens}) < 1e-6);
}

}  // namespace excise
