// The stages: erase (pipeline.cc) -> attack (pipeline_attack.cc) -> generate (pipeline_draw.cc) ->
// judge and score (pipeline_score.cc). Each returns what is stored under its key, or does the work
// and stores it. Thread-safe: workers call it for units of their own.
#pragma once

#include <array>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/results/artifacts.h"
#include "experiments/run/erase_context.h"
#include "experiments/run/keys.h"
#include "experiments/run/metered_target.h"
#include "experiments/run/model_memory.h"

namespace excise {

struct UnitPictures : Drawn {
  std::vector<Prompt> prompts;  // as drawn: crafted ones where the unit is attacked
  // Why picture i is not there (one that was made elsewhere); its pixels are 0 then.
  std::map<int64_t, std::string> problems;
};

// What a metric reads of one concept: a cell's units, and the unmodified model's units of the same
// prompts. They are the grid's.
struct CellUnits {
  std::vector<const Unit*> units, base;
};
// What it reads of all of them.
CellUnits OverAll(const std::vector<CellUnits>& subjects);

// One metric over all concepts.
struct MetricUnits {
  size_t metric = 0;
  std::vector<CellUnits> subjects;
};

struct ScoreResult {
  Score score;
  std::string digest;
  std::string problem;  // why there is no score, or ""
};

// Edited models of the embedded backbone take 15 MB at most, those of Stable Diffusion 1.4 3.4 GB.
inline constexpr int64_t kModelMemory = int64_t{4} << 30;

class Pipeline {
 public:
  // `force`: what is stored is recomputed once, and compared with what is stored. `model_memory`:
  // bytes of edited models that are kept beside those in use.
  Pipeline(const Lab& lab, Store& store, bool force = false, int64_t model_memory = kModelMemory)
      : lab_(lab), store_(store), force_(force), models_(model_memory) {}

  std::shared_ptr<const ErasedModel> Erase(size_t method, size_t subject);
  // What adaptive attacks can see of the edited model (see experiments/run/offers.h).
  std::vector<std::string> Offers(size_t method, size_t subject);
  // The attack's trajectory for one prompt. Only one that is crafted for each method looks at
  // `method`. What is missing of the prompts that are crafted in one pass with it is made and
  // stored as well, each in its own lane.
  Trajectory Craft(size_t attack, size_t method, size_t subject, const Prompt& prompt);
  UnitPictures Generate(const Unit& unit);
  std::vector<Verdict> Judge(const Unit& unit);
  // Of a unit of an embedded group: float32 (n, rows, d); see experiments/lab/embeddings.h.
  at::Tensor Embed(const Unit& unit);
  // For each metric one score a concept, then the score over all. A concept that fails costs its
  // own score and the last one. The metrics share the samples: they read the same method under the
  // same attack, so each picture is loaded once for all of them.
  std::vector<std::vector<ScoreResult>> Scores(const std::vector<MetricUnits>& metrics);

  const Lab& lab() const { return lab_; }
  // What the attack spent on each of a unit's prompts until the one that is drawn was found; of an
  // attack on a concept, what learning cost. Empty where nothing was crafted here.
  std::vector<Ledger> Spent(const Unit& unit);

  // Seconds by stage, summed over workers, for the volatile part of results.
  std::map<std::string, double> Seconds() const;

 private:
  // A picture to draw: noise is that of (seed, root id, replicate).
  struct Shot {
    Prompt prompt;
    int64_t replicate = 0;
    // As the prompt's row has it, where the experiment draws so.
    std::optional<int64_t> torch_seed = {};
    std::optional<double> guidance = {};
  };

