#include "experiments/results/budget_families.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace excise {
namespace {

struct Member {
  std::string attack;
  double steps = 0;
  const Record* record = nullptr;
};
using Members = std::vector<Member>;

// By plug-in, each entry once: whatever the method, its allowance is the same.
std::map<std::string, Members> ByPlugin(const std::vector<Record>& records,
                                        const std::string& metric) {
  std::map<std::string, Members> plugins;
  for (const Record& record : records) {
    if (record.metric != metric || record.subject != kAllConcepts) continue;
    const double steps = GradientStepsOf(record);
    // What was found on another row says nothing of what this row takes.
    if (steps <= 0 || record.attack_params.contains("found_on")) continue;
    Members& members = plugins[record.attack_params.value("plugin", record.attack)];
    const auto found = std::find_if(members.begin(), members.end(),
                                    [&](const Member& m) { return m.attack == record.attack; });
    if (found == members.end()) {
      members.push_back({record.attack, steps, &record});
    } else {
      found->steps = std::max(found->steps, steps);
    }
  }
  return plugins;
}

// The parameters that differ between entries of as many steps.
std::set<std::string> PanelFields(const Members& members) {
  std::set<std::string> fields;
  for (const Member& a : members) {
    for (const Member& b : members) {
      if (a.steps != b.steps) continue;
      const Json& other = b.record->attack_params;
      for (const auto& [field, value] : a.record->attack_params.items()) {
        if (field != "plugin" && other.value(field, Json()) != value) fields.insert(field);
      }
    }
  }
  return fields;
}

std::string Shown(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

double GradientStepsOf(const Record& record) {
  const Json::json_pointer most("/budget/most/gradient_steps");
  const Json::json_pointer spent("/budget/spent/gradient_steps");
  for (const auto& place : {most, spent}) {
    if (record.protocol.contains(place)) return record.protocol.at(place).get<double>();
  }
  return 0;
}

std::vector<BudgetFamily> BudgetFamilies(const std::vector<Record>& records,
                                         const std::string& metric) {
  std::vector<BudgetFamily> families;
  for (const auto& [plugin, members] : ByPlugin(records, metric)) {
    const std::set<std::string> fields = PanelFields(members);
    std::map<std::vector<Json>, BudgetFamily> panels;
    for (const Member& member : members) {
      std::vector<Json> values;
      std::string panel;
      for (const std::string& field : fields) {
        values.push_back(member.record->attack_params.value(field, Json()));
        panel += fmt::format("{}{} {}", panel.empty() ? "" : ", ", field, Shown(values.back()));
      }
      BudgetFamily& family = panels[values];
      family.plugin = plugin;
      family.panel = panel;
      family.per = member.record->protocol.at("budget").value("per", "prompt");
      family.entries.push_back({member.attack, member.steps});
    }
    for (auto& [values, family] : panels) {
      if (family.entries.size() < 2) continue;
      std::sort(family.entries.begin(), family.entries.end(),
                [](const auto& a, const auto& b) { return a.steps < b.steps; });
      families.push_back(std::move(family));
    }
  }
  return families;
}

}  // namespace excise
