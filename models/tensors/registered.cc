#include "models/tensors/registered.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace excise {
namespace {

constexpr const char* kSd15Source =
    "file lists of runwayml/stable-diffusion-v1-5 (Hugging Face) and of "
    "AI-ModelScope/stable-diffusion-v1-5 at 50b8f071 (ModelScope)";

std::vector<RegisteredModel> Models() {
  const ModelFacts sd1{768, 12, 0, 0, 0, 768, "epsilon"};
  std::vector<RegisteredModel> models;
  models.push_back({"sd14",
                    "Stable Diffusion 1.4",
                    "huggingface.co/CompVis/stable-diffusion-v1-4",
                    true,
                    sd1,
                    {}});
  models.push_back(
      {"sd15",
       "Stable Diffusion 1.5",
       "huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5",
       true,
       sd1,
       {{"unet/diffusion_pytorch_model.safetensors", 3438167540,
         "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1", kSd15Source},
        {"vae/diffusion_pytorch_model.safetensors", 334643276,
         "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c", kSd15Source},
        {"text_encoder/model.safetensors", 492265874,
         "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334", kSd15Source},
        {"unet/diffusion_pytorch_model.fp16.safetensors", 1719125304, "", kSd15Source},
        {"vae/diffusion_pytorch_model.fp16.safetensors", 167335342, "", kSd15Source},
        {"text_encoder/model.fp16.safetensors", 246144864, "", kSd15Source}}});
  models.push_back({"sd21",
                    "Stable Diffusion 2.1 (768 pixels, v prediction)",
                    "huggingface.co/stabilityai/stable-diffusion-2-1",
                    true,
                    {1024, 23, 0, 0, 0, 1024, "v_prediction"},
                    {}});
  models.push_back(
      {"clip_vit_b32",
       "OpenAI CLIP ViT-B/32",
       "huggingface.co/openai/clip-vit-base-patch32",
       false,
       {512, 12, 768, 12, 32, 0, ""},
       {{"model.safetensors", 605157884,
         "99d28a652e6ec46629ab7047a0ac82c69b1fe11e0ce672c43af65d3a9a3fc05d",
         "a script that fetches openai/clip-vit-base-patch32 at b33cedfd and checks it"}}});
  models.push_back(
      {"clip_vit_l14",
       "OpenAI CLIP ViT-L/14",
       "huggingface.co/openai/clip-vit-large-patch14",
       false,
       {768, 12, 1024, 24, 14, 0, ""},
       {{"model.safetensors", 1710540580,
         "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
         "records of openai/clip-vit-large-patch14 at 32bd6428 in several repositories"}}});
  models.push_back({"clip_vit_h14",
                    "OpenCLIP ViT-H/14 of LAION-2B",
                    "huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
                    false,
                    {1024, 24, 1280, 32, 14, 0, ""},
                    {}});
  return models;
}

}  // namespace

const std::vector<RegisteredModel>& RegisteredModels() {
  static const auto* const models = new std::vector<RegisteredModel>(Models());
  return *models;
}

const RegisteredModel* FindRegisteredModel(std::string_view name) {
  for (const RegisteredModel& model : RegisteredModels()) {
    if (model.name == name) return &model;
  }
  return nullptr;
}

std::string DescribeModel(const RegisteredModel& model) {
  return fmt::format("{} is {}, {}.", model.name, model.title, model.origin);
}

void CheckFacts(const RegisteredModel& model, const ModelFacts& found, std::string_view folder) {
  std::vector<std::string> wrong;
  const auto check = [&](const char* what, const auto& expected, const auto& actual) {
    if (expected != actual) wrong.push_back(fmt::format("{} {} (not {})", what, actual, expected));
  };
  const ModelFacts& facts = model.facts;
  check("text width", facts.text_width, found.text_width);
  check("text layers", facts.text_layers, found.text_layers);
  check("cross_attention_dim", facts.cross_attention_dim, found.cross_attention_dim);
  check("prediction_type", facts.prediction_type, found.prediction_type);
  if (!model.pipeline) {
    check("vision width", facts.vision_width, found.vision_width);
    check("vision layers", facts.vision_layers, found.vision_layers);
    check("patch size", facts.patch_size, found.patch_size);
  }
  if (wrong.empty()) return;
  throw Error(
      fmt::format("{} is not what its name says: {} Its config has {}. Results would carry a wrong "
                  "name: rename the folder, or put the right model there.",
                  folder, DescribeModel(model), fmt::join(wrong, ", ")));
}

}  // namespace excise
