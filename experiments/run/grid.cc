#include "experiments/run/grid.h"

#include <algorithm>
#include <set>

#include "experiments/lab/removals.h"

namespace excise {

namespace {

std::vector<std::string> GroupsOf(const Lab& lab, size_t subject) {
  std::vector<std::string> groups(std::begin(kGroups), std::end(kGroups));
  if (lab.quadruplets != nullptr) {
    groups.insert(groups.end(), std::begin(kEmbeddedGroups), std::end(kEmbeddedGroups));
  }
  const auto absent = [&](const std::string& group) {
    return lab.prompts[subject].count(group) == 0;
  };
  groups.erase(std::remove_if(groups.begin(), groups.end(), absent), groups.end());
  return groups;
}

}  // namespace

bool ReadsTarget(const MetricTraits& traits) {
  return std::find(traits.sample_groups.begin(), traits.sample_groups.end(), "target") !=
         traits.sample_groups.end();
}

Grid::Grid(const Lab& lab, const std::function<bool(const Cell&)>& keep) : lab_(lab) {
  for (size_t attack = 1; attack < lab.attacks.size(); ++attack) {
    if (!lab.ForEachMethod(attack)) {
      AddCraftings(attack, lab.VictimOf(attack, lab.unmodified));  // once for all methods
      continue;
    }
    for (size_t method = 0; method < lab.methods.size(); ++method) {
      if (!lab.methods[method].not_applicable.empty() || lab.MadeElsewhere(method)) continue;
      if (lab.AttackApplies(attack, method)) AddCraftings(attack, method);
    }
  }
  for (size_t method = 0; method < lab.methods.size(); ++method) {
    if (!lab.methods[method].not_applicable.empty()) continue;
    for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
      if (!lab.ReasonNotClaimed(method, subject).empty()) continue;
      const bool first = RemovedTogether(lab, method, subject).front() == subject;
      if (first && !lab.MadeElsewhere(method)) removals_.push_back({method, subject});
      for (size_t attack = 0; attack < lab.attacks.size(); ++attack) {
        for (const std::string& group : GroupsOf(lab, subject)) {
          if (group != "target" && attack != 0) continue;
          for (Unit& unit : UnitsOf(lab, method, subject, attack, group)) {
            places_[{method, subject, attack, group}].push_back(units_.size());
            units_.push_back(std::move(unit));
          }
        }
      }
    }
  }
  for (size_t metric = 0; metric < lab.metrics.size(); ++metric) {
    const bool attacked = ReadsTarget(lab.metrics[metric].plugin->traits());
    for (const size_t method : lab.Rows()) {
      for (size_t attack = 0; attack < (attacked ? lab.attacks.size() : 1); ++attack) {
        cells_.push_back({metric, method, attack});
      }
    }
  }
  if (keep) KeepOnly(keep);
}

void Grid::AddCraftings(size_t attack, size_t method) {
  for (size_t subject = 0; subject < lab_.concepts.size(); ++subject) {
    const auto target = lab_.prompts[subject].find("target");
    if (target == lab_.prompts[subject].end()) continue;
    if (!lab_.ReasonNotClaimed(method, subject).empty()) continue;
    for (size_t prompt = 0; prompt < target->second.size(); ++prompt) {
      if (!lab_.ReasonNotAttacked(attack, subject, target->second[prompt]).empty()) continue;
      craftings_.push_back({attack, method, subject, prompt});
    }
  }
}

