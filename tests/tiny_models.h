// Models of a few thousand random weights, and stand-ins for what the pipeline hands to plug-ins,
// for tests that need the real code on tensors of the right shapes in milliseconds.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "metrics/metric.h"
#include "models/snapshots/backbone.h"

namespace excise {

// A byte-pair tokenizer learned from a few captions; context 16.
std::shared_ptr<const Tokenizer> TinyTokenizer();

// Text width 16, 2 layers, context 16; vision 16 wide, 64x64 pictures; projection 8.
ClipModel TinyClip(uint64_t seed = 7);

// U-Net 16-32 wide on 8x8 latents, VAE 4-8 wide, TinyClip's text encoder; DDIM. With `folder`,
// FOLDER/retrained/unet holds another random U-Net, which method `retrained` loads.
Backbone TinyBackbone(const std::filesystem::path& folder = {});

// A model to reckon with by hand: its text encoder has no layers, so a token's state is the layer
// norm of its embedding. `embeddings`: of words that are one token each, of "start" and of "end";
// what is not named is zero. It has no U-Net.
Backbone HandmadeBackbone(const std::map<std::string, std::vector<float>>& embeddings,
                          int64_t context, double layer_norm_eps);

// "poodle" -> "dog", keeping "cat"; judged by class.
Concept TinyConcept();

// The judge "emoji" of two classes, poodle and dog, with random weights; without an oracle where
// none is asked for. The plug-in must be linked.
std::unique_ptr<Judge> TinyJudge(bool oracle, uint64_t reporting_seed = 5,
                                 uint64_t oracle_seed = 5);

// n pictures of smooth random colours, float (n, 3, 64, 64) in [0,1].
at::Tensor TinyImages(int64_t n, uint64_t seed);

// SHA-256 over names and bytes, for "nothing was changed".
std::string DigestOf(const StateDict& tensors);

// Hands out streams and records what a method counts.
class TinyContext : public Context {
 public:
  explicit TinyContext(uint64_t erase_seed = 1);
  Philox Rng(std::string_view name, uint64_t step = 0) override;
  std::filesystem::path CheckpointFile() override { return folder_ / "checkpoint"; }
  std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                   int64_t limit) override;
  at::Tensor Images(const std::vector<std::string>& prompts) override;
  at::Tensor Latents(const std::vector<std::string>& prompts) override;
  void CountUnetEvaluations(int64_t n) override { unet_evaluations += n; }
  void CountGradientSteps(int64_t n) override { gradient_steps += n; }

  int64_t unet_evaluations = 0, gradient_steps = 0;
  std::map<std::string, int64_t> asked;  // groups of prompts, with the most of each
  bool asked_pictures = false, asked_stream = false;

 private:
  uint64_t seed_;
  std::filesystem::path folder_;
};

// For attacks: a surrogate, pictures of the unmodified model, and TinyBackbone or its edited model,
// which draws in two steps of DDIM. Its oracle sees the target where a picture is rather red.
class TinyTarget : public Target {
 public:
  explicit TinyTarget(const Hooks* hooks = nullptr, uint64_t attack_seed = 1);
  void Defend(const Hooks* hooks) { hooks_ = hooks; }
  const ClipModel& Surrogate() override { return clip_; }
  const Backbone& Unmodified() override { return unmodified_; }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override;
  std::vector<Prompt> Seeds() override;  // as many as `seeds`
  Philox Rng(const Prompt& prompt, uint64_t step = 0) override;
  Philox Rng(const Concept& subject, uint64_t step = 0) override;
  Ledger& ledger() override { return ledger_; }
  const Backbone& Victim() override { return victim; }
  const Hooks* VictimHooks() override { return hooks_; }
  const SamplerSpec& Sampling() override { return sampling; }
  std::optional<Answer> Query(const Prompt& prompt) override;

  Backbone victim;
  SamplerSpec sampling;
  int64_t queries_left = 1000;
  double red_enough = 0.5;         // mean share of red from which the oracle sees the target
  std::vector<std::string> asked;  // texts
  int64_t seeds = 0;

 private:
  const ClipModel clip_;
  const Backbone unmodified_;
  const uint64_t seed_;
  Ledger ledger_;
  const Hooks* hooks_;
};

Prompt TinyPrompt(const std::string& id = "tiny@00000000/0",
                  const std::string& text = "a picture of a poodle");

// `prompts` prompts of `group` with `replicates` pictures each, with verdicts that are now target,
// now anchor, another class or garbage. `subject` must outlive the samples.
std::vector<Sample> TinySamples(const Concept& subject, const std::string& group, int64_t prompts,
                                int64_t replicates = 1);

}  // namespace excise
