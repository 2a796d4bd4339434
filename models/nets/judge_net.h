// Small image classifiers that judge pictures: what is shown (a class or the reject class) and in
// which style. Two architectures, so that the attack's oracle differs from the reporting judge.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "models/tensors/state_dict.h"

namespace excise {

struct JudgeConfig {
  std::string architecture = "resnet";  // resnet | plain
  std::vector<int64_t> channels = {32, 64, 96, 128};
  int64_t num_classes = 0;  // without the reject class, which is the last logit
  int64_t num_styles = 3;
  int64_t image_size = 64;
  std::vector<std::string> class_ids;
};
JudgeConfig ParseJudgeConfig(const Json& config, std::string_view origin);
Json JudgeConfigToJson(const JudgeConfig& config);

struct JudgeOutput {
  at::Tensor class_logits;           // (batch, num_classes + 1)
  at::Tensor style_logits;           // (batch, num_styles)
  at::Tensor pooled;                 // (batch, channels.back()): features for KID
  std::vector<at::Tensor> features;  // one map a stage, for perceptual losses
};
// images (batch, 3, 64, 64) in [0,1]. `training`: batch statistics, running ones are updated.
JudgeOutput JudgeForward(const JudgeConfig& config, const StateDict& weights,
                         const at::Tensor& images, bool training = false);
StateDict InitJudge(const JudgeConfig& config, uint64_t seed);

struct JudgeNet {
  JudgeConfig config;
  StateDict weights;
  std::string digest;
};
JudgeNet LoadJudgeNet(const std::filesystem::path& folder);  // config.json, model.safetensors

}  // namespace excise
