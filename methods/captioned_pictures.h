// Pictures of the unmodified model with the captions that they were drawn for, and the same
// captions about something else: what methods that fine-tune on pictures share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "methods/method.h"

namespace excise {

struct CaptionedPictures {
  std::vector<std::string> captions;
  std::vector<const Concept*> subjects;  // of each caption
  at::Tensor latents;  // (n, channels, h, w), scaled as the U-Net is trained on them
  at::Tensor states;   // (n, tokens, width)
};

// For at most `limit` prompts of `group` of each concept, which must outlive it; the method
// declares both, and base_pictures.
CaptionedPictures DrawCaptioned(Context& context, const Backbone& base,
                                const std::vector<Concept>& concepts, const std::string& group,
                                int64_t limit);

// `caption` with every whole word (or words) `from` replaced by `to`; "caption, to" where it holds
// none, as captions of a style do.
std::string Renamed(const std::string& caption, const std::string& from, const std::string& to);

// The first of the concept's names that the caption holds as a whole word, or "".
std::string NameIn(const std::string& caption, const Concept& subject);

// A caption that holds a name of its concept, and where the name's tokens stand in its row of
// states; with `end_token` also where the text ends.
struct NamedCaption {
  int64_t row = 0;
  std::string name;
  std::vector<int64_t> positions;
};
// Of all captions that hold one. Throws Error when none does.
std::vector<NamedCaption> NamedCaptions(const Backbone& base, const CaptionedPictures& pictures,
                                        bool end_token);

// Rows (n) int64 of the states of two texts that say the same before and behind where they part,
// pairwise; behind the longer one's end the padding goes on until `context` ends.
std::pair<at::Tensor, at::Tensor> RowsAround(const Tokenizer& tokenizer, const std::string& one,
                                             const std::string& other, int64_t context);

// Text states of the captions with the anchor where a name stands, (n, tokens, width); and of
// captions of the anchor with the names in its place, one after another.
at::Tensor StatesWithAnchor(const Backbone& base, const CaptionedPictures& pictures);
at::Tensor StatesWithNames(const Backbone& base, const CaptionedPictures& pictures);

}  // namespace excise
