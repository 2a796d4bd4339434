// The stages "judge" and "score": what is said of a unit's pictures, and numbers over units.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/stopwatch.h"
#include "experiments/artifacts.h"
#include "experiments/pipeline.h"
#include "experiments/record.h"
#include "models/autograd.h"
#include "models/safetensors.h"

namespace excise {
namespace {

std::string PairingId(const Sample& sample) {
  return fmt::format("{}/{}#{}", sample.group, sample.prompt.root_id, sample.replicate);
}

}  // namespace

std::vector<Verdict> Pipeline::Judge(const Unit& unit) {
  if (const auto artifact = Find(unit.verdict_key)) {
    return VerdictsFromJson(ReadJson(*artifact, "verdicts.json"));
  }
  const UnitPictures pictures = Generate(unit);
  const Stopwatch watch;
  const NoGrad no_grad;
  const auto n = static_cast<size_t>(pictures.images.size(0));
  const at::Tensor padded = PaddedToBatch(pictures.images, lab_.experiment.sampler.unit_size);
  std::vector<Verdict> verdicts = lab_.judges->Report(padded);
  verdicts.resize(n);
  for (const auto& [i, problem] : pictures.problems) verdicts[static_cast<size_t>(i)] = {};
  Put(unit.verdict_key, {{"verdicts.json", CanonicalJson(VerdictsToJson(verdicts))}});
  Spend("judge", watch.Seconds());
  return verdicts;
}

at::Tensor Pipeline::Embed(const Unit& unit) {
  constexpr const char* kName = "embeddings";
  if (const auto artifact = Find(unit.key)) {
    return LoadSafetensors(artifact->File("embeddings.safetensors")).Get(kName);
  }
  const ErasedModel& erased = Erase(unit.method, unit.subject);
  const Stopwatch watch;
  const NoGrad no_grad;
  StateDict tensors;
  tensors.Set(kName, lab_.quadruplets->Embed(erased.model, unit.group, unit.prompts));
  Put(unit.key, {{"embeddings.safetensors", TensorBytes(tensors, store_.root() / ".tmp")}});
  Spend("embed", watch.Seconds());
  return tensors.Get(kName);
}

std::vector<Sample> Pipeline::EmbeddedSamples(const Unit& unit,
                                              const std::map<std::string, Sample>& base) {
  const at::Tensor embeddings = Embed(unit);
  std::vector<Sample> samples;
  for (size_t i = 0; i < unit.prompts.size(); ++i) {
    Sample sample;
    sample.subject = &lab_.concepts[unit.subject];
    sample.prompt = unit.prompts[i];
    sample.group = unit.group;
    sample.embeddings = embeddings[static_cast<int64_t>(i)];
    const auto found = base.find(PairingId(sample));
    if (found != base.end()) sample.base_embeddings = found->second.embeddings;
    samples.push_back(std::move(sample));
  }
  return samples;
}

// What the oracle said on the way, where a white-box attack asked it.
std::vector<Tried> Pipeline::SearchOf(const Unit& unit, size_t prompt) {
  std::vector<Tried> search;
  if (lab_.WhiteBox(unit.attack) == nullptr || !IsCrafted(lab_, unit)) return search;
  for (const Candidate& candidate :
       Craft(unit.attack, unit.method, unit.subject, unit.prompts[prompt])) {
    if (candidate.success) search.push_back({candidate.ledger.victim_queries, *candidate.success});
  }
  return search;
}

std::vector<Sample> Pipeline::Samples(const Unit& unit, const std::map<std::string, Sample>& base) {
  if (IsEmbeddedGroup(unit.group)) return EmbeddedSamples(unit, base);
  const UnitPictures pictures = Generate(unit);
  const std::vector<Verdict> verdicts = Judge(unit);
  const bool ours = lab_.methods[unit.method].pictures == nullptr;
  const EraseCost cost = ours ? Erase(unit.method, unit.subject).cost : EraseCost();
  std::vector<Sample> samples;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Sample sample;
    sample.subject = &lab_.concepts[unit.subject];
    sample.prompt = pictures.prompts[i];
    sample.group = unit.group;
    sample.replicate = unit.replicate;
    const auto row = static_cast<int64_t>(i);
    for (const auto& [name, signal] : pictures.detected) {
      sample.detections[name] = {signal.scores[row].item<double>(), signal.threshold};
    }
    sample.search = SearchOf(unit, i);
    sample.blocked = pictures.Blocked(row);
    sample.replacement = pictures.replacement;
    if (pictures.problems.count(row) == 0) {
      sample.drawn = pictures.images[row];
      if (!sample.blocked) sample.image = sample.drawn;
    }
    sample.verdict = verdicts[i];
    sample.erase_cost = cost;
    sample.image_unet_evaluations = static_cast<double>(pictures.evaluations_per_image);
    const auto it = base.find(PairingId(sample));
    if (it != base.end()) {
      if (!it->second.image.defined()) {
        throw Error(fmt::format("the picture of prompt {} that it is compared with cannot be read.",
                                sample.prompt.root_id));
      }
      sample.base_image = it->second.image;
      sample.base_verdict = it->second.verdict;
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::unique_ptr<Metric> Pipeline::Measure(size_t metric, const CellUnits& cell) {
  std::map<std::string, Sample> base;
  for (const Unit& unit : cell.base) {
    for (Sample& sample : Samples(unit, {})) {
      const std::string id = PairingId(sample);
      base[id] = std::move(sample);
    }
  }
  std::unique_ptr<Metric> plugin = lab_.MakeMetric(metric);
  const MetricModels models{
      lab_.judges.get(), &lab_.reference_clip,
      lab_.own_clip.weights.Contains("visual_projection.weight") ? &lab_.own_clip : nullptr,
      &lab_.independent_clip};
  for (const Unit& unit : cell.units) plugin->Update(models, Samples(unit, base));
  return plugin;
}

Score Pipeline::Keep(size_t metric, const Json& key, const Metric& plugin) {
  const Score score = plugin.Compute();
  for (const double value : {score.value, score.stderr_, score.low, score.high}) {
    if (std::isfinite(value)) continue;
    throw Error(fmt::format("metric '{}' is not finite over {} samples.", lab_.metrics[metric].name,
                            score.n));
  }
  Put(key, {{"score.json", CanonicalJson(ScoreToJson(score))}});
  return score;
}

std::vector<ScoreResult> Pipeline::Scores(size_t metric, const std::vector<CellUnits>& subjects) {
  const NoGrad no_grad;
  const Stopwatch watch;
  std::vector<Json> keys;
  CellUnits all;
  for (const CellUnits& cell : subjects) {
    keys.push_back(ScoreKey(lab_, metric, cell.units, cell.base));
    all.units.insert(all.units.end(), cell.units.begin(), cell.units.end());
    all.base.insert(all.base.end(), cell.base.begin(), cell.base.end());
  }
  keys.push_back(ScoreKey(lab_, metric, all.units, all.base));
  std::vector<ScoreResult> results(keys.size());
  std::vector<bool> stored(keys.size());
  bool complete = true;
  for (size_t i = 0; i < keys.size(); ++i) {
    results[i].digest = Store::Digest(keys[i]);
    if (const auto artifact = Find(keys[i])) {
      results[i].score = ScoreFromJson(ReadJson(*artifact, "score.json"));
      stored[i] = true;
    }
    complete = complete && stored[i];
  }
  if (complete) return results;

  // Each concept's samples are read once: the score over all is merged from theirs.
  const std::unique_ptr<Metric> total = lab_.MakeMetric(metric);
  const auto attempt = [&](size_t i, const auto& work) {
    try {
      work();
    } catch (const std::exception& error) {
      results[i].problem = FirstLine(error);
    }
  };
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (stored[i] && stored.back()) continue;
    attempt(i, [&] {
      const std::unique_ptr<Metric> part = Measure(metric, subjects[i]);
      if (!stored[i]) results[i].score = Keep(metric, keys[i], *part);
      total->Merge(*part);
    });
    if (results[i].problem.empty() || !results.back().problem.empty()) continue;
    results.back().problem = fmt::format("{}: {}", lab_.concepts[i].name, results[i].problem);
  }
  if (!stored.back() && results.back().problem.empty()) {
    attempt(subjects.size(), [&] { results.back().score = Keep(metric, keys.back(), *total); });
  }
  Spend("score", watch.Seconds());
  return results;
}

}  // namespace excise
