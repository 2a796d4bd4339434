#include "models/snapshots/snapshot.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/digest_cache.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

}  // namespace

bool HoldsTokenizer(const fs::path& folder) {
  return IsFile(folder / "vocab.json") || IsFile(folder / "tokenizer.json");
}

std::string WeightStem(const fs::path& folder, const std::string& stem) {
  for (const char* suffix : {".safetensors", ".safetensors.index.json"}) {
    if (IsFile(folder / (stem + suffix))) return stem;
  }
  return IsFile(folder / (stem + ".fp16.safetensors")) ? stem + ".fp16" : stem;
}

bool SnapshotFiles::AddIfPresent(const fs::path& folder, const std::string& prefix,
                                 const std::string& name) {
  std::error_code ignored;
  // A file that is not there decides what is read as well, and may come.
  if (fs::is_directory(folder, ignored)) folders_.emplace(folder, folder);
  if (!IsFile(folder / name)) return false;
  files_.emplace(prefix + name, folder / name);
  return true;
}

void SnapshotFiles::Need(const fs::path& folder, const std::string& prefix,
                         const std::string& name) {
  if (!AddIfPresent(folder, prefix, name)) missing_.push_back(prefix + name);
}

void SnapshotFiles::NeedTokenizer(const fs::path& folder, const std::string& prefix) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    AddIfPresent(folder, prefix, name);
  }
  const bool pair = IsFile(folder / "vocab.json") && IsFile(folder / "merges.txt");
  if (!pair && AddIfPresent(folder, prefix, "tokenizer.json")) return;
  Need(folder, prefix, "vocab.json");
  Need(folder, prefix, "merges.txt");
}

void SnapshotFiles::NeedWeights(const fs::path& folder, const std::string& prefix,
                                const std::string& stem) {
  const std::string found = WeightStem(folder, stem);
  if (AddIfPresent(folder, prefix, found + ".safetensors")) return;
  const std::string index = found + ".safetensors.index.json";
  if (!AddIfPresent(folder, prefix, index)) {
    missing_.push_back(prefix + stem + ".safetensors");
    return;
  }
  const Json json = ReadJsonFile(folder / index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) {
    throw Error(fmt::format("{}: no \"weight_map\" object, so the shards are unknown.",
                            (folder / index).string()));
  }
  for (const Json& shard : *map) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    // A file name only: an index must not reach outside its folder.
    if (name.empty() || name != fs::path(name).filename() || name == "..") {
      throw Error(
          fmt::format("{}: '{}' is not a plain file name.", (folder / index).string(), name));
    }
    if (files_.count(prefix + name) == 0) Need(folder, prefix, name);
  }
}

void SnapshotFiles::Check(const std::string& what, const std::string& hint) const {
  if (missing_.empty()) return;
  throw Error(
      fmt::format("{} is not a complete {} in Hugging Face layout; missing: {}. {}Download the "
                  "snapshot again, and convert pickled weights (.bin, .ckpt) to safetensors first: "
                  "they are never read.",
                  root_.string(), what, fmt::join(missing_, ", "), hint.empty() ? "" : hint + " "));
}

std::string SnapshotFiles::Digest() const {
  Json digests = Json::object();
  for (const auto& [name, file] : files_) {
    digests[name] = WeightDigest(file.path());
    file.RequireUnchanged();
  }
  for (const auto& [path, folder] : folders_) folder.RequireUnchanged();
  return Sha256Hex(CanonicalJson(digests));
}

std::vector<std::string> SnapshotFiles::Differences(
    const std::vector<RegisteredFile>& published) const {
  std::vector<std::string> differences;
  for (const RegisteredFile& file : published) {
    const auto found = files_.find(file.name);
    if (found == files_.end()) continue;  // another variant
    const fs::path& path = found->second.path();
    const uint64_t size = fs::file_size(path);
    if (size != file.size) {
      differences.push_back(
          fmt::format("{} has {} bytes, the published one {}", file.name, size, file.size));
    } else if (!file.sha256.empty() && WeightDigest(path) != file.sha256) {
      differences.push_back(fmt::format("{} has SHA-256 {}, the published one {}", file.name,
                                        WeightDigest(path), file.sha256));
    }
  }
  return differences;
}

}  // namespace excise
