// What an adaptive attack that reads text alone sees of a defence: the defended text encoder, what
// the method's hooks make of a prompt's states, and by how much they would act against it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "attacks/attack.h"
#include "models/nets/hooks.h"

namespace excise {

class VictimText {
 public:
  // Offers nothing.
  VictimText() = default;
  // Throws UsageError when the surrogate is not the victim's unmodified text encoder (another
  // tokenizer or other sizes): the two could not read the same candidate.
  explicit VictimText(Target& target);

  // Where the hooks only filter finished pictures, their TextMargin is the pictures' boundary read
  // at a text, and texts lie elsewhere than pictures do (the modality gap). This draws pictures of
  // the unmodified model for `seed` and for the same with the anchor in the place of the concept's
  // names, and gives the gap, (projection): undefined where the margin is of texts or no CLIP at
  // hand has an image tower.
  at::Tensor Gap(Target& target, const Concept& subject, const Prompt& seed) const;
  // From now on texts are moved by `gap` before the margin is asked: (projection) all of them, or
  // (n, projection) a row each of those that Evaluate gets. Undefined: they stay.
  void Move(at::Tensor gap) { gap_ = std::move(gap); }

  // Whether candidates look different to the victim than to the surrogate, or hooks have a margin.
  bool offers() const { return differs_ || margin_; }

  struct View {
    // What the victim's U-Net gets of each candidate, (n, context, width); undefined when that is
    // what the surrogate makes of it.
    at::Tensor states;
    // The same as a normalised text embedding, (n, projection), or undefined.
    at::Tensor embeds;
    // Alarm() of the margin, (n), or undefined: what a candidate pays for alarming the hooks.
    at::Tensor alarm;
  };
  // ids (n, length) without start and end. `moved` (n, length, width) or undefined: the tokens'
  // embeddings of which gradients are wanted; the victim's own table gives the values. One text
  // evaluation of the victim a row.
  View Evaluate(const at::Tensor& ids, const at::Tensor& moved = {}) const;

 private:
  at::Tensor Embeds(const at::Tensor& states, int64_t length) const;
  // What the victim reads of framed ids; `change` (n, length, hidden) is added to the tokens'
  // embeddings, where it is defined.
  TextBatch Read(const at::Tensor& framed, int64_t length, const at::Tensor& change = {}) const;

  const Backbone* victim_ = nullptr;
  const Hooks* hooks_ = nullptr;
  at::Tensor projection_;  // (projection, width)
  at::Tensor gap_;         // as Move has it
  bool differs_ = false, margin_ = false;
};

// From texts to pictures, (projection): the mean over pairs of normalised embeddings of a picture
// and of its prompt, both (pairs, projection).
at::Tensor ModalityGap(const at::Tensor& pictures, const at::Tensor& texts);

}  // namespace excise
