// Paired tests between methods and between attacks: "A beats B" needs one.
#pragma once

#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// For every metric that keeps single samples (costs excepted: they are counted, not sampled): all
// pairs of methods under each attack, and all pairs of attacks on each method, over all concepts.
// Records of which pictures are missing take no part.
// A method that was erased with several seeds meets one that was erased once in each of its edits.
// Exact McNemar where every value is 0 or 1 and no prompt occurs twice, else sign-flip tests with
// an interval by bootstrap, both clustered by prompt. Metrics over several prompt groups are also
// compared within each group.
// Nothing of a comparison depends on a third member, so a row that is added changes no other
// comparison, and no mark that follows from it.
std::vector<Comparison> CompareAll(const std::vector<Record>& records);

// The comparison of `first` and `second` in either order, or null.
const Comparison* FindComparison(const std::vector<Comparison>& comparisons,
                                 const std::string& metric, const std::string& part,
                                 const std::string& over, const std::string& given,
                                 const std::string& first, const std::string& second);

// Whether the sample's prompt is one of the group ("poodle/near/emoji_prompts@1234/7#0": "near").
bool InGroup(const std::string& sample_id, const std::string& group);

// Whether the two differ, by their own test at 5 %. It is not adjusted for how many pairs there
// are: an adjustment over the rows of a table would change with each row that is added.
bool IsSignificant(const Comparison& comparison);

// Whether two rates are within 5 points of each other, by two one-sided tests at 5 % each
// (Schuirmann 1987): the 90 % interval lies inside. False where there is none.
bool IsEquivalent(const Comparison& comparison);

}  // namespace excise
