// What may be wrong with a store's artifacts, done to them on purpose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"

namespace excise {

// Done to one file of an artifact, or to its manifest.
using Damage = void (*)(const std::filesystem::path& file, const std::filesystem::path& manifest);
const std::vector<std::pair<const char*, Damage>>& Damages();  // with names
void FlipBit(const std::filesystem::path& file, const std::filesystem::path& manifest);

// Damages the first artifact of a stage, or all. Returns how many.
int64_t DamageStage(const std::filesystem::path& store, const std::string& stage, Damage damage,
                    bool all);

// What a faulty program wrote, or a hand: the artifact's manifest calls it whole.
struct Poison {
  const char *name, *stage, *file;
  void (*edit)(Json* json);
};
const std::vector<Poison>& Poisons();
void PoisonStage(const std::filesystem::path& store, const Poison& poison);  // its first artifact

}  // namespace excise
