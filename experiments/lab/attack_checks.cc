#include "experiments/lab/attack_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace excise {

void CheckFoundOn(const Lab& lab) {
  std::vector<std::string> rows;
  for (const Entry<Method>& entry : lab.methods) rows.push_back(entry.name);
  for (const Entry<Attack>& attack : lab.attacks) {
    if (attack.found_on.empty()) continue;
    const std::string where = fmt::format("attack '{}': \"found_on\"", attack.name);
    const auto row = std::find(rows.begin(), rows.end(), attack.found_on);
    if (row == rows.end()) ThrowUnknownName("row of the table for " + where, attack.found_on, rows);
    const AttackTraits traits = attack.plugin->traits();
    if (!traits.ForEachMethod()) {
      throw UsageError(fmt::format(
          "{} is for attacks that meet the edited model, and {} is made once for all methods "
          "anyway. Leave it out.",
          where, attack.plugin_name));
    }
    if (traits.weights) {
      throw UsageError(
          fmt::format("{}: {} changes the weights of the model that it attacks, which "
                      "no other row has. Leave it out.",
                      where, attack.plugin_name));
    }
    const std::string& reason = lab.methods[static_cast<size_t>(row - rows.begin())].not_applicable;
    if (!reason.empty()) {
      throw UsageError(fmt::format("{}: row '{}' cannot run here: {}. Choose another one.", where,
                                   attack.found_on, reason));
    }
    for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
      const std::string unclaimed =
          lab.ReasonNotClaimed(static_cast<size_t>(row - rows.begin()), subject);
      if (unclaimed.empty()) continue;
      throw UsageError(
          fmt::format("{}: row '{}' is not attacked for '{}': {}. Choose another row, "
                      "or other concepts with --concepts.",
                      where, attack.found_on, lab.concepts[subject].name, unclaimed));
    }
  }
}

void CheckDrawings(const Lab& lab) {
  const SamplerSettings& sampler = lab.experiment.sampler;
  if (WithScheduler(lab.backbone.scheduler, sampler.scheduler).name != "pndm") return;
  for (const Entry<Attack>& attack : lab.attacks) {
    if (!attack.plugin->traits().drawing) continue;
    throw UsageError(fmt::format(
        "attack '{}' chooses how pictures are drawn, which the scheduler pndm does not allow: its "
        "first calls belong together. Take another one, as in --set sampler.scheduler=ddim, or "
        "leave the attack out with --attacks.",
        attack.name));
  }
}

void CheckAttacks(const Lab& lab) {
  for (size_t attack = 1; attack < lab.attacks.size(); ++attack) {
    std::string example;
    bool any = false;
    for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
      for (const Prompt& seed : lab.prompts[subject].at("target")) {
        any = any || lab.ReasonNotAttacked(attack, subject, seed).empty();
        if (example.empty()) example = fmt::format("id {}, text '{}'", seed.id, seed.text);
      }
    }
    if (any || example.empty()) continue;
    throw UsageError(
        fmt::format("attack '{}' has a candidate for none of the prompts (the first has {}). "
                    "--export_prompts=FILE.csv lists them all.",
                    lab.attacks[attack].name, example));
  }
}

}  // namespace excise
