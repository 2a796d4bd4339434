#include "core/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/store_contents.h"
#include "core/store_lock.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kLock = ".lock";
constexpr const char* kScratch = ".scratch";

bool IsPlainName(std::string_view name) {
  if (name.empty() || name.size() > 200 || name[0] == '.') return false;
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '+';
  });
}

void RequirePlainName(std::string_view name, std::string_view what) {
  if (IsPlainName(name) && name != kManifest) return;
  throw Error(
      fmt::format("'{}' cannot be the name of {} in the store: letters, digits, _ - + . and "
                  "no leading dot; not {}.",
                  Escape(name, Format::kTerminal), what, kManifest));
}

std::string StageOf(const Json& key) {
  const auto stage = key.is_object() ? key.find("stage") : key.end();
  if (!key.is_object() || stage == key.end() || !stage->is_string()) {
    throw Error("A store key must be an object with a string \"stage\".");
  }
  const std::string name = stage->get<std::string>();
  RequirePlainName(name, "a stage");
  return name;
}

// Relative to the store's root.
fs::path PlaceOf(const Json& key, const std::string& digest) {
  return fs::path(StageOf(key)) / digest.substr(0, 2) / digest;
}

std::string ReadBytes(const fs::path& path) {
  try {
    return ReadFile(path, UINT64_MAX);
  } catch (const Error& error) {
    throw Error(
        fmt::format("{} Something removed or damaged it while it was in use; run again to "
                    "recompute it.",
                    error.what()));
  }
}

std::string DigestOfFiles(const Json& files) { return Sha256Hex(CanonicalJson(files)); }

// The artifact in `folder`, or why it is not whole.
struct Inspection {
  std::optional<Artifact> artifact;
  std::string damage;
};

Inspection Inspect(const fs::path& folder, const Json& key, const std::string& digest) {
  Inspection result;
  std::error_code code;
  // A link, or a pipe that nobody writes, would be followed or waited for.
  if (!fs::is_directory(fs::symlink_status(folder, code))) return {std::nullopt, "it is no folder"};
  if (!fs::is_regular_file(fs::symlink_status(folder / kManifest, code))) {
    return {std::nullopt, std::string(kManifest) + " is missing"};
  }
  try {
    const Json manifest = ReadJsonFile(folder / kManifest);
    if (!manifest.is_object() || !manifest.contains("key") || !manifest.contains("files") ||
        !manifest["files"].is_object() || CanonicalJson(manifest["key"]) != CanonicalJson(key)) {
      return {std::nullopt, "its manifest does not belong to its key"};
    }
    // A list that lost a name would look whole.
    if (manifest.value("files_sha256", DigestOfFiles(manifest["files"])) !=
        DigestOfFiles(manifest["files"])) {
      return {std::nullopt, "its manifest is damaged: its list of files was changed"};
    }
    Artifact artifact{digest, folder, {}};
    for (const auto& [name, entry] : manifest["files"].items()) {
      if (!IsPlainName(name) || !entry.is_object())
        return {std::nullopt, "its manifest is damaged"};
      const fs::path path = folder / name;
      if (!fs::is_regular_file(fs::symlink_status(path, code)))
        return {std::nullopt, name + " is missing"};
      const uintmax_t size = fs::file_size(path, code), wanted = entry.value("size", uintmax_t{0});
      if (code || size != wanted) {
        return {std::nullopt, fmt::format("{} has {} bytes instead of {}", name, size, wanted)};
      }
      const std::string sha = entry.value("sha256", std::string());
      if (Sha256HexOfFile(path) != sha) {
        return {std::nullopt, name + " does not have the SHA-256 of the manifest"};
      }
      artifact.files.emplace(name, sha);
    }
    result.artifact = std::move(artifact);
  } catch (const Error& error) {
    result.damage = error.what();
  } catch (const Json::exception& error) {
    result.damage = std::string("its manifest is damaged: ") + error.what();
  }
  return result;
}

bool Exists(const fs::path& path) {
  std::error_code code;
  return fs::exists(fs::symlink_status(path, code));
}

