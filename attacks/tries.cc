#include "attacks/tries.h"

#include <algorithm>

namespace excise {

std::string ReasonWithoutRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len) {
  const int64_t room = model.clip.text.max_position_embeddings - 2 - prefix_len;
  const auto tokens = static_cast<int64_t>(model.tokenizer->Encode(seed.text).size());
  return room < tokens ? "excluded:too_long" : "";
}

bool Try(Target& target, Prompt prompt, Trajectory* trajectory) {
  const std::optional<Answer> answer = target.Query(prompt);
  if (!answer) return true;
  Candidate candidate;
  candidate.prompt = std::move(prompt);
  candidate.ledger = target.ledger();
  candidate.score = answer->target_probability;
  candidate.success = answer->success;
  trajectory->push_back(std::move(candidate));
  return answer->success;
}

void ChooseBest(Trajectory* trajectory) {
  const auto best =
      std::max_element(trajectory->begin(), trajectory->end(),
                       [](const auto& a, const auto& b) { return a.score < b.score; });
  Candidate chosen = *best;
  chosen.ledger = trajectory->back().ledger;
  if (best + 1 != trajectory->end()) trajectory->push_back(std::move(chosen));
}

}  // namespace excise
