#include "experiments/run/stored.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>

#include "core/text.h"
#include "experiments/results/artifacts.h"
#include "experiments/results/record.h"

namespace excise {
namespace {

// What JSON of another form says is about the artifact's content, too.
template <class Read>
auto Fitting(const Artifact& artifact, const Read& read) {
  try {
    return read();
  } catch (const Json::exception& error) {
    throw Misfit(fmt::format("{}: {}.", artifact.folder.string(), error.what()));
  }
}

std::string NameOf(const Lab& lab, const Unit& unit) {
  return fmt::format("the unit {} {} {} {}#{}", lab.methods[unit.method].name,
                     lab.concepts[unit.subject].name, lab.attacks[unit.attack].name, unit.group,
                     unit.replicate);
}

HowMany PromptsOf(const Lab& lab, const Unit& unit) {
  return {static_cast<int64_t>(unit.prompts.size()), "prompts", NameOf(lab, unit)};
}

const Json& ListIn(const Json& json, const std::string& where) {
  if (json.is_array()) return json;
  throw Misfit(fmt::format("{}: a list is expected.", where));
}

std::string RootOf(const Prompt& seed) { return seed.root_id.empty() ? seed.id : seed.root_id; }

bool IsBlank(const Verdict& verdict) {
  return verdict.class_id.empty() && verdict.style.empty() && verdict.class_probability == 0 &&
         verdict.style_probability == 0;
}

// Whether the judge can say this: a class (or none) and a style that it knows, probabilities, a
// vote a member.
bool CouldBeSaid(const Verdict& verdict, const JudgeTraits& judge) {
  const auto probable = [](double p) { return p >= 0 && p <= 1; };
  const std::vector<std::string> classes = NamesOfKind(judge.scores, "class");
  const std::vector<std::string> styles = NamesOfKind(judge.scores, "style");
  const bool none = verdict.class_id.empty() && judge.rejects;
  return (none || IsOneOf(verdict.class_id, classes)) &&
         verdict.votes.size() == judge.members.size() &&
         (styles.empty() ? verdict.style.empty() : IsOneOf(verdict.style, styles)) &&
         probable(verdict.class_probability) && probable(verdict.style_probability);
}

// Prompts as drawn, against the unit's own.
void CheckPrompts(const std::vector<Prompt>& prompts, const Lab& lab, const Unit& unit,
                  const std::string& where) {
  RequireAsMany({static_cast<int64_t>(prompts.size()), "prompts", where}, PromptsOf(lab, unit));
  const bool crafted = IsCrafted(lab, unit);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Prompt &drawn = prompts[i], &asked = unit.prompts[i];
    const bool same =
        crafted ? drawn.root_id == RootOf(asked) : drawn.id == asked.id && drawn.text == asked.text;
    if (same) continue;
    throw Misfit(fmt::format("{}: prompt {} is {} where {} has {}.", where, i, drawn.id,
                             NameOf(lab, unit), asked.id));
  }
}

std::map<int64_t, std::string> ProblemsFrom(const Json& json, const Lab& lab, const Unit& unit,
                                            const std::string& where) {
  std::map<int64_t, std::string> problems;
  for (const Json& problem : ListIn(json, where)) {
    const int64_t i = NumberFrom(problem.at(0), where);
    if (!lab.MadeElsewhere(unit.method) || i >= static_cast<int64_t>(unit.prompts.size())) {
      throw Misfit(
          fmt::format("{}: picture {} of {} is said to be missing.", where, i, NameOf(lab, unit)));
    }
    problems[i] = problem.at(1);
  }
  return problems;
}

}  // namespace

EraseCost ReadRemovalCost(const Artifact& artifact) {
  return Fitting(artifact, [&]() -> EraseCost {
    const Json meta = ReadJson(artifact, "erased.json");
    return {NumberFrom(meta.at("unet_evaluations"), "unet_evaluations"),
            NumberFrom(meta.at("gradient_steps"), "gradient_steps")};
  });
}

StoredRemoval ReadRemoval(const Artifact& artifact) {
  return Fitting(artifact, [&]() -> StoredRemoval {
    const bool hooks = ReadJson(artifact, "erased.json").at("hooks").get<bool>();
    return {SplitTensors(TensorsOf(artifact, "tensors.safetensors")), ReadRemovalCost(artifact),
            hooks};
  });
}

void CheckTrajectory(const Trajectory& trajectory, const Prompt& seed, const std::string& where) {
  if (trajectory.empty()) throw Misfit(fmt::format("{}: no candidate.", where));
  for (size_t i = 0; i < trajectory.size(); ++i) {
    const Candidate& candidate = trajectory[i];
    if (candidate.prompt.root_id == RootOf(seed) && std::isfinite(candidate.score)) continue;
    throw Misfit(
        fmt::format("{}: candidate {} (of prompt {}, score {}) is none of prompt {} with a finite "
                    "score.",
                    where, i, candidate.prompt.root_id, candidate.score, RootOf(seed)));
  }
}

