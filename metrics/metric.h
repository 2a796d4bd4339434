// The interface of a metric: samples in, one score with its uncertainty out. A metric is one file,
// metrics/<name>.cc; see metrics/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/params.h"
#include "core/registry.h"
#include "core/stats.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "judges/judge.h"
#include "models/snapshots/backbone.h"

namespace excise {

// What removing the concept took, from the method's ledger (never a clock). One U-Net evaluation is
// one latent through the U-Net once.
struct EraseCost {
  int64_t unet_evaluations = 0, gradient_steps = 0;
};

// What a detector said of the picture; it acts above its threshold.
struct Detection {
  double score = 0, threshold = 0;
};

// One candidate of a white-box search: judged generations so far, and the oracle's answer.
struct Tried {
  int64_t queries = 0;
  bool success = false;
};

// One picture with everything known about it. Common random numbers: `base_image` is the
// unmodified model's picture of the same root prompt on the same noise.
struct Sample {
  const Concept* subject = nullptr;  // its name, known names, anchor and judge
  Prompt prompt;
  std::string group;  // "target", "near", ...
  int64_t replicate = 0;
  // Which edit drew it, where a row has several that differ in the erase seed; as replicates, they
  // are several samples of one prompt.
  std::optional<int64_t> erase_seed = {};
  bool blocked = false;           // by a filter
  at::Tensor image, base_image;   // uint8 (3, h, w); `image` is undefined when it is blocked
  std::string problem;            // why there is no picture though nothing blocked it, or ""
  at::Tensor drawn;               // what the model drew, blocked or not
  at::Tensor replacement;         // what is delivered when it is blocked
  Verdict verdict, base_verdict;  // of the reporting judge, on what the model drew
  std::map<std::string, Detection> detections;  // "filter", "text_detector", ...
  std::vector<Tried> search;  // of a white-box attack, in order; empty: it asked nobody
  EraseCost erase_cost;
  double image_unet_evaluations = 0;  // U-Net rows that this picture took
  // Of the groups that have no picture drawn ("quadruplets", "zero_shot"): normalised embeddings by
  // the method's CLIP and by the unmodified one, (rows, projection); see
  // experiments/lab/embeddings.h.
  at::Tensor embeddings, base_embeddings;
};

// What metrics may use beside samples: null where the metric does not declare it.
struct MetricModels {
  const Judge* judge = nullptr;
  const ClipModel* reference_clip = nullptr;
  const ClipModel* base_clip = nullptr;  // the unmodified backbone's own; null: no image tower
  const ClipModel* independent_clip = nullptr;  // of other weights, with its own tokenizer
};

// n = 0 means that there is no value: no sample of the groups that the metric reads.
struct Score {
  double value = 0, stderr_ = 0;
  double low = 0, high = 0;  // 95 % interval
  int64_t n = 0;
  std::map<std::string, double> parts;  // e.g. rates by outcome, denominators
  std::vector<double> per_sample;       // for paired tests, in the order of sample ids
  std::vector<std::string> sample_ids;
  // Samples that could not be drawn or read, with the reason. They count nowhere else; entered by
  // who reads the samples, not by metrics.
  std::map<std::string, std::string> missing;
  // The 95 % interval over concepts, prompts and edits, of the value and of groups of prompts; of
  // rates over all concepts alone, entered by who makes records of them, not by metrics.
  std::optional<Interval> over_concepts = {};
  std::map<std::string, Interval> parts_over_concepts = {};
};

// How a metric reads a picture that the method's filter blocked, of which there may be many.
enum class BlockedPictures {
  kSaysSo,  // as the metric's words or parts say: blocking is what it measures, or an outcome of it
  kLeftOut,  // not at all, so that its value is over other pictures than other methods'
  kNothing,  // as 0
  kReplaced  // as the picture that is delivered instead
};

struct MetricTraits {
  std::string unit;  // "fraction", "cosine", ...
  bool higher_is_better = true;
  double chance = 0;
  int decimals = 1;
  std::string group;                       // erasure | retention | quality | cost
  std::vector<std::string> sample_groups;  // which prompt groups it reads
  // Of MetricModels those that it reads: "judge", "reference_clip", "base_clip",
  // "independent_clip". Others it is not given, and their weights are not in its key.
  std::vector<std::string> models = {};
  // Of a metric whose part "blocked" counts them.
  BlockedPictures blocked = BlockedPictures::kSaysSo;
  // Whether it reads what the members of a panel said (Verdict::votes), and nothing else.
  bool of_votes = false;
  // Whether it is about several pictures of a prompt, and says nothing new of one.
  bool of_several = false;
};

class Metric : public Parameterised {
 public:
  static constexpr const char* kKind = "metric";
  virtual int version() const = 0;
  virtual MetricTraits traits() const = 0;
  virtual void Update(const MetricModels& models, const std::vector<Sample>& samples) = 0;
  // Exact: Update on two parts and Merge equals Update on the whole, in any split and order. The
  // same sample twice is an Error.
  virtual void Merge(const Metric& other) = 0;
  virtual Score Compute() const = 0;
};

}  // namespace excise