// JSON pointers at which the two keys differ.
size_t CountDifferences(const Json& stored, const Json& wanted) {
  const Json a = stored.flatten(), b = wanted.flatten();
  size_t differ = 0, shared = 0;
  for (const auto& [pointer, value] : a.items()) {
    const auto other = b.find(pointer);
    shared += other != b.end();
    differ += other == b.end() || other->dump() != value.dump();  // 1 and 1.0 are different keys
  }
  return differ + b.size() - shared;
}

}  // namespace

std::string Artifact::Read(const std::string& name) const {
  const auto entry = files.find(name);
  if (entry == files.end()) {
    throw Error(
        fmt::format("{} has no file '{}'.", folder.string(), Escape(name, Format::kTerminal)));
  }
  std::string bytes = ReadBytes(File(name));
  if (Sha256Hex(bytes) != entry->second) {
    throw Error(
        fmt::format("{} changed after it was checked. Something else writes to the store; "
                    "run again to recompute it.",
                    File(name).string()));
  }
  return bytes;
}

namespace {

StoreFolder OpenFolder(const fs::path& root) {
  try {
    StoreFolder folder(root);
    folder.RefuseLinks(kLock);
    return folder;
  } catch (const std::exception& error) {
    throw UsageError(
        fmt::format("The store {} cannot be used: {} Name another one with "
                    "--cache=DIR.",
                    root.string(), error.what()));
  }
}

}  // namespace

Store::Store(fs::path root, StoreUse use) : root_(std::move(root)) {
  if (use == StoreUse::kLook) return;
  folder_.emplace(OpenFolder(root_));
  folder_->RemoveLeftovers();
}

const StoreFolder& Store::Folder() const {
  if (folder_) return *folder_;
  throw Error(fmt::format("{} was opened to look only; nothing is stored there.", root_.string()));
}

std::string Store::Digest(const Json& key) { return Sha256Hex(CanonicalJson(key)); }

bool Store::Holds(const Json& key) const {
  return Exists(root() / PlaceOf(key, Digest(key)) / kManifest);
}

std::optional<Artifact> Store::Find(const Json& key) {
  const std::string digest = Digest(key);
  const fs::path place = PlaceOf(key, digest), folder = root() / place;
  if (folder_) folder_->RefuseLinks(place.parent_path());
  if (!Exists(folder)) return std::nullopt;
  Inspection found = Inspect(folder, key, digest);
  if (found.artifact) return std::move(found.artifact);
  if (!folder_) {
    LogWarning(
        fmt::format("{} is damaged ({}); a run will recompute it.", folder.string(), found.damage));
    return std::nullopt;
  }
  const StoreLock lock(root() / kLock);
  if (!Exists(folder)) return std::nullopt;
  found = Inspect(folder, key, digest);  // another process may have replaced it meanwhile
  if (found.artifact) return std::move(found.artifact);
  LogWarning(fmt::format("{} is damaged ({}); it is removed and will be recomputed.",
                         folder.string(), found.damage));
  RemoveArtifact(folder);
  return std::nullopt;
}

// In one step, so that nobody sees it half removed. Under StoreLock.
void Store::RemoveArtifact(const fs::path& folder) const {
  const std::string problem = Folder().Remove(folder.lexically_relative(root()));
  if (problem.empty()) return;
  throw Error(fmt::format(
      "{} cannot be removed: {}. Remove it by hand, or use another store with --cache=DIR.",
      folder.string(), problem));
}

// Folders of what was made of an artifact, or of what was made of that.
std::vector<fs::path> Store::MadeOf(const std::string& digest) const {
  std::map<fs::path, std::string> keys;
  for (const auto& stage : fs::directory_iterator(root())) {
    if (!IsPlainName(stage.path().filename().string())) continue;
    ForEachStored(stage.path(), [&](const fs::path& folder, const Json& key) {
      keys.emplace(folder, key.dump());
    });
  }
  std::vector<fs::path> made;
  for (std::vector<std::string> wrong = {digest}; !wrong.empty();) {
    const std::string named = '"' + wrong.back() + '"';
    wrong.pop_back();
    for (auto it = keys.begin(); it != keys.end();) {
      const bool names_it = it->second.find(named) != std::string::npos;
      if (names_it) {
        made.push_back(it->first);
        wrong.push_back(it->first.filename());
      }
      it = names_it ? keys.erase(it) : std::next(it);
    }
  }
  return made;
}

