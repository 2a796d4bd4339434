// Keys of artifacts: which inputs decide each stage's bytes. All are known before any work is done,
// so that --dry_run and --explain need none.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "experiments/lab/lab.h"

namespace excise {

// One batch of prompts under one method and one attack.
struct Unit {
  size_t method = 0, subject = 0, attack = 0;  // indices into the lab
  std::string group;                           // "target", "near", ...
  int64_t replicate = 0;
  std::vector<Prompt> prompts;  // seed prompts, at most unit_size
  Json key, verdict_key;        // of its pictures and of what the judge says of them; the same for
                                // embeddings, which have neither
  std::string digest, verdict_digest;
};

// Whether the unit's prompts are what its attack made of them. What one made against a model whose
// pictures come from elsewhere is not known here.
bool IsCrafted(const Lab& lab, const Unit& unit);

// Where an attack crafts for a prompt: prompts of a group in one pass, each in its own lane.
// Decided by the place in the concept's list alone, so a longer list moves nobody.
struct LanePlace {
  size_t group = 0, lane = 0;
};
LanePlace PlaceOf(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt);
// The prompts of its group by lane, itself among them; none where the attack leaves a prompt out.
std::vector<std::optional<Prompt>> PromptsOfGroup(const Lab& lab, size_t attack, size_t subject,
                                                  const Prompt& prompt);

Json EraseKey(const Lab& lab, size_t method, size_t subject);
// Of an attack that is crafted for each method it names the edited model; another's is the same for
// all methods. One on a concept is keyed by what it learnt, and nothing is stored under it.
Json AttackKey(const Lab& lab, size_t attack, size_t method, size_t subject, const Prompt& prompt);
// What adaptive attacks can see of the edited model.
Json OffersKey(const Lab& lab, size_t method, size_t subject);
// What an attack on a concept learns.
Json LearnKey(const Lab& lab, size_t attack, size_t method, size_t subject);
// Pictures of the unmodified model that attacks aim at.
Json ReferenceKey(const Lab& lab, const Prompt& prompt, int64_t n);
// Pictures of the unmodified model that methods learn from, at most a unit's, on noise of an erase
// seed: the same for all methods.
Json RetainedKey(const Lab& lab, int64_t seed, const std::vector<Prompt>& prompts);
// The score over `units`, of one concept or of several.
Json ScoreKey(const Lab& lab, size_t metric, const std::vector<const Unit*>& units,
              const std::vector<const Unit*>& base_units);

// What tells apart samples of a row's edits: their erase seed, or nothing where there is one edit.
std::optional<int64_t> SeedAmongEdits(const Lab& lab, size_t method);

// The picture of a seed prompt of `unit` that was made elsewhere, or null when the manifest has
// none.
const PictureRow::Picture* PictureOf(const Lab& lab, const Unit& unit, const Prompt& prompt);

// The same pictures asked of another method.
Unit UnderMethod(const Lab& lab, Unit unit, size_t method);

// The units of (method, attack, concept, group) with their keys, in the order of replicates and
// prompts. Prompts that the attack leaves out are in none.
std::vector<Unit> UnitsOf(const Lab& lab, size_t method, size_t subject, size_t attack,
                          const std::string& group);

}  // namespace excise
