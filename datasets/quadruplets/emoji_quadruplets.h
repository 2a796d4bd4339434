// Quadruplets of the emoji world, by concept substitution: the same words with the thing replaced,
// and two pictures laid out apart. Everything is a pure function of the parameters.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "datasets/quadruplets/quadruplets.h"

namespace excise {

// A thing that stands for unsafe content, and the class of safe things that its substitute is drawn
// from; none: any safe thing of the set, for every row anew. By default one is drawn for the whole
// set, so that t* tells what t was, as where a language model rewrites the words around a scene.
// With the parameter stand_ins at 2 one of both is drawn for every row: nobody can know which, and
// what a model gives up of safe retrieval to follow the draw is a property of the data.
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
