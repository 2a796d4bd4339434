// What the stages stored, read back and held against what its key stands for. An artifact can be
// whole and still hold another number of entries than its unit has prompts, or entries that nothing
// computes, where a faulty program wrote it, or a hand. All of these throw Misfit then.
#pragma once

#include <string>
#include <vector>

#include "experiments/run/pipeline.h"

namespace excise {

// A removal; `hooks`: it has some, which are code and not stored.
struct StoredRemoval {
  Erased erased;
  EraseCost cost;
  bool hooks = false;
};
StoredRemoval ReadRemoval(const Artifact& artifact);
EraseCost ReadRemovalCost(const Artifact& artifact);

Trajectory ReadTrajectory(const Artifact& artifact, const Prompt& seed);
// `n` pictures of the unmodified model, `side` high and wide.
std::vector<std::string> ReadOffers(const Artifact& artifact);
Learnt ReadLearnt(const Artifact& artifact);
Drawn ReadReferencePictures(const Artifact& artifact, int64_t n, int64_t side);
// `n` pictures of the unmodified model that methods learn from, with their latents.
Drawn ReadRetained(const Artifact& artifact, const Lab& lab, int64_t n);
UnitPictures ReadPictures(const Artifact& artifact, const Lab& lab, const Unit& unit);
std::vector<Verdict> ReadVerdicts(const Artifact& artifact, const Lab& lab, const Unit& unit);
// What the verdicts were made of: float32 (prompts, scores of the judge), 0 where no picture is.
at::Tensor ReadJudgeScores(const Artifact& artifact, const Lab& lab, const Unit& unit);
at::Tensor ReadEmbeddings(const Artifact& artifact, const Lab& lab, const Unit& unit);
// A score over at most `samples` samples.
Score ReadScore(const Artifact& artifact, int64_t samples);

// What holds of a trajectory and a score before they are stored, as well. `where` opens messages.
void CheckTrajectory(const Trajectory& trajectory, const Prompt& seed, const std::string& where);
void CheckScore(const Score& score, int64_t samples, const std::string& where);
// Verdict i is of picture i, and nothing but a picture that is not there has none.
void CheckVerdicts(const std::vector<Verdict>& verdicts, const UnitPictures& pictures,
                   const Lab& lab, const Unit& unit);

}  // namespace excise
