// The grid of an experiment: which removals, attacks, pictures and scores it consists of.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/run/keys.h"
#include "experiments/run/pipeline.h"

namespace excise {

// One edit: each of a row's erase seeds has its own `method` (Lab::RowOf). Of several concepts that
// it removes, `subject` is the first.
struct Removal {
  size_t method = 0, subject = 0;
};
struct Crafting {
  size_t attack = 0, method = 0, subject = 0;
  size_t prompt = 0;  // index into the concept's target prompts
};
// One score a concept, and one over all, of all edits of the row that `method` opens.
struct Cell {
  size_t metric = 0, method = 0, attack = 0;
};

class Grid {
 public:
  // Targets under every attack; neighbours, which must stay, without attack only. With `keep`,
  // those cells alone and what they are computed from.
  explicit Grid(const Lab& lab, const std::function<bool(const Cell&)>& keep = {});

  const std::vector<Removal>& removals() const { return removals_; }
  const std::vector<Crafting>& craftings() const { return craftings_; }
  const std::vector<Unit>& units() const { return units_; }
  const std::vector<Cell>& cells() const { return cells_; }

  // Which removal a unit's pictures, or an attack on its model, need.
  size_t RemovalOf(size_t method, size_t subject) const;
  // What each concept contributes to a cell. The units are this grid's.
  std::vector<CellUnits> UnitsOfCell(const Cell& cell) const;
  // Indices of cells by method and attack: what reads the same pictures.
  std::vector<std::vector<size_t>> CellsOfSamePictures() const;
  const Prompt& PromptOf(const Crafting& crafting) const;
  // Indices of craftings by pass: those of prompts that are crafted together are one piece of work,
  // and so are all prompts of a concept that an attack learns first.
  std::vector<std::vector<size_t>> CraftedTogether() const;

 private:
  using Place = std::tuple<size_t, size_t, size_t, std::string>;
  void AddCraftings(size_t attack, size_t method);
  void Append(size_t method, size_t subject, size_t attack, const std::string& group,
              std::vector<const Unit*>* units) const;
  void KeepOnly(const std::function<bool(const Cell&)>& keep);

  const Lab& lab_;
  std::vector<Removal> removals_;
  std::vector<Crafting> craftings_;
  std::vector<Unit> units_;
  std::vector<Cell> cells_;
  std::map<Place, std::vector<size_t>> places_;
};

// Whether the metric reads pictures that are attacked.
bool ReadsTarget(const MetricTraits& traits);

}  // namespace excise
