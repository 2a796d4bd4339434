// Samples without a picture of their own: quadruplets, and pictures of things outside them, as
// embeddings by a model's CLIP. What retrieval and zero-shot metrics read.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "datasets/formats/dataset.h"
#include "datasets/quadruplets/quadruplets.h"
#include "experiments/formats/experiment.h"
#include "models/snapshots/backbone.h"

namespace excise {

// "quadruplets": rows t, v, t*, v* of the section's part; "unseen": the same of unsafe concepts
// that training never shows; "zero_shot": a picture, its own class's text, then the other classes'
// texts, in the set's order.
inline constexpr const char* kEmbeddedGroups[] = {"quadruplets", "unseen", "zero_shot"};
bool IsEmbeddedGroup(const std::string& group);

// What of embeddings depends on code; enters every key.
inline constexpr int kEmbeddingVersion = 2;

// The section "quadruplets" of an experiment, opened. Read-only, so workers share it.
class QuadrupletBench {
 public:
  // Reads the rows of every group. Throws UsageError or Error: another name of a set, a parameter
  // or file that is missing, an empty part.
  QuadrupletBench(const QuadrupletSettings& settings, const Json& params);

  const QuadrupletSettings& settings() const { return settings_; }
  // The items of a group as prompts: `id` = `root_id` the row's, `text` the safe text (of zero_shot
  // its class's), `expected_class` the class of zero_shot. Empty where the section asks for none.
  const std::vector<Prompt>& Prompts(const std::string& group) const;
  // Embeddings an item of the group has.
  int64_t RowsOf(const std::string& group) const;
  const std::vector<Exclusion>& Excluded(const std::string& group) const;
  // For keys of a group's units: set, version, parameters without files, digests of files, part.
  Json Key(const std::string& group) const;
  // For results ("inputs"): set, version, parameters with the names of files, digests of files.
  Json Describe() const;

  // Normalised projected embeddings of the items that `prompts` names, float32 (n, rows, d) on the
  // CPU, by the CLIP of `model` in its dtype, under the hooks' TextLayers where there are any. In
  // batches of a fixed size, the last one padded. Throws Error where the model's text encoder has
  // no projection or no image tower, where their widths disagree, and for a prompt of another set.
  at::Tensor Embed(const Backbone& model, const std::string& group,
                   const std::vector<Prompt>& prompts, const Hooks* hooks = nullptr) const;

 private:
  void AddQuadruplets(const std::string& group, int64_t limit);
  void AddZeroShot(int64_t limit);
  at::Tensor EmbedQuadruplets(const Backbone& model, const std::string& group,
                              const std::vector<Prompt>& prompts, const Hooks* hooks) const;
  at::Tensor EmbedZeroShot(const Backbone& model, const std::vector<Prompt>& prompts,
                           const Hooks* hooks) const;

  QuadrupletSettings settings_;
  std::unique_ptr<QuadrupletSet> set_;
  Json params_, key_params_, files_ = Json::object();
  std::map<std::string, std::vector<Prompt>> prompts_;
  std::map<std::string, std::vector<Exclusion>> excluded_;
  std::map<std::string, std::map<std::string, Quadruplet>> rows_;  // group -> id -> row
  std::map<std::string, OutsideItem> outside_;                     // id -> item
  std::vector<OutsideClass> classes_;
};

// The bench of an experiment with a section "quadruplets", else null.
std::shared_ptr<const QuadrupletBench> OpenQuadruplets(const Experiment& experiment);

}  // namespace excise
