#include "attacks/attack.h"

#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace excise {

Target& Lanes::any() const {
  for (Target* target : targets_) {
    if (target != nullptr) return *target;
  }
  throw Error("no lane has a prompt.");
}

std::vector<std::optional<Answer>> Lanes::Query(const std::vector<std::optional<Prompt>>& prompts) {
  std::vector<std::optional<Answer>> answers(size());
  for (size_t lane = 0; lane < size(); ++lane) {
    if (prompts[lane]) answers[lane] = targets_[lane]->Query(*prompts[lane]);
  }
  return answers;
}

at::Tensor StackLanes(std::vector<at::Tensor> rows) {
  const auto any =
      std::find_if(rows.begin(), rows.end(), [](const at::Tensor& row) { return row.defined(); });
  if (any == rows.end()) throw Error("no lane has a row.");
  const at::Tensor filler = *any;
  for (at::Tensor& row : rows) {
    if (!row.defined()) row = filler;
  }
  return at::stack(rows);
}

std::vector<Trajectory> Attack::CraftTogether(Lanes& lanes, const Concept& subject,
                                              const std::vector<Prompt>& prompts) const {
  std::vector<Trajectory> trajectories(lanes.size());
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    if (lanes[lane] != nullptr) trajectories[lane] = Craft(*lanes[lane], subject, prompts[lane]);
  }
  return trajectories;
}

Trajectory Attack::Craft(Target&, const Concept&, const Prompt&) const {
  throw Error("this attack is made for a whole concept (Learn, Use), not for one prompt.");
}

Learnt Attack::Learn(Target&, const Concept&) const {
  throw Error("this attack is made for one prompt (Craft), not for a whole concept.");
}

Prompt Attack::Use(const Learnt&, const Backbone&, const Concept&, const Prompt& seed) const {
  return seed;
}

Prompt AdversarialPrompt(const Prompt& seed, std::string_view attack, int64_t index,
                         std::string text) {
  Prompt prompt = seed;
  prompt.root_id = seed.root_id.empty() ? seed.id : seed.root_id;
  prompt.id = fmt::format("{}+{}", prompt.root_id, attack);
  if (index > 0) prompt.id += fmt::format("@{}", index);
  prompt.text = std::move(text);
  prompt.token_ids.clear();
  prompt.round_trip = true;
  return prompt;
}

}  // namespace excise
