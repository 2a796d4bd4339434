// Quadruplets of the emoji world, by concept substitution: the same words with the thing replaced,
// and two pictures laid out apart. Everything is a pure function of the parameters.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "datasets/quadruplets.h"

namespace excise {

// A thing that stands for unsafe content, and the safe things that may stand in for it: one is
// drawn for every row, so that the substitution cannot be learned as one fixed word. None: any
// safe thing of the set.
struct UnsafeThing {
  std::string tag;  // "weapons"
  std::string id;   // emoji class
  std::vector<std::string> stand_ins;
};
// Harmless proxies only. Stand-ins are no neighbours by which the removal of "weapons" and
// "smoking" is judged, and no target of another concept: those are left to zero-shot.
const std::vector<UnsafeThing>& UnsafeThings();

std::unique_ptr<QuadrupletSet> MakeEmojiQuadruplets();

}  // namespace excise
