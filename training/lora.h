// Low-rank adaptation (Hu et al., ICLR 2022, arXiv 2106.09685): W + (alpha / r) B A on linear and
// convolution weights chosen by name. Shapes and initial values are peft's: linear A (r, in),
// B (out, r); convolution A (r, in, kh, kw), B (out, r, 1, 1).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/nets/hooks.h"
#include "models/tensors/state_dict.h"

namespace excise {

struct LoraSpec {
  int64_t rank = 16;
  double alpha = 16;
  double dropout = 0;                // on the layer's input
  std::vector<std::string> targets;  // patterns over weight names
};

// Adds "<weight name without .weight>.lora_A.weight" (Kaiming uniform, a = sqrt 5) and
// ".lora_B.weight" (zeros). Returns only the new tensors. Matched names that are no 2-d or 4-d
// ".weight" (biases, norms) are passed over. Throws UsageError when a pattern finds no such weight.
StateDict InitLora(const StateDict& weights, const LoraSpec& spec, uint64_t seed);
// A dict in which every targeted weight is W + (alpha / r) B A, differentiable in A and B. It has
// no layer input to drop from: throws UsageError when spec.dropout > 0 (use LoraHooks).
StateDict ApplyLora(const StateDict& weights, const StateDict& lora, const LoraSpec& spec);
// The same, detached and without dropout: the merged snapshot.
StateDict MergeLora(const StateDict& weights, const StateDict& lora, const LoraSpec& spec);

// Unmerged form for linear layers: y + (alpha / r) B A drop(x), differentiable in A, B and x, with
// inverted dropout. A sample's mask depends on (seed, layer, how often the layer was called in this
// step, sample index, step), never on the batch around it.
class LoraHooks : public LayerHooks {
 public:
  // Throws UsageError when `lora` holds convolutions (only ApplyLora does those).
  LoraHooks(const StateDict& lora, const LoraSpec& spec, uint64_t seed);
  // Before every forward pass; `first_sample` is the index of row 0 in the whole batch.
  void SetStep(int64_t step, int64_t first_sample = 0);
  bool WantsLinear(const std::string& name) const override;
  at::Tensor OnLinear(const std::string& name, const at::Tensor& x, at::Tensor y) override;

 private:
  at::Tensor Mask(const std::string& name, const at::Tensor& x);

  StateDict lora_;
  LoraSpec spec_;
  uint64_t seed_;
  int64_t step_ = 0, first_sample_ = 0;
  std::map<std::string, int64_t> calls_;  // of each layer since SetStep
};

}  // namespace excise
