// What attacks share that put tokens before prompts and ask the oracle what the victim makes of
// them, one try after the other, many prompts in a pass.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "attacks/attack.h"

namespace excise {

// "excluded:too_long" where the encoder's context has no room for `prefix_len` tokens before the
// seed's, else "".
std::string ReasonWithoutRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len);
// Throws UsageError where it has none, naming `attack` and the prompt; also for one of the seeds of
// the lanes that have one.
void RequireRoom(const Backbone& model, const Prompt& seed, int64_t prefix_len,
                 const std::string& attack);
void RequireRoom(const Lanes& lanes, const std::vector<Prompt>& seeds, int64_t prefix_len,
                 const std::string& attack);

// For a search that found nothing: what the oracle rated highest is what the attacker would send.
// It becomes the last candidate, with all that was spent. `trajectory` is not empty.
void ChooseBest(Trajectory* trajectory);

// What every lane has tried, and which of them go on.
class LaneTries {
 public:
  explicit LaneTries(Lanes& lanes);

  bool Searches() const;
  void ForEach(const std::function<void(size_t lane)>& work) const;  // of the lanes that go on
  // Asks the oracle about make(lane, index of the candidate) of every lane that goes on, unless it
  // was asked before, for the same text has the same answer, and keeps what was asked with the
  // answer. A success ends a lane, and so do spent queries.
  void Try(const std::function<Prompt(size_t lane, int64_t index)>& make);
  // Of every lane; where none succeeded, ChooseBest.
  std::vector<Trajectory> Take();

 private:
  struct Own {
    bool searches = false;
    std::vector<std::string> asked;
    Trajectory trajectory;
  };

  Lanes& lanes_;
  std::vector<Own> own_;
};

// The tries of a search by gradients, and what each lane draws from: its seed prompt's streams.
class LaneSearch : public LaneTries {
 public:
  LaneSearch(Lanes& lanes, const std::vector<Prompt>& seeds);
  Philox* TokenRng(size_t lane) { return &rng_[lane][0]; }
  Philox* NoiseRng(size_t lane) { return &rng_[lane][1]; }

  // make(lane) of every lane that goes on, as StackLanes.
  template <class Make>
  at::Tensor Rows(const Make& make) const {
    std::vector<at::Tensor> rows(lanes_.size());
    ForEach([&](size_t lane) { rows[lane] = make(lane); });
    return StackLanes(std::move(rows));
  }
  // What a gradient step has cost each lane that goes on.
  void Spend(const std::vector<Ledger>& costs);

 private:
  Lanes& lanes_;
  std::vector<std::vector<Philox>> rng_;  // for tokens and for noise
};

}  // namespace excise