Trajectory ReadTrajectory(const Artifact& artifact, const Prompt& seed) {
  return Fitting(artifact, [&] {
    const std::string where = artifact.File("trajectory.json");
    Trajectory trajectory =
        TrajectoryFromJson(ListIn(ReadJson(artifact, "trajectory.json"), where));
    CheckTrajectory(trajectory, seed, where);
    return trajectory;
  });
}

std::vector<std::string> ReadOffers(const Artifact& artifact) {
  return Fitting(artifact,
                 [&] { return ReadJson(artifact, "offers.json").get<std::vector<std::string>>(); });
}

Learnt ReadLearnt(const Artifact& artifact) {
  return Fitting(artifact, [&] {
    Learnt learnt = SplitLearnt(TensorsOf(artifact, "tensors.safetensors"));
    learnt.ledger = LedgerFromJson(ReadJson(artifact, "learnt.json"));
    return learnt;
  });
}

Drawn ReadReferencePictures(const Artifact& artifact, int64_t n, int64_t side) {
  return Fitting(artifact, [&] {
    const Json meta = ReadJson(artifact, "pictures.json");
    Drawn drawn;
    drawn.images = PicturesFrom(BytesOf(artifact, "images.u8"), meta.at("shape"),
                                {n, 3, side, side}, artifact.File("images.u8"));
    drawn.evaluations_per_image =
        NumberFrom(meta.at("evaluations_per_image"), "evaluations_per_image");
    return drawn;
  });
}

Drawn ReadRetained(const Artifact& artifact, const Lab& lab, int64_t n) {
  constexpr const char *kFile = "latents.safetensors", *kName = "latents";
  const UNetConfig& unet = lab.backbone.unet_config;
  Drawn drawn = ReadReferencePictures(artifact, n, lab.PictureSide());
  const StateDict tensors = TensorsOf(artifact, kFile);
  if (tensors.Contains(kName)) drawn.latents = tensors.Get(kName);
  const std::vector<int64_t> shape = {n, unet.in_channels, unet.sample_size, unet.sample_size};
  if (!drawn.latents.defined() || drawn.latents.sizes() != at::IntArrayRef(shape) ||
      drawn.latents.scalar_type() != at::kFloat) {
    throw Misfit(fmt::format("{}: '{}' of shape [{}], float32, are expected.",
                             artifact.File(kFile).string(), kName, fmt::join(shape, ", ")));
  }
  return drawn;
}

UnitPictures ReadPictures(const Artifact& artifact, const Lab& lab, const Unit& unit) {
  return Fitting(artifact, [&] {
    const std::string where = artifact.File("unit.json");
    const int64_t n = PromptsOf(lab, unit).n, side = lab.PictureSide();
    const Json meta = ReadJson(artifact, "unit.json");
    UnitPictures result;
    result.images = PicturesFrom(BytesOf(artifact, "images.u8"), meta.at("shape"),
                                 {n, 3, side, side}, artifact.File("images.u8"));
    for (const Json& prompt : ListIn(meta.at("prompts"), where)) {
      result.prompts.push_back(PromptFromJson(prompt));
    }
    CheckPrompts(result.prompts, lab, unit, where);
    result.evaluations_per_image =
        NumberFrom(meta.at("evaluations_per_image"), "evaluations_per_image");
    result.detected = SignalsFromJson(meta.value("detected", Json::object()));
    for (const auto& [name, signal] : result.detected) {
      RequireAsMany({signal.scores.numel(), "scores of '" + name + "'", where},
                    {n, "pictures", NameOf(lab, unit)});
    }
    if (meta.contains("replacement")) {
      result.replacement = PicturesFrom(BytesOf(artifact, "replacement.u8"), meta.at("replacement"),
                                        {3, side, side}, artifact.File("replacement.u8"));
    }
    result.problems = ProblemsFrom(meta.value("problems", Json::array()), lab, unit, where);
    return result;
  });
}

std::vector<Verdict> ReadVerdicts(const Artifact& artifact, const Lab& lab, const Unit& unit) {
  return Fitting(artifact, [&] {
    const std::string where = artifact.File("verdicts.json");
    std::vector<Verdict> verdicts =
        VerdictsFromJson(ListIn(ReadJson(artifact, "verdicts.json"), where));
    RequireAsMany({static_cast<int64_t>(verdicts.size()), "verdicts", where}, PromptsOf(lab, unit));
    ReadJudgeScores(artifact, lab, unit);
    const JudgeTraits judge = lab.JudgeOf(unit.subject).plugin->traits();
    for (size_t i = 0; i < verdicts.size(); ++i) {
      const Verdict& v = verdicts[i];
      if (CouldBeSaid(v, judge) || (lab.MadeElsewhere(unit.method) && IsBlank(v))) continue;
      throw Misfit(
          fmt::format("{}: verdict {}, class '{}' ({}), style '{}' ({}), is nothing that "
                      "the judge can say.",
                      where, i, v.class_id, v.class_probability, v.style, v.style_probability));
    }
    return verdicts;
  });
}

