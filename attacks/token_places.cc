#include "attacks/token_places.h"

#include <fmt/format.h>

#include "core/error.h"

namespace excise {

std::vector<int64_t> TokenPlaces::With(const std::vector<int64_t>& chosen) const {
  std::vector<int64_t> all = ids;
  for (size_t i = 0; i < places.size(); ++i) all[static_cast<size_t>(places[i])] = chosen.at(i);
  return all;
}

TokenPlaces TokenForm::Of(const Tokenizer& tokenizer, const std::string& text) const {
  const std::vector<int64_t> own = form == "n" ? std::vector<int64_t>{} : tokenizer.Encode(text);
  TokenPlaces sequence;
  const auto add_place = [&] {
    sequence.places.push_back(static_cast<int64_t>(sequence.ids.size()));
    sequence.ids.push_back(tokenizer.eos_id());
  };
  for (int64_t i = 0; form == "n" && i < length; ++i) add_place();
  for (size_t i = 0; form == "k" && i <= own.size(); ++i) {
    if (static_cast<int64_t>(i) % every == 0) add_place();
    if (i < own.size()) sequence.ids.push_back(own[i]);
  }
  return sequence;
}

std::string TokenForm::ReasonWithoutRoom(const Backbone& model, const std::string& text) const {
  const auto tokens = static_cast<int64_t>(Of(*model.tokenizer, text).ids.size());
  return tokens > model.clip.text.max_position_embeddings - 2 ? "excluded:too_long" : "";
}

void TokenForm::RequireRoom(const Backbone& model, const std::string& text,
                            const std::string& attack) const {
  if (ReasonWithoutRoom(model, text).empty()) return;
  throw UsageError(
      fmt::format("{}: '{}' does not fit into a context of {} tokens with those that are put in. "
                  "Lower prompt_len, or raise every.",
                  attack, text, model.clip.text.max_position_embeddings));
}

}  // namespace excise
