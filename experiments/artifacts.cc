#include "experiments/artifacts.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "models/safetensors.h"

namespace excise {
namespace {

constexpr const char* kModules[] = {"text_encoder/", "unet/", "vae/", "hooks/"};

Json LedgerToJson(const Ledger& ledger) {
  return {{"victim_queries", ledger.victim_queries},
          {"candidate_evaluations", ledger.candidate_evaluations},
          {"gradient_steps", ledger.gradient_steps},
          {"unet_evaluations", ledger.unet_evaluations},
          {"text_evaluations", ledger.text_evaluations}};
}

Ledger LedgerFromJson(const Json& json) {
  return {json.at("victim_queries"), json.at("candidate_evaluations"), json.at("gradient_steps"),
          json.at("unet_evaluations"), json.at("text_evaluations")};
}

}  // namespace

StateDict JoinTensors(const Erased& erased) {
  StateDict all;
  const StateDict* parts[] = {&erased.text_encoder, &erased.unet, &erased.vae, &erased.hook_state};
  for (int i = 0; i < 4; ++i) {
    for (const auto& [name, tensor] : *parts[i]) all.Set(kModules[i] + name, tensor);
  }
  return all;
}

Erased PartTensors(const StateDict& all) {
  Erased erased;
  StateDict* parts[] = {&erased.text_encoder, &erased.unet, &erased.vae, &erased.hook_state};
  for (const auto& [name, tensor] : all) {
    for (int i = 0; i < 4; ++i) {
      const std::string module = kModules[i];
      if (name.compare(0, module.size(), module) == 0) {
        parts[i]->Set(name.substr(module.size()), tensor);
      }
    }
  }
  return erased;
}

std::string TensorBytes(const StateDict& tensors, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / (UniqueSuffix() + ".safetensors");
  SaveSafetensors(file, tensors);
  std::ifstream in(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  const bool whole = in.good() && bytes.good();
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  if (!whole) throw Error(fmt::format("{} cannot be read back.", file.string()));
  return bytes.str();
}

std::string PictureBytes(const at::Tensor& images) {
  const at::Tensor flat = images.contiguous();
  return std::string(reinterpret_cast<const char*>(flat.data_ptr<uint8_t>()),
                     static_cast<size_t>(flat.numel()));
}

at::Tensor PicturesFrom(const std::string& bytes, const Json& shape, const std::string& where) {
  at::Tensor images = at::empty(shape.get<std::vector<int64_t>>(), at::kByte);
  if (static_cast<size_t>(images.numel()) != bytes.size()) {
    throw Error(fmt::format("{}: {} bytes of pictures where the shape wants {}.", where,
                            bytes.size(), images.numel()));
  }
  std::memcpy(images.data_ptr<uint8_t>(), bytes.data(), bytes.size());
  return images;
}

Json PromptToJson(const Prompt& prompt) {
  return {{"id", prompt.id},
          {"root_id", prompt.root_id},
          {"text", prompt.text},
          {"token_ids", prompt.token_ids},
          {"round_trip", prompt.round_trip},
          {"expected_class", prompt.expected_class},
          {"expected_style", prompt.expected_style}};
}

Prompt PromptFromJson(const Json& json) {
  Prompt prompt;
  prompt.id = json.at("id");
  prompt.root_id = json.at("root_id");
  prompt.text = json.at("text");
  prompt.token_ids = json.at("token_ids").get<std::vector<int64_t>>();
  prompt.round_trip = json.at("round_trip");
  prompt.expected_class = json.at("expected_class");
  prompt.expected_style = json.at("expected_style");
  return prompt;
}

Json TrajectoryToJson(const Trajectory& trajectory) {
  Json list = Json::array();
  for (const Candidate& candidate : trajectory) {
    Json item = {{"prompt", PromptToJson(candidate.prompt)},
                 {"ledger", LedgerToJson(candidate.ledger)},
                 {"score", candidate.score},
                 {"edits", candidate.edits}};
    if (candidate.success) item["success"] = *candidate.success;
    list.push_back(std::move(item));
  }
  return list;
}

Trajectory TrajectoryFromJson(const Json& json) {
  Trajectory trajectory;
  for (const Json& item : json) {
    Candidate candidate{PromptFromJson(item.at("prompt")), LedgerFromJson(item.at("ledger")),
                        item.at("score"), item.at("edits").get<std::vector<std::string>>(),
                        std::nullopt};
    if (item.contains("success")) candidate.success = item.at("success").get<bool>();
    trajectory.push_back(std::move(candidate));
  }
  return trajectory;
}

Json SignalsToJson(const Signals& signals) {
  Json json = Json::object();
  for (const auto& [name, signal] : signals) {
    const at::Tensor scores = signal.scores.to(at::kCPU, at::kFloat).contiguous();
    json[name] = {{"scores", std::vector<float>(scores.data_ptr<float>(),
                                                scores.data_ptr<float>() + scores.numel())},
                  {"threshold", signal.threshold}};
  }
  return json;
}

Signals SignalsFromJson(const Json& json) {
  Signals signals;
  for (const auto& [name, entry] : json.items()) {
    const auto scores = entry.at("scores").get<std::vector<float>>();
    signals[name] = {at::tensor(scores, at::kFloat), entry.at("threshold")};
  }
  return signals;
}

Json VerdictsToJson(const std::vector<Verdict>& verdicts) {
  Json list = Json::array();
  for (const Verdict& v : verdicts) {
    list.push_back({{"class", v.class_id},
                    {"style", v.style},
                    {"class_probability", v.class_probability},
                    {"style_probability", v.style_probability}});
  }
  return list;
}

std::vector<Verdict> VerdictsFromJson(const Json& json) {
  std::vector<Verdict> verdicts;
  for (const Json& v : json) {
    verdicts.push_back(
        {v.at("class"), v.at("style"), v.at("class_probability"), v.at("style_probability")});
  }
  return verdicts;
}

Json ReadJson(const Artifact& artifact, const std::string& name) {
  return ParseJson(artifact.Read(name), artifact.File(name).string());
}

}  // namespace excise
