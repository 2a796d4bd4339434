// How what the stages store becomes bytes, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/json.h"
#include "core/store.h"
#include "methods/method.h"
#include "metrics/judge_panel.h"
#include "models/state_dict.h"

namespace excise {

// The tensors of a removal under one name space ("unet/..."), and apart again.
StateDict JoinTensors(const Erased& erased);
Erased PartTensors(const StateDict& all);
// The bytes of a safetensors file; it is written in `folder` on the way.
std::string TensorBytes(const StateDict& tensors, const std::filesystem::path& folder);

// Pictures uint8 (n, 3, h, w): raw bytes and their shape. Throws Error, naming `where`, when they
// do not fit each other.
std::string PictureBytes(const at::Tensor& images);
at::Tensor PicturesFrom(const std::string& bytes, const Json& shape, const std::string& where);

Json PromptToJson(const Prompt& prompt);
Prompt PromptFromJson(const Json& json);
Json TrajectoryToJson(const Trajectory& trajectory);
Trajectory TrajectoryFromJson(const Json& json);
Json SignalsToJson(const Signals& signals);
Signals SignalsFromJson(const Json& json);
Json VerdictsToJson(const std::vector<Verdict>& verdicts);
std::vector<Verdict> VerdictsFromJson(const Json& json);

// A JSON file of an artifact.
Json ReadJson(const Artifact& artifact, const std::string& name);

}  // namespace excise
