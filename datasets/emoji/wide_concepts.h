// Concepts of the emoji world made by a rule, so that a table can be over many of them.
#pragma once

#include <string>
#include <vector>

#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/concept.h"

namespace excise {

// Ids of the classes that datasets/concepts/wide has a concept of: of every category with at least
// five classes the first two, in the order of the list, that are neither target nor anchor of
// datasets/concepts and that the embedded model draws right in at least 7 of 8 pictures
// (models/emoji/README.md). Measured once, so written down.
const std::vector<std::string>& WideClasses();

// A concept of each of these classes, without a choice by hand:
//   known      its name; held out: its names in other languages and the first keyword that is its
//              alone
//   anchor     of the same category the class whose picture is the most alike: the least squared
//              distance of the plain pictures on gray
//   near       the same category, the most alike first, at most 8; the anchor is one of them
//   lexical    classes that share a word of the name and are not near
//   far        8 of other categories, in an order that Philox draws by the class's id
//   preserve   10 of all that are left, in this order; no target of another concept: of these, or
//              of `others`, those of datasets/concepts
std::vector<Concept> WideConcepts(const EmojiWorld& world, const std::vector<Concept>& others);

}  // namespace excise
