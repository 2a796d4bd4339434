#include "pretraining/stages/recipe.h"

#include "core/store.h"
#include "models/snapshots/backbone.h"

namespace excise {

void Recipe::Fields(ParamVisitor& v) {
  const IntegerRange positive{1, 1 << 30};
  v.Integer("seed", &seed, "root of every stream", {0, 1 << 30});
  v.Flag("bf16", &bf16, "bfloat16 autocast (needs AVX-512 or AMX to be fast)");
  v.Integer("threads", &threads, "intra-op threads", {1, 256});
  v.Integer("judge_steps", &judge_steps, "steps of the reporting judge", positive);
  v.Integer("oracle_steps", &oracle_steps, "steps of each network of the attacks' oracle",
            positive);
  v.Integer("search_prompts", &search_prompts,
            "prompts of each concept by which `retrained` is searched, for the oracle", {1, 48});
  v.Integer("shown_pictures", &shown_pictures,
            "pictures by the unmodified model that the oracle is trained on", positive);
  v.Integer("judge_batch", &judge_batch, "pictures a step", positive);
  v.Integer("vae_steps", &vae_steps, "steps of the autoencoder", positive);
  v.Integer("vae_batch", &vae_batch, "pictures a step", positive);
  v.Integer("clip_steps", &clip_steps, "steps of the conditioning CLIP", positive);
  v.Integer("clip_batch", &clip_batch, "pairs a step, all three CLIPs", positive);
  v.Integer("reference_steps", &reference_steps, "steps of the metrics' CLIP", positive);
  v.Integer("surrogate_steps", &surrogate_steps, "steps of the attacks' CLIP", positive);
  v.Integer("cached_scenes", &cached_scenes, "scenes the U-Net is trained on", positive);
  v.Integer("trunk_steps", &trunk_steps, "U-Net steps before any target is seen", positive);
  v.Integer("branch_steps", &branch_steps, "U-Net steps of each branch", positive);
  v.Integer("unet_batch", &unet_batch, "latents a step", positive);
  v.Integer("checkpoint_every", &checkpoint_every, "steps", positive);
  v.Flag("without_concepts", &without_concepts,
         "every stage leaves out what shows a concept, in picture and caption: a model that is "
         "naive in each of its parts");
  v.Number("vae_scale", &vae_scale,
           "scaling factor of the latents; 0: measured. A model whose parts are to stand in for "
           "another's needs that one's",
           {.min = 0});
}

std::map<std::string, std::string> Workshop::Metadata(const std::string& stage) const {
  Recipe copy = recipe;
  std::map<std::string, std::string> metadata = {
      {"format", "pt"}, {"stage", stage}, {"recipe", CanonicalJson(EncodeParams(copy))}};
  for (const auto& [file, digest] : world->Inputs()) metadata["sha256:" + file] = digest;
  return metadata;
}

const std::vector<Stage>& Stages() {
  static const std::vector<Stage> stages = {
      {"reporting", "judges/reporting/model.safetensors", TrainJudgeStage},
      {"text_encoder", "text_encoder/model.safetensors", TrainClipStage},
      {"vae", "vae/diffusion_pytorch_model.safetensors", TrainVaeStage},
      {"unet_trunk", "unet_trunk.safetensors", TrainUnetStage, /*in_scratch=*/true},
      {"unet", "unet/diffusion_pytorch_model.safetensors", TrainUnetStage},
      {"retrained", "retrained/unet/diffusion_pytorch_model.safetensors", TrainUnetStage},
      {"oracle_pictures", "oracle_pictures.safetensors", DrawOraclePicturesStage, true},
      {"oracle_0", "judges/oracle/0/model.safetensors", TrainJudgeStage},
      {"oracle_1", "judges/oracle/1/model.safetensors", TrainJudgeStage},
      {"oracle_2", "judges/oracle/2/model.safetensors", TrainJudgeStage},
      {"reference_clip", "reference_clip/model.safetensors", TrainClipStage},
      {"surrogate_clip", "surrogate_clip/model.safetensors", TrainClipStage},
  };
  return stages;
}

void WriteSnapshotFiles(const Workshop& shop) {
  const Json index = {{"_class_name", "StableDiffusionPipeline"},
                      {"_diffusers_version", "0.42.1"},
                      {"feature_extractor", {nullptr, nullptr}},
                      {"image_encoder", {nullptr, nullptr}},
                      {"requires_safety_checker", false},
                      {"safety_checker", {nullptr, nullptr}},
                      {"scheduler", {"diffusers", "DDIMScheduler"}},
                      {"text_encoder", {"transformers", "CLIPTextModel"}},
                      {"tokenizer", {"transformers", "CLIPTokenizer"}},
                      {"unet", {"diffusers", "UNet2DConditionModel"}},
                      {"vae", {"diffusers", "AutoencoderKL"}}};
  WriteFileAtomically(shop.out / "model_index.json", index.dump(2) + "\n");
  std::filesystem::create_directories(shop.out / "scheduler");
  WriteFileAtomically(shop.out / "scheduler" / "scheduler_config.json",
                      SchedulerConfigToJson(SchedulerConfig()).dump(2) + "\n");
}

}  // namespace excise
