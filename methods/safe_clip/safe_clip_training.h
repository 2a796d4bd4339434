// Safe-CLIP's training (methods/safe_clip/safe_clip.cc): adapters in both towers of a CLIP, the
// reference that they are held to, quadruplets as the towers read them, and the two best
// checkpoints.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "datasets/quadruplets/quadruplets.h"
#include "methods/method.h"
#include "methods/safe_clip/safe_clip_data.h"
#include "methods/safe_clip/safe_clip_loss.h"
#include "methods/safe_clip/safe_clip_states.h"
#include "models/nets/clip.h"
#include "training/lora.h"

namespace excise {

// Throws Error naming what is missing, or the tensor whose width does not fit the others.
void CheckTowers(const ClipTowers& towers);

// Embeddings by the original model, (rows, dim).
struct ReferenceEmbeds {
  at::Tensor text, vision;
};

// The loss of a batch under adapters that `hooks` put into both towers. `frozen`: what the original
// makes of the safe texts and pictures. Null: the published code's behaviour, in which the
// "original" is the very model that has the adapters in it (peft changes it in place), so that the
// reference passes through them, too, under another dropout mask and without gradients.
SafeClipLoss BatchLoss(const ClipTowers& towers, const QuadrupletBatch& batch,
                       const SafeClipTermSet& terms, LayerHooks* hooks,
                       const ReferenceEmbeds* frozen, double logit_scale = kSafeClipLogitScale);

// The released adapters: rank 16, alpha 1, dropout 0.1, in every k_proj, v_proj, out_proj, fc1, fc2
// and patch_embedding.
LoraSpec SafeClipLora();
// Adapters of the patch embedding as the linear layer that hooks see.
StateDict AsLinear(const StateDict& lora);

struct SafeClipSpec {
  SafeClipTermSet terms = {true, true, true, true, true, true, true, true};
  bool frozen_reference = true;
  double logit_scale = kSafeClipLogitScale;
  TokenStateTerms states;  // off
  LoraSpec lora = SafeClipLora();
  double lr = 1e-3;                                      // of Adam, constant
  int64_t batch = 16, epochs = 50, patience = 5;         // validated after every epoch
  int64_t train_rows = 1 << 20, validation_rows = 5000;  // at most
};

struct SafeClipResult {
  // The weights that changed, adapters merged, float32: of the epoch with the lowest validation
  // loss, and of that with the highest recall sum.
  StateDict by_validation_loss, by_recall_sum;
  std::vector<double> losses;                          // one a step
  std::vector<double> validation_losses, recall_sums;  // one an epoch
  ReferenceEmbeds reference;  // of the training rows, as used to the end; undefined if not frozen
  bool stopped_early = false;
};

// Trains on kTrain and validates on kValidation; no other part is read. Epochs are shuffled; the
// last batch of one may be smaller. Ends early when for `patience` epochs neither the validation
// loss (the mean over rows of the batches' losses, without dropout) nor the recall sum has
// improved. Resumes bit for bit from context.CheckpointFile(). Never changes a tensor of
// `original`. Throws Error for parts of less than two rows, unfitting towers, and a loss that is
// not finite.
SafeClipResult TrainSafeClip(const ClipTowers& original, const QuadrupletSet& data,
                             const SafeClipSpec& spec, Context& context);

}  // namespace excise
