// What a store holds, read off its folder: for its upkeep.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/store.h"

namespace excise {

struct StoredArtifact {
  std::string stage, digest;  // of the key
  Json key;
  uintmax_t bytes = 0;                    // of its files
  std::filesystem::file_time_type since;  // when it was stored
};

// Calls visit(folder, key) for every artifact below the folder of a stage whose manifest can be
// read. The others are damaged or just being replaced.
void ForEachStored(const std::filesystem::path& stage,
                   const std::function<void(const std::filesystem::path&, const Json&)>& visit);

// All of it, by stage and digest. Throws UsageError where `root` is no store.
std::vector<StoredArtifact> ContentsOf(const std::filesystem::path& root);

// What in a key has the form of a digest.
std::vector<std::string> DigestsIn(const Json& key);

// `digests`, and the digests of all that their artifacts were made of: whose names their keys have.
std::set<std::string> WithOrigins(const std::vector<StoredArtifact>& contents,
                                  std::set<std::string> digests);

struct MergeCounts {
  int64_t copied = 0, there = 0, damaged = 0;
  uintmax_t bytes = 0;  // of those copied
};
// Copies what `into` lacks of the store in the folder `from`, each file held to its SHA-256. What
// is damaged there stays there. Throws Error (full disk included); what was copied by then is
// whole.
MergeCounts MergeStores(const std::filesystem::path& from, Store* into);

}  // namespace excise