at::Tensor ReadJudgeScores(const Artifact& artifact, const Lab& lab, const Unit& unit) {
  return Fitting(artifact, [&] {
    const std::string where = artifact.File("scores.f32");
    const std::vector<ScoreName> names = lab.JudgeOf(unit.subject).plugin->traits().scores;
    const Json stored = ReadJson(artifact, "scores.json");
    if (stored.at("names") != ScoreNamesToJson(names)) {
      throw Misfit(fmt::format("{}: the scores are of other classes than the judge '{}' has.",
                               artifact.File("scores.json").string(),
                               lab.JudgeOf(unit.subject).plugin_name));
    }
    const HowMany prompts = PromptsOf(lab, unit);
    const auto columns = static_cast<int64_t>(names.size());
    const std::string bytes = BytesOf(artifact, "scores.f32");
    RequireAsMany({static_cast<int64_t>(bytes.size()), "bytes", where},
                  {prompts.n * columns * static_cast<int64_t>(sizeof(float)), "bytes of scores",
                   prompts.where});
    at::Tensor scores = at::empty({prompts.n, columns}, at::kFloat);
    std::memcpy(scores.data_ptr<float>(), bytes.data(), bytes.size());
    if (!at::isfinite(scores).all().item<bool>()) {
      throw Misfit(fmt::format("{}: a score is not finite.", where));
    }
    return scores;
  });
}

void CheckVerdicts(const std::vector<Verdict>& verdicts, const UnitPictures& pictures,
                   const Lab& lab, const Unit& unit) {
  const std::string judged = "what the judge said of " + NameOf(lab, unit);
  const auto n = static_cast<int64_t>(verdicts.size());
  RequireAsMany({n, "verdicts", judged}, {pictures.images.size(0), "pictures", NameOf(lab, unit)});
  RequireAsMany({n, "verdicts", judged},
                {static_cast<int64_t>(pictures.prompts.size()), "prompts", NameOf(lab, unit)});
  for (int64_t i = 0; i < n; ++i) {
    // Else it would count as garbage, which looks like removal.
    if (!IsBlank(verdicts[static_cast<size_t>(i)]) || pictures.problems.count(i) != 0) continue;
    throw Misfit(
        fmt::format("{}: picture {} is there, but has no verdict. Remove {} from the "
                    "store, so that it is judged again.",
                    judged, i, unit.verdict_digest));
  }
}

at::Tensor ReadEmbeddings(const Artifact& artifact, const Lab& lab, const Unit& unit) {
  constexpr const char *kFile = "embeddings.safetensors", *kName = "embeddings";
  const StateDict tensors = TensorsOf(artifact, kFile);
  const std::string where = artifact.File(kFile);
  if (!tensors.Contains(kName) || tensors.Get(kName).dim() != 3) {
    throw Misfit(fmt::format("{}: a tensor '{}' of three dimensions is expected.", where, kName));
  }
  at::Tensor embeddings = tensors.Get(kName);
  RequireAsMany({embeddings.size(0), "items", where}, PromptsOf(lab, unit));
  RequireAsMany(
      {embeddings.size(1), "embeddings an item", where},
      {lab.quadruplets->RowsOf(unit.group), "texts and pictures an item", NameOf(lab, unit)});
  return embeddings;
}

void CheckScore(const Score& score, int64_t samples, const std::string& where) {
  bool finite = true;
  for (const double value : {score.value, score.stderr_, score.low, score.high}) {
    finite = finite && std::isfinite(value);
  }
  for (const double value : score.per_sample) finite = finite && std::isfinite(value);
  if (!finite || score.n < 0 || score.n > samples) {
    throw Misfit(fmt::format("{}: {} over {} of {} samples is no score.", where, score.value,
                             score.n, samples));
  }
  const auto values = static_cast<int64_t>(score.per_sample.size());
  RequireAsMany({values, "values", where},
                {static_cast<int64_t>(score.sample_ids.size()), "names of samples", where});
  if (values != 0) RequireAsMany({values, "values", where}, {score.n, "samples", where});
}

Score ReadScore(const Artifact& artifact, int64_t samples) {
  return Fitting(artifact, [&] {
    const Json json = ReadJson(artifact, "score.json");
    NumberFrom(json.at("n"), "n");
    Score score = ScoreFromJson(json);
    CheckScore(score, samples, artifact.File("score.json"));
    return score;
  });
}

}  // namespace excise