void Store::Discard(const Json& key, const Artifact& artifact, const std::string& why) {
  const StoreLock lock(root() / kLock);
  const Inspection now = Inspect(artifact.folder, key, artifact.digest);
  if (!now.artifact || now.artifact->files != artifact.files) return;
  const std::vector<fs::path> made = MadeOf(artifact.digest);
  LogWarning(fmt::format("{} cannot be used: {} It is removed{} and will be recomputed.",
                         artifact.folder.string(), why,
                         made.empty() ? "" : " with all that was made of it"));
  // Itself last: what is left by a kill in between is found wrong again.
  for (const fs::path& folder : made) RemoveArtifact(folder);
  RemoveArtifact(artifact.folder);
}

void Store::Remove(const Json& key) {
  const StoreLock lock(root() / kLock);
  const fs::path folder = root() / PlaceOf(key, Digest(key));
  if (Exists(folder)) RemoveArtifact(folder);
}

Artifact Store::Put(const Json& key, const std::map<std::string, std::string>& files) {
  Folder();
  const std::string digest = Digest(key);
  const fs::path place = PlaceOf(key, digest), folder = root() / place;
  Artifact artifact{digest, folder, {}};
  Json manifest = {{"format", 1}, {"key", key}, {"files", Json::object()}};
  for (const auto& [name, bytes] : files) {
    RequirePlainName(name, "a file");
    artifact.files[name] = Sha256Hex(bytes);
    manifest["files"][name] = {{"size", bytes.size()}, {"sha256", artifact.files[name]}};
  }
  manifest["files_sha256"] = DigestOfFiles(manifest["files"]);

  const fs::path place_beside = fs::path(".tmp") / (UniqueSuffix() + ".artifact");
  const fs::path beside = root() / place_beside;
  const auto write_beside = [&](const std::string& name, std::string_view bytes) {
    if (const int code = CreateFile(beside / name, bytes)) FailToWrite(beside / name, code);
  };
  try {
    Folder().Make(place_beside);
    for (const auto& [name, bytes] : files) write_beside(name, bytes);
    write_beside(kManifest, CanonicalJson(manifest) + "\n");
    SyncFolder(beside);
    Folder().Make(place.parent_path());
    const StoreLock lock(root() / kLock);
    for (int attempt = 0; rename(beside.c_str(), folder.c_str()) != 0; ++attempt) {
      const int code = errno;
      const bool taken = code == EEXIST || code == ENOTEMPTY || code == ENOTDIR;
      if (!taken || attempt == 3) FailToWrite(folder, code);
      const Inspection other = Inspect(folder, key, digest);
      if (!other.artifact) {
        RemoveArtifact(folder);
        continue;
      }
      // Another process was first. What stands there is whole, and it is what callers will read.
      if (other.artifact->files != artifact.files) {
        LogWarning(
            fmt::format("{} was stored with other bytes by another process; those are kept. "
                        "The computation is not deterministic.",
                        folder.string()));
      }
      artifact = *other.artifact;
      break;
    }
    SyncFolder(folder.parent_path());
  } catch (...) {
    Folder().Remove(place_beside);
    throw;
  }
  Folder().Remove(place_beside);
  Folder().Remove(fs::path(kScratch) / digest);
  return artifact;
}

fs::path Store::Scratch(const Json& key, const std::string& name) {
  Folder();
  RequirePlainName(name, "a checkpoint");
  const fs::path place = fs::path(kScratch) / Digest(key);
  Folder().Make(place);
  Folder().RefuseLinks(place / name);  // a checkpoint would be written through it
  return root() / place / name;
}

std::optional<Json> Store::Nearest(const Json& key) const {
  std::optional<Json> nearest;
  std::pair<size_t, std::string> least;  // differences, and the digest where they are as many
  ForEachStored(root() / StageOf(key), [&](const fs::path& folder, const Json& stored) {
    if (!stored.is_object() || stored.value("plugin", Json()) != key.value("plugin", Json()))
      return;
    std::pair<size_t, std::string> distance = {CountDifferences(stored, key),
                                               folder.filename().string()};
    if (nearest && distance >= least) return;
    nearest = stored;
    least = std::move(distance);
  });
  return nearest;
}

}  // namespace excise
