#include "experiments/results/artifacts.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/files.h"
#include "core/input_files.h"
#include "core/read_file.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

// Parts of a model, and what else is stored beside them.
using Parts = std::vector<std::pair<std::string, StateDict*>>;

Parts PartsOf(Erased* erased) {
  return {{"text_encoder/", &erased->text_encoder},
          {"unet/", &erased->unet},
          {"vae/", &erased->vae},
          {"hooks/", &erased->hook_state}};
}

Parts PartsOf(Learnt* learnt) {
  return {{"text_encoder/", &learnt->text_encoder},
          {"unet/", &learnt->unet},
          {"vae/", &learnt->vae},
          {"learnt/", &learnt->tensors}};
}

StateDict Join(const Parts& parts) {
  StateDict all;
  for (const auto& [module, tensors] : parts) {
    for (const auto& [name, tensor] : *tensors) all.Set(module + name, tensor);
  }
  return all;
}

void SplitInto(const Parts& parts, const StateDict& all) {
  for (const auto& [name, tensor] : all) {
    const size_t slash = name.find('/') + 1;
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const auto& one) {
      return one.first == name.substr(0, slash);
    });
    if (part == parts.end()) {
      throw Misfit(fmt::format("tensor '{}' is of no part of a model.", name));
    }
    part->second->Set(name.substr(slash), tensor);
  }
}

}  // namespace

void RequireAsMany(const HowMany& first, const HowMany& second) {
  if (first.n == second.n) return;
  throw Misfit(
      fmt::format("{} {} in {}, but {} {} in {}: they belong to each other one by one. One of the "
                  "two was written by a faulty program or by hand, and has to be removed and "
                  "computed anew.",
                  first.n, first.what, first.where, second.n, second.what, second.where));
}

StateDict JoinTensors(const Erased& erased) {
  Erased copy = erased;
  return Join(PartsOf(&copy));
}

Erased SplitTensors(const StateDict& all) {
  Erased erased;
  SplitInto(PartsOf(&erased), all);
  return erased;
}

StateDict JoinTensors(const Learnt& learnt) {
  Learnt copy = learnt;
  return Join(PartsOf(&copy));
}

Learnt SplitLearnt(const StateDict& all) {
  Learnt learnt;
  SplitInto(PartsOf(&learnt), all);
  return learnt;
}

Json LedgerToJson(const Ledger& ledger) {
  return {{"victim_queries", ledger.victim_queries},
          {"candidate_evaluations", ledger.candidate_evaluations},
          {"gradient_steps", ledger.gradient_steps},
          {"unet_evaluations", ledger.unet_evaluations},
          {"text_evaluations", ledger.text_evaluations}};
}

Ledger LedgerFromJson(const Json& json) {
  const auto spent = [&](const char* what) { return NumberFrom(json.at(what), what); };
  return {spent("victim_queries"), spent("candidate_evaluations"), spent("gradient_steps"),
          spent("unet_evaluations"), spent("text_evaluations")};
}

std::string TensorBytes(const StateDict& tensors, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / (UniqueSuffix() + ".safetensors");
  SaveSafetensors(file, tensors);
  std::string bytes = ReadFile(file, UINT64_MAX);
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  return bytes;
}

std::string PictureBytes(const at::Tensor& images) {
  const at::Tensor flat = images.contiguous();
  return std::string(reinterpret_cast<const char*>(flat.data_ptr<uint8_t>()),
                     static_cast<size_t>(flat.numel()));
}

at::Tensor PicturesFrom(const std::string& bytes, const Json& stored,
                        const std::vector<int64_t>& shape, const std::string& where) {
  // The shape first: nothing is allocated that a wrong one asks for.
  if (stored != Json(shape)) {
    throw Misfit(fmt::format("{}: pictures of the shape {} where {} is expected.", where,
                             stored.dump(), Json(shape).dump()));
  }
  at::Tensor images = at::empty(shape, at::kByte);
  RequireAsMany({static_cast<int64_t>(bytes.size()), "bytes", where},
                {images.numel(), "values", "pictures of the shape " + stored.dump()});
  std::memcpy(images.data_ptr<uint8_t>(), bytes.data(), bytes.size());
  return images;
}

namespace {

Json ArrayToJson(const NpyArray& array) {
  return {{"shape", array.shape}, {"values", array.values}};
}

Json DrawingToJson(const PromptDrawing& drawing) {
  return {{"noise_scale", drawing.noise_scale}, {"first_step", drawing.first_step}};
}

PromptDrawing DrawingFromJson(const Json& json) {
  const PromptDrawing drawing{json.at("noise_scale").get<double>(),
                              json.at("first_step").get<int64_t>()};
  if (std::isfinite(drawing.noise_scale) && drawing.noise_scale >= 0 && drawing.first_step >= 0) {
    return drawing;
  }
  throw Misfit(
      fmt::format("a prompt's drawing is {}; numbers from 0 on are expected.", json.dump()));
}

NpyArray ArrayFromJson(const Json& json, const std::string& what) {
  NpyArray array{json.at("shape").get<std::vector<int64_t>>(),
                 json.at("values").get<std::vector<float>>()};
  int64_t numbers = 1;
  for (const int64_t size : array.shape) numbers *= size;
  RequireAsMany({static_cast<int64_t>(array.values.size()), "values", what},
                {numbers, "places", "its shape " + json.at("shape").dump()});
  const auto finite = [](float value) { return std::isfinite(value); };
  if (std::all_of(array.values.begin(), array.values.end(), finite)) return array;
  throw Misfit(fmt::format("a value of a prompt's {} is not finite.", what));
}

}  // namespace

