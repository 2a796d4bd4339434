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

// Those that the metric declares; others are not in its key.
MetricModels ModelsFor(const Lab& lab, const MetricTraits& traits) {
  const auto declares = [&](const char* model) { return IsOneOf(model, traits.models); };
  MetricModels models;
  // All concepts' is one, where a metric reads it (OpenJudges).
  if (declares("judge")) models.judge = lab.judges.at(0).plugin.get();
  if (declares("reference_clip")) models.reference_clip = &lab.reference_clip;
  const bool sees = lab.own_clip.weights.Contains("visual_projection.weight");
  if (declares("base_clip") && sees) models.base_clip = &lab.own_clip;
  if (declares("independent_clip")) models.independent_clip = &lab.independent_clip;
  return models;
}

int64_t SamplesOf(const CellUnits& cell) {
  int64_t samples = 0;
  for (const Unit* unit : cell.units) samples += static_cast<int64_t>(unit->prompts.size());
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
  Judgement said = lab_.JudgeOf(unit.subject).plugin->Report(padded);
  said.verdicts.resize(n);
  at::Tensor scores = said.scores.narrow(0, 0, static_cast<int64_t>(n)).clone();
  for (const auto& [i, problem] : pictures.problems) {
    said.verdicts[static_cast<size_t>(i)] = {};
    scores[i].zero_();
  }
  const Json names = {{"names", ScoreNamesToJson(said.names)}};
  Put(unit.verdict_key, {{"verdicts.json", CanonicalJson(VerdictsToJson(said.verdicts))},
                         {"scores.json", CanonicalJson(names)},
                         {"scores.f32", ScoreBytes(scores)}});
  Spend("judge", watch.Seconds());
  return said.verdicts;
}

