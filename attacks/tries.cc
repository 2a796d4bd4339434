#include "attacks/tries.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

// What the answer depends on: the text, and initial latents and a way to draw where a prompt has
// its own.
std::string QuestionOf(const Prompt& prompt) {
  const std::vector<float>& latents = prompt.latents.values;
  const std::string drawing =
      fmt::format("{} {}", prompt.drawing.noise_scale, prompt.drawing.first_step);
  return prompt.text + '\0' + drawing + '\0' +
         std::string(reinterpret_cast<const char*>(latents.data()), latents.size() * sizeof(float));
}

}  // namespace

std::string ReasonWithoutRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len) {
  const int64_t room = model.clip.text.max_position_embeddings - 2 - prefix_len;
  const auto tokens = static_cast<int64_t>(model.tokenizer->Encode(seed.text).size());
  return room < tokens ? "excluded:too_long" : "";
}

void RequireRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len,
                 const std::string& attack) {
  if (ReasonWithoutRoom(model, seed, prefix_len).empty()) return;
  throw UsageError(
      fmt::format("{}: prompt {} leaves no room for {} tokens before it. Lower prefix_len.", attack,
                  seed.id, prefix_len));
}

void RequireRoom(const Lanes& lanes, const std::vector<Prompt>& seeds, int64_t prefix_len,
                 const std::string& attack) {
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    if (lanes[lane] == nullptr) continue;
    RequireRoom(lanes.any().Unmodified(), seeds[lane], prefix_len, attack);
  }
}

void ChooseBest(Trajectory* trajectory) {
  const auto best =
      std::max_element(trajectory->begin(), trajectory->end(),
                       [](const auto& a, const auto& b) { return a.score < b.score; });
  Candidate chosen = *best;
  chosen.ledger = trajectory->back().ledger;
  if (best + 1 != trajectory->end()) trajectory->push_back(std::move(chosen));
}

LaneTries::LaneTries(Lanes& lanes) : lanes_(lanes), own_(lanes.size()) {
  for (size_t lane = 0; lane < own_.size(); ++lane) own_[lane].searches = lanes[lane] != nullptr;
}

bool LaneTries::Searches() const {
  return std::any_of(own_.begin(), own_.end(), [](const Own& own) { return own.searches; });
}

void LaneTries::ForEach(const std::function<void(size_t lane)>& work) const {
  for (size_t lane = 0; lane < own_.size(); ++lane) {
    if (own_[lane].searches) work(lane);
  }
}

void LaneTries::Try(const std::function<Prompt(size_t lane, int64_t index)>& make) {
  std::vector<std::optional<Prompt>> asked(own_.size());
  ForEach([&](size_t lane) {
    Own& own = own_[lane];
    Prompt prompt = make(lane, static_cast<int64_t>(own.trajectory.size()) - 1);
    std::string question = QuestionOf(prompt);
    if (IsOneOf(question, own.asked)) return;
    own.asked.push_back(std::move(question));
    asked[lane] = std::move(prompt);
  });
  const std::vector<std::optional<Answer>> answers = lanes_.Query(asked);
  for (size_t lane = 0; lane < own_.size(); ++lane) {
    if (!asked[lane]) continue;
    Own& own = own_[lane];
    own.searches = answers[lane] && !answers[lane]->success;
    if (!answers[lane]) continue;
    Candidate candidate;
    candidate.prompt = *std::move(asked[lane]);
    candidate.ledger = lanes_[lane]->ledger();
    candidate.score = answers[lane]->target_probability;
    candidate.success = answers[lane]->success;
    own.trajectory.push_back(std::move(candidate));
  }
}

std::vector<Trajectory> LaneTries::Take() {
  std::vector<Trajectory> all;
  for (Own& own : own_) {
    if (own.searches) ChooseBest(&own.trajectory);
    all.push_back(std::move(own.trajectory));
  }
  return all;
}

LaneSearch::LaneSearch(Lanes& lanes, const std::vector<Prompt>& seeds)
    : LaneTries(lanes), lanes_(lanes), rng_(lanes.size()) {
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    if (lanes[lane] == nullptr) continue;
    rng_[lane] = {lanes[lane]->Rng(seeds[lane], 0), lanes[lane]->Rng(seeds[lane], 1)};
  }
}

void LaneSearch::Spend(const std::vector<Ledger>& costs) {
  ForEach([&](size_t lane) {
    Ledger& ledger = lanes_[lane]->ledger();
    ledger.unet_evaluations += costs[lane].unet_evaluations;
    ledger.text_evaluations += costs[lane].text_evaluations;
    ++ledger.candidate_evaluations;
    ++ledger.gradient_steps;
  });
}

}  // namespace excise