Json PromptToJson(const Prompt& prompt) {
  Json json = {{"id", prompt.id},
               {"root_id", prompt.root_id},
               {"text", prompt.text},
               {"token_ids", prompt.token_ids},
               {"round_trip", prompt.round_trip},
               {"expected_class", prompt.expected_class},
               {"expected_style", prompt.expected_style}};
  if (const auto* embeddings = std::get_if<TokenEmbeddings>(&prompt.driver)) {
    json[FormName(prompt.form())] = ArrayToJson(embeddings->rows);
  }
  if (const auto* states = std::get_if<TextStates>(&prompt.driver)) {
    json[FormName(prompt.form())] = ArrayToJson(states->rows);
  }
  if (!prompt.latents.values.empty()) json["latents"] = ArrayToJson(prompt.latents);
  if (!prompt.drawing.plain()) json["drawing"] = DrawingToJson(prompt.drawing);
  if (prompt.seed) json["seed"] = *prompt.seed;
  if (prompt.guidance) json["guidance"] = *prompt.guidance;
  return json;
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
  for (const PromptForm form : {PromptForm::kTokenEmbeddings, PromptForm::kTextStates}) {
    const std::string name = FormName(form);
    if (!json.contains(name)) continue;
    NpyArray rows = ArrayFromJson(json.at(name), name);
    if (form == PromptForm::kTextStates) {
      prompt.driver = TextStates{std::move(rows)};
    } else {
      prompt.driver = TokenEmbeddings{std::move(rows)};
    }
  }
  if (json.contains("latents")) prompt.latents = ArrayFromJson(json.at("latents"), "latents");
  if (json.contains("drawing")) prompt.drawing = DrawingFromJson(json.at("drawing"));
  if (json.contains("seed")) prompt.seed = json.at("seed").get<int64_t>();
  if (json.contains("guidance")) prompt.guidance = json.at("guidance").get<double>();
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
    for (const float score : scores) {
      if (!std::isfinite(score)) throw Misfit(fmt::format("a score of '{}' is not finite.", name));
    }
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
    if (!v.votes.empty()) list.back()["votes"] = v.votes;
  }
  return list;
}

std::vector<Verdict> VerdictsFromJson(const Json& json) {
  std::vector<Verdict> verdicts;
  for (const Json& v : json) {
    verdicts.push_back({v.at("class"), v.at("style"), v.at("class_probability"),
                        v.at("style_probability"), v.value("votes", std::vector<bool>())});
  }
  return verdicts;
}

std::string ScoreBytes(const at::Tensor& scores) {
  const at::Tensor flat = scores.to(at::kCPU, at::kFloat).contiguous();
  return std::string(reinterpret_cast<const char*>(flat.data_ptr<float>()), flat.nbytes());
}

Json ScoreNamesToJson(const std::vector<ScoreName>& names) {
  Json list = Json::array();
  for (const ScoreName& score : names) list.push_back({score.kind, score.name});
  return list;
}

std::string BytesOf(const Artifact& artifact, const std::string& name) {
  if (artifact.files.count(name) != 0) return artifact.Read(name);
  throw Misfit(fmt::format("{} has no {}.", artifact.folder.string(), name));
}

Json ReadJson(const Artifact& artifact, const std::string& name) {
  const std::string bytes = BytesOf(artifact, name);
  try {
    return ParseJson(bytes, artifact.File(name).string());
  } catch (const Error& error) {
    throw Misfit(error.what());
  }
}

StateDict TensorsOf(const Artifact& artifact, const std::string& name) {
  StateDict tensors;
  try {
    tensors = LoadSafetensors(artifact.File(name));
  } catch (const Error& error) {
    BytesOf(artifact, name);  // a disk that fails is another matter
    throw Misfit(error.what());
  }
  const auto checked = artifact.files.find(name);
  RequireSha256(artifact.File(name), checked == artifact.files.end() ? "" : checked->second);
  return tensors;
}

int64_t NumberFrom(const Json& json, const std::string& what) {
  if (json.is_number_integer() && json.get<int64_t>() >= 0) return json.get<int64_t>();
  throw Misfit(fmt::format("{}: {} is no whole number from 0.", what, json.dump()));
}

}  // namespace excise
