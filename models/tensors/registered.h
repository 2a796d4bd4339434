// Models that experiments name (sd14, clip_vit_l14, ...): where they come from, what their files
// are, and the facts that tell them from others. Every folder in Hugging Face layout works under
// any other name; a folder under one of these names must be that model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

// A file as its publisher has it. Only values that could be checked are here: 0 and "" where not.
struct RegisteredFile {
  std::string name;  // within the folder, "unet/diffusion_pytorch_model.safetensors"
  uint64_t size;
  std::string sha256;
  std::string source;  // of size and hash
};

// Sizes of a model's parts, 0 where it has no such part.
struct ModelFacts {
  int64_t text_width = 0, text_layers = 0, vision_width = 0, vision_layers = 0, patch_size = 0;
  int64_t cross_attention_dim = 0;
  std::string prediction_type;
};

struct RegisteredModel {
  std::string name, title, origin;
  bool pipeline;  // tokenizer/, text_encoder/, unet/, vae/, scheduler/; else one CLIPModel
  ModelFacts facts;
  std::vector<RegisteredFile> files;
};

const std::vector<RegisteredModel>& RegisteredModels();
// nullptr where the name is not registered.
const RegisteredModel* FindRegisteredModel(std::string_view name);

// "sd14 is Stable Diffusion 1.4, huggingface.co/CompVis/stable-diffusion-v1-4."
std::string DescribeModel(const RegisteredModel& model);

// Throws Error naming every fact that differs, for a folder under the model's name.
void CheckFacts(const RegisteredModel& model, const ModelFacts& found, std::string_view folder);

}  // namespace excise
