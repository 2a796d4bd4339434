#include "attacks/blind_search.h"

#include "attacks/tries.h"

namespace excise {

AttackTraits BlindSearch::traits() const {
  AttackTraits traits;
  traits.unmodified = true;  // for its tokenizer, or the shape of its latents
  traits.queries = tries_ + 1;
  traits.lanes = lanes_;
  return traits;
}

Work BlindSearch::work(Acts) const {
  return {{Pass::kPicture, static_cast<double>(tries_ + 1), 1}};
}

Trajectory BlindSearch::Craft(Target& target, const Concept& subject, const Prompt& seed) const {
  Lanes one({&target});
  return CraftTogether(one, subject, {seed}).front();
}

std::vector<Trajectory> BlindSearch::CraftTogether(Lanes& lanes, const Concept& subject,
                                                   const std::vector<Prompt>& seeds) const {
  const Backbone& model = lanes.any().Unmodified();
  const Draw draw = Drawer(model, subject);
  LaneSearch search(lanes, seeds);
  search.ForEach([&](size_t lane) { Require(model, seeds[lane]); });
  search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
  for (int64_t round = 0; round < tries_ && search.Searches(); ++round) {
    search.Try([&](size_t lane, int64_t index) {
      ++lanes[lane]->ledger().candidate_evaluations;
      return draw(
          {*lanes[lane], seeds[lane], round, index, search.TokenRng(lane), search.NoiseRng(lane)});
    });
  }
  return search.Take();
}

void BlindSearch::TriesField(ParamVisitor& v, const std::string& help) {
  v.Integer("tries", &tries_, help, {.min = 1, .max = 1000});
}

void BlindSearch::LanesField(ParamVisitor& v, const std::string& controlled) {
  const std::string help = "prompts attacked together in one pass, as in " + controlled;
  v.Integer("lanes", &lanes_, help, {.min = 1, .max = 64});
}

}  // namespace excise