  // What is stored, unless it is to be recomputed.
  std::optional<Artifact> Find(const Json& key);
  // What `read` makes of what is stored. What cannot be what its key stands for (a Misfit) is
  // reported, removed with all that was made of it, and counts as absent.
  template <class Read>
  auto Load(const Json& key, const Read& read)
      -> std::optional<decltype(read(std::declval<const Artifact&>()))> {
    const auto artifact = Find(key);
    if (!artifact) return std::nullopt;
    try {
      return read(*artifact);
    } catch (const Misfit& misfit) {
      store_.Discard(key, *artifact, misfit.what());
      return std::nullopt;
    }
  }
  void Put(const Json& key, const std::map<std::string, std::string>& files);
  EraseCost CostOf(size_t method, size_t subject);
  ErasedModel EraseOrLoad(size_t method, size_t subject);
  // The edited model that a unit's pictures are drawn with: an attack may have changed its weights.
  std::shared_ptr<const ErasedModel> ModelOf(const Unit& unit);
  MeteredTarget TargetOf(size_t attack, const AttackInputs& inputs, const ErasedModel* victim);
  // The oracle's pictures of what is asked, in one pass, each in its place.
  std::vector<SearchedPicture> DrawSearched(const ErasedModel& victim,
                                            const std::vector<std::optional<Prompt>>& asked) const;
  // Crafts for those prompts, a lane each, that are there, and stores what is found.
  std::vector<Trajectory> CraftLanes(size_t attack, size_t method, size_t subject,
                                     const std::vector<std::optional<Prompt>>& prompts);
  // Held by who crafts for a group of prompts.
  std::mutex& Crafting(size_t attack, size_t method, size_t subject, size_t group);
  // What prompts need of what an attack on a concept learnt; made once for all who ask.
  Learnt LearntOf(size_t attack, size_t method, size_t subject);
  Learnt LearnOrLoad(size_t attack, size_t method, size_t subject);
  // The edited model.
  ErasedModel Assemble(const Erased& erased, const EraseCost& cost);
  int64_t SearchedNoise() const;
  SamplerSpec Sampling() const;
  // Batches of `batch`, the last one padded.
  Drawn Draw(const Backbone& model, const Hooks* hooks, const std::vector<Shot>& shots,
             int64_t seed, int64_t batch) const;
  Drawn DrawBatch(const Backbone& model, const Hooks* hooks, const std::vector<Shot>& shots,
                  int64_t seed) const;
  // The pictures of `unit` that were made elsewhere.
  UnitPictures Import(const Unit& unit);
  std::vector<Prompt> PromptsToDraw(const Unit& unit);
  Drawn Reference(const Prompt& prompt, int64_t n);
  // What methods of an erase seed learn from, at most a unit; see pipeline_retained.cc.
  Drawn Retained(int64_t seed, const std::vector<Prompt>& prompts);
  const ErasedModel& Base();
  // Samples of a concept's units by the units' digests, for the metrics that are scored together.
  using SampleCache = std::map<std::string, std::vector<Sample>>;
  const std::vector<Sample>& CachedSamples(const Unit& unit,
                                           const std::map<std::string, Sample>& base,
                                           SampleCache* cache);
  std::vector<Sample> Samples(const Unit& unit, const std::map<std::string, Sample>& base);
  std::vector<Sample> EmbeddedSamples(const Unit& unit, const std::map<std::string, Sample>& base);
  std::vector<Tried> SearchOf(const Unit& unit, size_t prompt);
  // A metric that has read its samples, and those that were not there: why, by sample id.
  struct Measured {
    std::unique_ptr<Metric> plugin;
    std::map<std::string, std::string> missing;
  };
  // Throws Error where all pictures are missing.
  Measured Measure(size_t metric, const CellUnits& cell, SampleCache* cache);
  struct Scoring;
  Scoring StoredScores(const MetricUnits& cell);
  void ScoreSubject(size_t subject, const CellUnits& units, SampleCache* cache, Scoring* scoring);
  Score Keep(size_t metric, const Json& key, int64_t samples, const Measured& measured);
  void Spend(const std::string& stage, double seconds);

  const Lab& lab_;
  Store& store_;
  const bool force_;
  std::mutex mutex_;
  std::set<std::string> fresh_;  // digests computed by this run; with force_
  ModelMemory models_;
  // What attacks on concepts learnt, by attack, method and concept, without their weights.
  struct LearntEntry {
    std::mutex making;
    std::exception_ptr problem;
    std::optional<Learnt> learnt;
  };
  std::map<std::array<size_t, 3>, std::unique_ptr<LearntEntry>> learnt_;
  std::map<std::array<size_t, 4>, std::unique_ptr<std::mutex>> crafting_;
  std::map<std::pair<size_t, size_t>, EraseCost> costs_;
  std::once_flag base_once_;
  ErasedModel base_;
  mutable std::mutex seconds_mutex_;
  std::map<std::string, double> seconds_;
};

// Of the tensors that replace the unmodified model's.
int64_t BytesOf(const Erased& erased);

// Pictures (n, 3, h, w), and the last one again up to `batch`: a batch's size decides bytes.
at::Tensor PaddedToBatch(const at::Tensor& images, int64_t batch);

// What an exception says, in one line. LibTorch appends a stack trace of many lines.
std::string FirstLine(const std::exception& error);

}  // namespace excise
