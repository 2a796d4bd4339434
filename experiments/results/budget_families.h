// Attacks that take part several times, with different budgets: success against budget is read
// across them.
#pragma once

#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// The gradient steps of an attacked record: the most that the attack may take for a prompt (or a
// concept), or what it took where that is not told; 0: none, or not known.
double GradientStepsOf(const Record& record);

struct BudgetFamily {
  struct Entry {
    std::string attack;
    double steps = 0;
  };
  std::string plugin;
  // What sets this family apart from others of the plug-in, "pictures 4"; "" for nothing.
  std::string panel;
  std::string per;             // what the steps are taken for: "prompt" or "concept"
  std::vector<Entry> entries;  // two or more, by rising steps
};

// Entries of one plug-in that differ in their gradient steps. A parameter that differs between
// entries of as many steps (how many pictures are shown) makes a family of each of its values.
// `metric`: whose attacked records over all concepts are read.
std::vector<BudgetFamily> BudgetFamilies(const std::vector<Record>& records,
                                         const std::string& metric);

}  // namespace excise