void Grid::KeepOnly(const std::function<bool(const Cell&)>& keep) {
  std::vector<Cell> cells;
  std::set<std::string> digests;
  for (const Cell& cell : cells_) {
    if (!keep(cell)) continue;
    cells.push_back(cell);
    for (const CellUnits& subject : UnitsOfCell(cell)) {
      for (const Unit* unit : subject.units) digests.insert(unit->digest);
      for (const Unit* unit : subject.base) digests.insert(unit->digest);
    }
  }
  cells_ = std::move(cells);
  std::vector<Unit> units;
  std::set<std::pair<size_t, size_t>> erased;            // (method, concept)
  std::set<std::tuple<size_t, size_t, size_t>> crafted;  // (attack, method, concept)
  places_.clear();
  for (Unit& unit : units_) {
    if (digests.count(unit.digest) == 0) continue;
    erased.insert({unit.method, RemovedTogether(lab_, unit.method, unit.subject).front()});
    if (unit.group == "target") {
      crafted.insert({unit.attack, lab_.VictimOf(unit.attack, unit.method), unit.subject});
    }
    places_[{unit.method, unit.subject, unit.attack, unit.group}].push_back(units.size());
    units.push_back(std::move(unit));
  }
  units_ = std::move(units);
  const auto remove = [](auto* list, const auto& unneeded) {
    list->erase(std::remove_if(list->begin(), list->end(), unneeded), list->end());
  };
  remove(&removals_, [&](const Removal& r) { return erased.count({r.method, r.subject}) == 0; });
  remove(&craftings_, [&](const Crafting& c) {
    return crafted.count({c.attack, c.method, c.subject}) == 0;
  });
}

size_t Grid::RemovalOf(size_t method, size_t subject) const {
  const size_t first = RemovedTogether(lab_, method, subject).front();
  const auto found = std::find_if(removals_.begin(), removals_.end(), [&](const Removal& removal) {
    return removal.method == method && removal.subject == first;
  });
  return static_cast<size_t>(found - removals_.begin());
}

const Prompt& Grid::PromptOf(const Crafting& crafting) const {
  return lab_.prompts[crafting.subject].at("target")[crafting.prompt];
}

std::vector<std::vector<size_t>> Grid::CraftedTogether() const {
  const auto pass = [&](const Crafting& c) {
    const AttackTraits traits = lab_.TraitsOf(c.attack);
    // What an attack on a concept learns serves all of its prompts: a second worker would wait.
    const bool whole = traits.per == AttackTraits::Per::kConcept;
    const size_t group = whole ? 0 : c.prompt / static_cast<size_t>(traits.lanes);
    return std::make_tuple(c.attack, c.method, c.subject, group);
  };
  std::vector<std::vector<size_t>> all;
  for (size_t i = 0; i < craftings_.size(); ++i) {
    if (i == 0 || pass(craftings_[i]) != pass(craftings_[i - 1])) all.emplace_back();
    all.back().push_back(i);
  }
  return all;
}

void Grid::Append(size_t method, size_t subject, size_t attack, const std::string& group,
                  std::vector<const Unit*>* units) const {
  const auto found = places_.find({method, subject, attack, group});
  if (found == places_.end()) return;
  for (const size_t index : found->second) units->push_back(&units_[index]);
}

std::vector<CellUnits> Grid::UnitsOfCell(const Cell& cell) const {
  const MetricTraits traits = lab_.metrics[cell.metric].plugin->traits();
  std::vector<CellUnits> subjects(lab_.concepts.size());
  for (size_t subject = 0; subject < subjects.size(); ++subject) {
    for (const std::string& group : traits.sample_groups) {
      for (size_t edit = 0; edit < lab_.EditsOf(cell.method); ++edit) {
        Append(cell.method + edit, subject, group == "target" ? cell.attack : 0, group,
               &subjects[subject].units);
      }
      Append(lab_.BaseOf(cell.method), subject, 0, group, &subjects[subject].base);
    }
  }
  return subjects;
}

std::vector<std::vector<size_t>> Grid::CellsOfSamePictures() const {
  std::map<std::pair<size_t, size_t>, std::vector<size_t>> groups;
  for (size_t i = 0; i < cells_.size(); ++i) {
    groups[{cells_[i].method, cells_[i].attack}].push_back(i);
  }
  std::vector<std::vector<size_t>> all;
  for (auto& [pictures, cells] : groups) all.push_back(std::move(cells));
  return all;
}

}  // namespace excise
