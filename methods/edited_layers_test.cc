// Which layers of Stable Diffusion's U-Net a method changes: the ones that the published code does,
// by name, on models of 1.4's and 2.1's shape that are as narrow as they can be.
#include <catch2/catch.hpp>
#include <regex>
#include <set>

#include "methods/method.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Names = std::set<std::string>;

// 1.4: projections around attention are convolutions, eight heads everywhere. 2.1: they are linear,
// and heads have 64 channels each.
Backbone Narrow(bool second) {
  Backbone base = TinyBackbone();
  UNetConfig& unet = base.unet_config;
  unet.block_out_channels = {8, 16, 32, 32};
  unet.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                           "DownBlock2D"};
  unet.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                         "CrossAttnUpBlock2D"};
  unet.layers_per_block = 2;
  unet.use_linear_projection = second;
  unet.num_heads = second ? std::vector<int64_t>{1, 2, 4, 4} : std::vector<int64_t>{8, 8, 8, 8};
  base.unet = InitUNet(unet, 11);
  return base;
}

// The sixteen transformer blocks: two a level on the way down, one in the middle, three a level on
// the way up.
Names Transformers() {
  Names names = {"mid_block.attentions.0"};
  for (const char* level : {"0", "1", "2"}) {
    for (const char* one : {"0", "1"}) {
      names.insert(std::string("down_blocks.") + level + ".attentions." + one);
    }
  }
  for (const char* level : {"1", "2", "3"}) {
    for (const char* one : {"0", "1", "2"}) {
      names.insert(std::string("up_blocks.") + level + ".attentions." + one);
    }
  }
  return names;
}

// Each transformer's name with every one of `ends` behind it.
Names InEach(const Names& ends) {
  Names names;
  for (const std::string& transformer : Transformers()) {
    for (const std::string& end : ends) names.insert(transformer + end);
  }
  return names;
}

const std::string kCross = ".transformer_blocks.0.attn2.";
const Names kKeysAndValues = {kCross + "to_k.weight", kCross + "to_v.weight"};
const Names kCrossAttention = {kCross + "to_q.weight", kCross + "to_k.weight",
                               kCross + "to_v.weight", kCross + "to_out.0.weight",
                               kCross + "to_out.0.bias"};

// Every linear layer and convolution outside of cross-attention, counted as the blocks are built.
Names AllButCrossAttention() {
  Names names;
  const auto add = [&](const std::string& layer, bool bias = true) {
    names.insert(layer + ".weight");
    if (bias) names.insert(layer + ".bias");
  };
  for (const char* layer :
       {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}) {
    add(layer);
  }
  for (const std::string& transformer : Transformers()) {
    const std::string inside = transformer + ".transformer_blocks.0.";
    for (const char* layer : {"attn1.to_q", "attn1.to_k", "attn1.to_v"}) add(inside + layer, false);
    for (const char* layer : {"attn1.to_out.0", "ff.net.0.proj", "ff.net.2"}) add(inside + layer);
    add(transformer + ".proj_in");
    add(transformer + ".proj_out");
  }
  const auto add_resnet = [&](const std::string& resnet, bool shortcut) {
    for (const char* layer : {".conv1", ".conv2", ".time_emb_proj"}) add(resnet + layer);
    if (shortcut) add(resnet + ".conv_shortcut");
  };
  for (int level = 0; level < 4; ++level) {
    const std::string down = "down_blocks." + std::to_string(level);
    // Channels grow at the first resnet of levels 1 and 2.
    add_resnet(down + ".resnets.0", level == 1 || level == 2);
    add_resnet(down + ".resnets.1", false);
    if (level < 3) add(down + ".downsamplers.0.conv");
    const std::string up = "up_blocks." + std::to_string(level);
    for (const char* one : {".resnets.0", ".resnets.1", ".resnets.2"}) add_resnet(up + one, true);
    if (level < 3) add(up + ".upsamplers.0.conv");
  }
  add_resnet("mid_block.resnets.0", false);
  add_resnet("mid_block.resnets.1", false);
  return names;
}

Erased Erase(const Backbone& base, const std::string& name, const Json& params) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make(name);
  const std::map<std::string, Json> presets = method->presets();
  Json all = presets.count("smoke") == 0 ? Json::object() : presets.at("smoke");
  all.update(params);
  DecodeParams(all, *method, name);
  TinyContext context;
  return method->Erase(context, base, {TinyConcept()});
}

Names NamesOf(const StateDict& tensors) {
  Names names;
  for (const auto& [name, tensor] : tensors) names.insert(name);
  return names;
}

// Of adapters: the layers that have one.
Names LayersOf(const StateDict& adapters) {
  const std::regex layer("((?:down|mid|up)_block.*)\\.(?:lora_A|down)\\.weight");
  Names names;
  for (const auto& [name, tensor] : adapters) {
    std::smatch match;
    if (std::regex_search(name, match, layer)) names.insert(match[1]);
  }
  return names;
}

}  // namespace

TEST_CASE("edited layers: weights that published code replaces or trains") {
  struct Case {
    const char* method;
    Json params;
    Names expected;
  };
  const std::vector<Case> cases = {
      // uce: to_k and to_v of every attn2 (rohitgandikota/unified-concept-editing).
      {"uce", Json::object(), InEach(kKeysAndValues)},
      {"rece", Json::object(), InEach(kKeysAndValues)},
      // mace: closed form on to_k and to_v of every attn2 (Shilin-LU/MACE).
      {"mace", Json::object(), InEach(kKeysAndValues)},
      // concept-ablation: crossattn-kv; its nudity model moves all attention.
      {"concept_ablation", {{"layers", "x_strict"}}, InEach(kKeysAndValues)},
      // esd-x, esd-x-strict and esd-u, by modules of Linear and Conv2d (rohitgandikota/erasing).
      {"esd", {{"variant", "x"}}, InEach(kCrossAttention)},
      {"esd", {{"variant", "x_strict"}}, InEach(kKeysAndValues)},
      {"esd", {{"variant", "u"}}, AllButCrossAttention()},
      // sdd: every parameter of attn2 (nannullna/safe-diffusion).
      {"sdd", {{"layers", "x"}}, InEach(kCrossAttention)}};
  for (const bool second : {false, true}) {
    const Backbone base = Narrow(second);
    for (const Case& one : cases) {
      INFO(one.method << " " << one.params.dump() << (second ? " on 2.1" : " on 1.4"));
      CHECK(NamesOf(Erase(base, one.method, one.params).unet) == one.expected);
    }
  }
  CHECK(InEach(kKeysAndValues).size() == 32);
}

TEST_CASE("edited layers: where published code puts adapters") {
  Names all;
  for (const char* layer :
       {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k",
        "attn2.to_v", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2"}) {
    all.insert(std::string(".transformer_blocks.0.") + layer);
  }
  all.insert({".proj_in", ".proj_out"});
  for (const bool second : {false, true}) {
    INFO((second ? "2.1" : "1.4"));
    const Backbone base = Narrow(second);
    // spm: every Linear and Conv2d of every Transformer2DModel, 192 (Con6924/SPM).
    const Names spm = LayersOf(Erase(base, "spm", Json::object()).hook_state);
    CHECK(spm == InEach(all));
    CHECK(spm.size() == 192);
    // receler: behind every attn2, 16 (jasper0314-huang/Receler).
    CHECK(LayersOf(Erase(base, "receler", Json::object()).hook_state) ==
          InEach({".transformer_blocks.0.attn2"}));
  }
}

}  // namespace excise
