// What a page shows beside numbers: sample pictures on common noise, and what attacks spent. Read
// from what a run stored; nothing is computed anew, and what is not stored is not shown.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/results/record.h"
#include "experiments/run/grid.h"

namespace excise {

// One picture; `png` is empty where none is stored.
struct Picture {
  std::string png, outcome, class_id;
};

// The pictures of one prompt under one attack, a row for every method.
struct PictureColumn {
  std::string attack, group;
  std::vector<std::string> prompts;  // as drawn, by row; a SHA-256 where the concept is sensitive
  std::vector<Picture> rows;
};

struct Gallery {
  std::string subject, title;
  bool sensitive = true;
  std::vector<PictureColumn> columns;
};

// Means over the attacked prompts, at the candidate that was used.
struct AttackBudget {
  std::string attack;
  int64_t prompts = 0;
  double victim_queries = 0, candidate_evaluations = 0, gradient_steps = 0, unet_evaluations = 0,
         text_evaluations = 0;
  // The attack's own objective, best so far, by candidate evaluations; for attacks that search.
  std::vector<std::pair<double, double>> progress;
};

struct Exhibits {
  std::vector<std::string> methods;  // the rows of every gallery, reference rows first
  std::vector<Gallery> galleries;
  int64_t pictures_left_out = 0;  // to keep the page small
  bool has_store = true;          // else there are no pictures and budgets, and the page says why
  std::vector<AttackBudget> budgets;
};

// Of results that were read back.
inline Exhibits ExhibitsWithoutStore() {
  Exhibits exhibits;
  exhibits.has_store = false;
  return exhibits;
}

// At most about `picture_bytes` of PNG files. The first test prompts are taken, never chosen ones.
Exhibits GatherExhibits(const Lab& lab, const Grid& grid, Store& store,
                        const std::vector<Row>& rows, int64_t picture_bytes = 1400000);

}  // namespace excise
