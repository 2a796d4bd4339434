// The stages: erase -> attack -> generate -> judge -> score. Each returns what is stored under its
// key, or does the work and stores it. Thread-safe: workers call it for units of their own.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/store.h"
#include "experiments/keys.h"
#include "experiments/lab.h"

namespace excise {

// The model after a removal, ready to draw.
struct ErasedModel {
  Backbone model;
  std::shared_ptr<const Hooks> hooks;
  EraseCost cost;
};

struct UnitPictures {
  at::Tensor images;            // uint8 (n, 3, h, w)
  std::vector<Prompt> prompts;  // as drawn: crafted ones where the unit is attacked
  double evaluations_per_image = 0;
};

class Pipeline {
 public:
  Pipeline(const Lab& lab, Store& store) : lab_(lab), store_(store) {}

  const ErasedModel& Erase(size_t method, size_t subject);
  // The attack's trajectory for one prompt.
  Trajectory Craft(size_t attack, size_t subject, const Prompt& prompt);
  UnitPictures Generate(const Unit& unit);
  std::vector<Verdict> Judge(const Unit& unit);
  Score ScoreOf(size_t metric, const std::vector<Unit>& units, const std::vector<Unit>& base_units);

  // Draws prompts with `model` on the noise of (seed, root id, replicate); batches of unit_size,
  // the last one padded. uint8 (n, 3, h, w).
  at::Tensor Draw(const ErasedModel& model, const std::vector<Prompt>& prompts, int64_t seed,
                  int64_t replicate, int64_t* evaluations);
  // The unmodified model.
  const ErasedModel& Base();

  const Lab& lab() const { return lab_; }
  // Wall seconds by stage, for the volatile part of results.
  std::map<std::string, double> Seconds() const;

 private:
  struct Memo {
    std::once_flag once;
    ErasedModel value;
    std::exception_ptr problem;
  };
  Memo& MemoOf(size_t method, size_t subject);
  ErasedModel EraseOrLoad(size_t method, size_t subject);
  std::vector<Sample> Samples(const Unit& unit, const std::map<std::string, Sample>& base);
  void Spend(const std::string& stage, double seconds);

  const Lab& lab_;
  Store& store_;
  std::mutex mutex_;
  std::map<std::pair<size_t, size_t>, std::unique_ptr<Memo>> memos_;
  std::once_flag base_once_;
  ErasedModel base_;
  mutable std::mutex seconds_mutex_;
  std::map<std::string, double> seconds_;
};

// Texts of a cell's prompt on their way to JSON and back.
Json PromptToJson(const Prompt& prompt);
Prompt PromptFromJson(const Json& json);

}  // namespace excise
