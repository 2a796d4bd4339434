// The stages "judge" and "score": what is said of a unit's pictures, and numbers over units.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/stopwatch.h"
#include "core/text.h"
#include "experiments/results/record.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"
#include "metrics/sample_table.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

std::string PairingId(const Sample& sample) {
  return fmt::format("{}/{}#{}", sample.group, sample.prompt.root_id, sample.replicate);
}

// The unmodified model's sample that this one is compared with, or null where it has none of this
// group. Throws Error where it lacks this one alone.
const Sample* PairOf(const Sample& sample, const std::map<std::string, Sample>& base) {
  const auto found = base.find(PairingId(sample));
  if (found != base.end()) return &found->second;
  const std::string group = sample.group + "/";
  const auto any = base.lower_bound(group);
  if (any == base.end() || !StartsWith(any->first, group)) return nullptr;
  throw Error(
      fmt::format("the unmodified model has {} samples to compare with, but none of prompt {}#{}.",
                  sample.group, sample.prompt.root_id, sample.replicate));
}

int64_t SamplesOf(const CellUnits& cell) {
  int64_t samples = 0;
  for (const Unit& unit : cell.units) samples += static_cast<int64_t>(unit.prompts.size());
  return samples;
}

}  // namespace

std::vector<Verdict> Pipeline::Judge(const Unit& unit) {
  auto stored = Load(unit.verdict_key,
                     [&](const Artifact& artifact) { return ReadVerdicts(artifact, lab_, unit); });
  if (stored) return *std::move(stored);
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
  const auto stored = Load(
      unit.key, [&](const Artifact& artifact) { return ReadEmbeddings(artifact, lab_, unit); });
  if (stored) return *stored;
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
    if (const Sample* other = PairOf(sample, base)) {
      RequireAsMany({sample.embeddings.numel(), "values", "embeddings of " + sample.prompt.root_id},
                    {other->embeddings.numel(), "values", "those by the unmodified model"});
      sample.base_embeddings = other->embeddings;
    }
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
  CheckVerdicts(verdicts, pictures, lab_, unit);
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
    sample.replacement = pictures.replacement;
    const auto problem = pictures.problems.find(row);
    if (problem == pictures.problems.end()) {
      sample.drawn = pictures.images[row];
      sample.blocked = pictures.Blocked(row);
      if (!sample.blocked) sample.image = sample.drawn;
    } else {
      sample.problem = problem->second;
    }
    sample.verdict = verdicts[i];
    sample.erase_cost = cost;
    sample.image_unet_evaluations = static_cast<double>(pictures.evaluations_per_image);
    if (const Sample* other = PairOf(sample, base)) {
      if (!other->image.defined()) {
        throw Error(
            fmt::format("the picture of prompt {} that it is compared with is not there: {}",
                        sample.prompt.root_id, other->problem));
      }
      sample.base_image = other->image;
      sample.base_verdict = other->verdict;
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

Pipeline::Measured Pipeline::Measure(size_t metric, const CellUnits& cell) {
  std::map<std::string, Sample> base;
  for (const Unit& unit : cell.base) {
    for (Sample& sample : Samples(unit, {})) {
      const std::string id = PairingId(sample);
      base[id] = std::move(sample);
    }
  }
  Measured measured{lab_.MakeMetric(metric), {}};
  const MetricTraits traits = measured.plugin->traits();
  const MetricModels models{
      lab_.judges.get(), &lab_.reference_clip,
      lab_.own_clip.weights.Contains("visual_projection.weight") ? &lab_.own_clip : nullptr,
      &lab_.independent_clip};
  size_t read = 0;
  for (const Unit& unit : cell.units) {
    const std::vector<Sample> samples = Samples(unit, base);
    for (const Sample& sample : samples) {
      if (IsEmbeddedGroup(unit.group) || !ReadsGroup(traits, sample)) continue;
      ++read;
      if (IsMissing(sample)) measured.missing[SampleId(sample)] = sample.problem;
    }
    measured.plugin->Update(models, samples);
  }
  if (read > 0 && measured.missing.size() == read) {
    throw Error(fmt::format("none of its pictures can be used; the first of {}: {}", read,
                            measured.missing.begin()->second));
  }
  return measured;
}

Score Pipeline::Keep(size_t metric, const Json& key, int64_t samples, const Measured& measured) {
  Score score = measured.plugin->Compute();
  score.missing = measured.missing;
  const std::string& name = lab_.metrics[metric].name;
  for (const double value : {score.value, score.stderr_, score.low, score.high}) {
    if (std::isfinite(value)) continue;
    throw Error(fmt::format("metric '{}' is not finite over {} samples.", name, score.n));
  }
  CheckScore(score, samples, fmt::format("metric '{}'", name));
  Put(key, {{"score.json", CanonicalJson(ScoreToJson(score))}});
  return score;
}

std::vector<ScoreResult> Pipeline::Scores(size_t metric, const std::vector<CellUnits>& subjects) {
  const NoGrad no_grad;
  const Stopwatch watch;
  std::vector<Json> keys;
  std::vector<int64_t> samples;
  CellUnits all;
  for (const CellUnits& cell : subjects) {
    keys.push_back(ScoreKey(lab_, metric, cell.units, cell.base));
    samples.push_back(SamplesOf(cell));
    all.units.insert(all.units.end(), cell.units.begin(), cell.units.end());
    all.base.insert(all.base.end(), cell.base.begin(), cell.base.end());
  }
  keys.push_back(ScoreKey(lab_, metric, all.units, all.base));
  samples.push_back(SamplesOf(all));
  std::vector<ScoreResult> results(keys.size());
  std::vector<bool> stored(keys.size());
  bool complete = true;
  for (size_t i = 0; i < keys.size(); ++i) {
    results[i].digest = Store::Digest(keys[i]);
    const auto score =
        Load(keys[i], [&](const Artifact& artifact) { return ReadScore(artifact, samples[i]); });
    stored[i] = score.has_value();
    if (score) results[i].score = *score;
    complete = complete && stored[i];
  }
  if (complete) return results;

  // Each concept's samples are read once: the score over all is merged from theirs.
  Measured total{lab_.MakeMetric(metric), {}};
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
      const Measured part = Measure(metric, subjects[i]);
      if (!stored[i]) results[i].score = Keep(metric, keys[i], samples[i], part);
      total.plugin->Merge(*part.plugin);
      total.missing.insert(part.missing.begin(), part.missing.end());
    });
    if (results[i].problem.empty() || !results.back().problem.empty()) continue;
    results.back().problem = fmt::format("{}: {}", lab_.concepts[i].name, results[i].problem);
  }
  if (!stored.back() && results.back().problem.empty()) {
    attempt(subjects.size(),
            [&] { results.back().score = Keep(metric, keys.back(), samples.back(), total); });
  }
  Spend("score", watch.Seconds());
  return results;
}

}  // namespace excise