at::Tensor Pipeline::Embed(const Unit& unit) {
  constexpr const char* kName = "embeddings";
  const auto stored = Load(
      unit.key, [&](const Artifact& artifact) { return ReadEmbeddings(artifact, lab_, unit); });
  if (stored) return *stored;
  const std::shared_ptr<const ErasedModel> erased = Erase(unit.method, unit.subject);
  const Stopwatch watch;
  const NoGrad no_grad;
  StateDict tensors;
  tensors.Set(
      kName, lab_.quadruplets->Embed(erased->model, unit.group, unit.prompts, erased->hooks.get()));
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
    sample.subject = &lab_.measured.at(unit.subject);
    sample.erase_seed = SeedAmongEdits(lab_, unit.method);
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

std::vector<Ledger> Pipeline::Spent(const Unit& unit) {
  std::vector<Ledger> spent;
  if (!IsCrafted(lab_, unit)) return spent;
  for (const Prompt& prompt : unit.prompts) {
    spent.push_back(Craft(unit.attack, unit.method, unit.subject, prompt).back().ledger);
  }
  return spent;
}

// What the oracle said on the way, where a white-box attack asked it.
std::vector<Tried> Pipeline::SearchOf(const Unit& unit, size_t prompt) {
  std::vector<Tried> search;
  if (!lab_.ForEachMethod(unit.attack) || !IsCrafted(lab_, unit)) return search;
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
  const EraseCost cost = ours ? CostOf(unit.method, unit.subject) : EraseCost();
  std::vector<Sample> samples;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Sample sample;
    sample.subject = &lab_.measured.at(unit.subject);
    sample.erase_seed = SeedAmongEdits(lab_, unit.method);
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

const std::vector<Sample>& Pipeline::CachedSamples(const Unit& unit,
                                                   const std::map<std::string, Sample>& base,
                                                   SampleCache* cache) {
  // The unmodified model's own samples are compared with themselves in its cells, with nobody's
  // elsewhere.
  const std::string name = unit.digest + (base.empty() ? "" : " paired");
  const auto found = cache->find(name);
  if (found != cache->end()) return found->second;
  return cache->emplace(name, Samples(unit, base)).first->second;
}

Pipeline::Measured Pipeline::Measure(size_t metric, const CellUnits& cell, SampleCache* cache) {
  std::map<std::string, Sample> base;
  for (const Unit* unit : cell.base) {
    for (const Sample& sample : CachedSamples(*unit, {}, cache)) base[PairingId(sample)] = sample;
  }
  Measured measured{lab_.MakeMetric(metric), {}};
  const MetricTraits traits = measured.plugin->traits();
  const MetricModels models = ModelsFor(lab_, traits);
  size_t read = 0;
  for (const Unit* unit : cell.units) {
    const std::vector<Sample>& samples = CachedSamples(*unit, base, cache);
    for (const Sample& sample : samples) {
      if (IsEmbeddedGroup(unit->group) || !ReadsGroup(traits, sample)) continue;
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

CellUnits OverAll(const std::vector<CellUnits>& subjects) {
  CellUnits all;
  for (const CellUnits& subject : subjects) {
    all.units.insert(all.units.end(), subject.units.begin(), subject.units.end());
    all.base.insert(all.base.end(), subject.base.begin(), subject.base.end());
  }
  return all;
}

// A metric while its concepts are scored: one entry a concept, and the last one over all.
struct Pipeline::Scoring {
  size_t metric = 0;
  std::vector<Json> keys;
  std::vector<int64_t> samples;
  std::vector<bool> stored;
  std::vector<ScoreResult> results;
  Measured total;

  // Each concept's samples are read once: the score over all is merged from theirs.
  bool Reads(size_t subject) const { return !stored[subject] || !stored.back(); }
  template <class Work>
  void Attempt(size_t i, const Work& work) {
    try {
      work();
    } catch (const std::exception& error) {
      results[i].problem = FirstLine(error);
    }
  }
};

Pipeline::Scoring Pipeline::StoredScores(const MetricUnits& cell) {
  Scoring scoring;
  scoring.metric = cell.metric;
  for (const CellUnits& subject : cell.subjects) {
    scoring.keys.push_back(ScoreKey(lab_, cell.metric, subject.units, subject.base));
    scoring.samples.push_back(SamplesOf(subject));
  }
  const CellUnits all = OverAll(cell.subjects);
  scoring.keys.push_back(ScoreKey(lab_, cell.metric, all.units, all.base));
  scoring.samples.push_back(SamplesOf(all));
  for (size_t i = 0; i < scoring.keys.size(); ++i) {
    ScoreResult result;
    result.digest = Store::Digest(scoring.keys[i]);
    const auto score = Load(scoring.keys[i], [&](const Artifact& artifact) {
      return ReadScore(artifact, scoring.samples[i]);
    });
    if (score) result.score = *score;
    scoring.stored.push_back(score.has_value());
    scoring.results.push_back(std::move(result));
  }
  scoring.total.plugin = lab_.MakeMetric(cell.metric);
  return scoring;
}

void Pipeline::ScoreSubject(size_t subject, const CellUnits& units, SampleCache* cache,
                            Scoring* scoring) {
  scoring->Attempt(subject, [&] {
    const Measured part = Measure(scoring->metric, units, cache);
    if (!scoring->stored[subject]) {
      scoring->results[subject].score =
          Keep(scoring->metric, scoring->keys[subject], scoring->samples[subject], part);
    }
    scoring->total.plugin->Merge(*part.plugin);
    scoring->total.missing.insert(part.missing.begin(), part.missing.end());
  });
  const std::string& problem = scoring->results[subject].problem;
  ScoreResult& over_all = scoring->results.back();
  if (problem.empty() || !over_all.problem.empty()) return;
  over_all.problem = fmt::format("{}: {}", lab_.concepts[subject].name, problem);
}

std::vector<std::vector<ScoreResult>> Pipeline::Scores(const std::vector<MetricUnits>& metrics) {
  const NoGrad no_grad;
  const Stopwatch watch;
  std::vector<Scoring> scorings;
  for (const MetricUnits& cell : metrics) scorings.push_back(StoredScores(cell));
  bool worked = false;
  for (size_t subject = 0; subject < lab_.concepts.size(); ++subject) {
    SampleCache cache;  // of one concept: many pictures
    for (size_t i = 0; i < metrics.size(); ++i) {
      if (!scorings[i].Reads(subject)) continue;
      worked = true;
      ScoreSubject(subject, metrics[i].subjects[subject], &cache, &scorings[i]);
    }
  }
  std::vector<std::vector<ScoreResult>> results;
  for (Scoring& scoring : scorings) {
    const size_t all = scoring.keys.size() - 1;
    if (!scoring.stored[all] && scoring.results[all].problem.empty()) {
      scoring.Attempt(all, [&] {
        scoring.results[all].score =
            Keep(scoring.metric, scoring.keys[all], scoring.samples[all], scoring.total);
      });
    }
    results.push_back(std::move(scoring.results));
  }
  if (worked) Spend("score", watch.Seconds());
  return results;
}

}  // namespace excise
