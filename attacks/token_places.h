// A sequence of tokens some of which a search chooses: all of a prompt, or some put between its
// own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/snapshots/backbone.h"

namespace excise {

struct TokenPlaces {
  std::vector<int64_t> ids;     // without start and end; at a place, some token
  std::vector<int64_t> places;  // of the chosen tokens, rising, from 0

  // The whole sequence with `chosen` at the places, in their order.
  std::vector<int64_t> With(const std::vector<int64_t>& chosen) const;
};

// How a search changes a prompt: "n" puts `length` tokens in its place, "k" one before every
// `every` of its own, the first included (Chin et al., ICML 2024, arXiv 2309.06135).
struct TokenForm {
  std::string form = "n";
  int64_t length = 8, every = 3;

  TokenPlaces Of(const Tokenizer& tokenizer, const std::string& text) const;
  // "excluded:too_long" where the context has no room for that, else "".
  std::string ReasonWithoutRoom(const Backbone& model, const std::string& text) const;
  // Throws UsageError where it has none, naming `attack`.
  void RequireRoom(const Backbone& model, const std::string& text, const std::string& attack) const;
};

}  // namespace excise
