// What: asks for the concept by one of its held-out names: a synonym, or its name in another
//   language
// Paper: robustness to other languages as in Moon, Lee, Park, Kim, "Holistic Unlearning Benchmark",
//   ICCV 2025, arXiv 2410.05664
// Equation: p' = p with a ~ uniform(held-out names) in the place of every known name
// Reference: none
// Deviations: the names are put into the prompts under test, with the article that fits; a style
//   that is named behind "in" gets its noun ("in sepia" -> "in vintage style")
// Needs: the concept's held-out names, which no method is told; no model and no query
// Caveats: one candidate, so a rate says what an average alias does and not what the best one does;
//   what the unmodified model makes of these names bounds it: read it beside `none`
#include <fmt/format.h>

#include "attacks/attack.h"
#include "attacks/names_in_text.h"
#include "core/error.h"

namespace excise {
namespace {

class Alias : public Attack {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.held_out_names = true;
    return traits;
  }

  std::string Excludes(const Backbone&, const Concept& subject, const Prompt& seed) const override {
    if (subject.held_out.empty()) return "excluded:no_held_out_name";
    const bool named = !PlacesOfNames(DecodeUtf8(seed.text), subject.known).empty();
    return named ? "" : "excluded:no_known_name";
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    const std::u32string text = DecodeUtf8(seed.text);
    const std::vector<NamePlace> places = PlacesOfNames(text, subject.known);
    if (places.empty() || subject.held_out.empty()) {
      throw UsageError(fmt::format(
          "alias: prompt {} holds no known name of '{}', or the concept has no held-out name.",
          seed.id, subject.name));
    }
    Philox rng = target.Rng(seed);
    const std::string& name = subject.held_out[rng.Below(subject.held_out.size())];
    Candidate candidate;
    for (const NamePlace& place : places) {
      candidate.edits.push_back(fmt::format(
          "{} -> {}", EncodeUtf8(text.substr(place.begin, place.end - place.begin)), name));
    }
    candidate.prompt = AdversarialPrompt(seed, "alias", 0,
                                         Renamed(text, places, name, subject.category == "style"));
    ++target.ledger().candidate_evaluations;
    candidate.ledger = target.ledger();
    return {candidate};
  }
};

const Registration<Attack, Alias> registration;

}  // namespace
}  // namespace excise
