#include "core/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/progress.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";

// Held while an artifact's folder is put in place or taken away, against other threads, processes
// and (where the file system has locks) machines. Without locks the store still works; only the
// repair of a damaged artifact by two processes at once may then cost a recomputation.
class StoreLock {
 public:
  explicit StoreLock(const fs::path& root) : file_(root / ".lock", O_RDWR | O_CREAT) {
    if (file_.get() < 0) return;
    while (flock(file_.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }

 private:
  Descriptor file_;  // closing it ends the lock
};

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

fs::path FolderOf(const fs::path& root, const std::string& stage, const std::string& digest) {
  return root / stage / digest.substr(0, 2) / digest;
}

std::string ReadBytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file && file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();
  if (!file.is_open() || file.bad()) {
    throw Error(
        fmt::format("{} cannot be read. Something removed or damaged it while it was in "
                    "use; run again to recompute it.",
                    path.string()));
  }
  return bytes.str();
}

std::string DigestOfFiles(const Json& files) { return Sha256Hex(CanonicalJson(files)); }

// The artifact in `folder`, or why it is not whole.
struct Inspection {
  std::optional<Artifact> artifact;
  std::string damage;
};

Inspection Inspect(const fs::path& folder, const Json& key, const std::string& digest) {
  Inspection result;
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
      std::error_code code;
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

// Takes `folder` away in one step, so that nobody sees it half removed. Under StoreLock.
void RemoveFolder(const fs::path& root, const fs::path& folder) {
  const fs::path aside = root / ".tmp" / (UniqueSuffix() + ".removed");
  std::error_code code;
  fs::create_directories(aside.parent_path(), code);
  fs::rename(folder, aside, code);
  fs::remove_all(code ? folder : aside, code);
  if (Exists(folder)) {
    throw Error(fmt::format("{} is damaged and cannot be removed: {}. Remove it by hand.",
                            folder.string(), code.message()));
  }
}

// What killed runs left behind. Younger ones may belong to a process on another machine.
void RemoveStale(const fs::path& folder) {
  constexpr auto kAge = std::chrono::hours(48);
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    std::error_code ignored;
    const auto written = fs::last_write_time(it->path(), ignored);
    if (!ignored && fs::file_time_type::clock::now() - written > kAge) {
      fs::remove_all(it->path(), ignored);
    }
  }
}

std::string Short(const Json& value) {
  std::string text = Escape(value.dump(), Format::kTerminal);
  if (text.size() <= 80) return text;
  size_t end = 77;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

// One line for each JSON pointer at which the two keys differ.
std::vector<std::string> Differences(const Json& stored, const Json& wanted) {
  const Json a = stored.flatten(), b = wanted.flatten();
  std::vector<std::string> lines;
  for (const auto& [pointer, value] : a.items()) {
    const auto other = b.find(pointer);
    if (other == b.end()) {
      lines.push_back(fmt::format("{}: {} -> (absent)", pointer, Short(value)));
    } else if (other->dump() != value.dump()) {  // 1 and 1.0 are different keys
      lines.push_back(fmt::format("{}: {} -> {}", pointer, Short(value), Short(*other)));
    }
  }
  for (const auto& [pointer, value] : b.items()) {
    if (!a.contains(pointer))
      lines.push_back(fmt::format("{}: (absent) -> {}", pointer, Short(value)));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
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

Store::Store(fs::path root) : root_(std::move(root)) {
  try {
    CreateFolders(root_ / ".tmp");
    const fs::path probe = root_ / ".tmp" / (UniqueSuffix() + ".probe");
    if (const int code = CreateFile(probe, "")) FailToWrite(probe, code);
    fs::remove(probe);
  } catch (const std::exception& error) {
    throw UsageError(
        fmt::format("The store {} cannot be used: {} Name another one with "
                    "--cache=DIR.",
                    root_.string(), error.what()));
  }
  RemoveStale(root_ / ".tmp");
}

std::string Store::Digest(const Json& key) { return Sha256Hex(CanonicalJson(key)); }

std::optional<Artifact> Store::Find(const Json& key) {
  const std::string digest = Digest(key);
  const fs::path folder = FolderOf(root_, StageOf(key), digest);
  if (!Exists(folder)) return std::nullopt;
  Inspection found = Inspect(folder, key, digest);
  if (found.artifact) return std::move(found.artifact);
  const StoreLock lock(root_);
  if (!Exists(folder)) return std::nullopt;
  found = Inspect(folder, key, digest);  // another process may have replaced it meanwhile
  if (found.artifact) return std::move(found.artifact);
  LogWarning(fmt::format("{} is damaged ({}); it is removed and will be recomputed.",
                         folder.string(), found.damage));
  RemoveFolder(root_, folder);
  return std::nullopt;
}

Artifact Store::Put(const Json& key, const std::map<std::string, std::string>& files) {
  const std::string digest = Digest(key);
  const fs::path folder = FolderOf(root_, StageOf(key), digest);
  Artifact artifact{digest, folder, {}};
  Json manifest = {{"format", 1}, {"key", key}, {"files", Json::object()}};
  for (const auto& [name, bytes] : files) {
    RequirePlainName(name, "a file");
    artifact.files[name] = Sha256Hex(bytes);
    manifest["files"][name] = {{"size", bytes.size()}, {"sha256", artifact.files[name]}};
  }
  manifest["files_sha256"] = DigestOfFiles(manifest["files"]);

  const fs::path beside = root_ / ".tmp" / (UniqueSuffix() + ".artifact");
  const auto write_beside = [&](const std::string& name, std::string_view bytes) {
    if (const int code = CreateFile(beside / name, bytes)) FailToWrite(beside / name, code);
  };
  try {
    CreateFolders(beside);
    for (const auto& [name, bytes] : files) write_beside(name, bytes);
    write_beside(kManifest, CanonicalJson(manifest) + "\n");
    SyncFolder(beside);
    CreateFolders(folder.parent_path());
    const StoreLock lock(root_);
    for (int attempt = 0; rename(beside.c_str(), folder.c_str()) != 0; ++attempt) {
      const int code = errno;
      if ((code != EEXIST && code != ENOTEMPTY) || attempt == 3) FailToWrite(folder, code);
      const Inspection other = Inspect(folder, key, digest);
      if (!other.artifact) {
        RemoveFolder(root_, folder);
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
    std::error_code ignored;
    fs::remove_all(beside, ignored);
    throw;
  }
  std::error_code ignored;
  fs::remove_all(beside, ignored);
  fs::remove_all(root_ / ".scratch" / digest, ignored);
  return artifact;
}

fs::path Store::Scratch(const Json& key, const std::string& name) {
  RequirePlainName(name, "a checkpoint");
  const fs::path folder = root_ / ".scratch" / Digest(key);
  CreateFolders(folder);
  return folder / name;
}

std::string Store::Explain(const Json& key) const {
  const std::string stage = StageOf(key), digest = Digest(key);
  if (Exists(FolderOf(root_, stage, digest) / kManifest)) return "";
  std::string nearest_digest;
  std::vector<std::string> nearest;
  std::error_code code;
  fs::recursive_directory_iterator it(root_ / stage, code), end;
  for (; !code && it != end; it.increment(code)) {
    if (it->path().filename() != kManifest) continue;
    Json stored;
    try {
      stored = ReadJsonFile(it->path()).at("key");
    } catch (const std::exception&) {
      continue;  // damaged or just being replaced: it explains nothing
    }
    if (!stored.is_object() || stored.value("plugin", Json()) != key.value("plugin", Json()))
      continue;
    std::vector<std::string> lines = Differences(stored, key);
    const std::string name = it->path().parent_path().filename().string();
    const bool nearer = nearest_digest.empty() || lines.size() < nearest.size() ||
                        (lines.size() == nearest.size() && name < nearest_digest);
    if (!nearer) continue;
    nearest = std::move(lines);
    nearest_digest = name;
  }
  if (nearest_digest.empty()) return "";
  return fmt::format("the nearest stored key ({} {}) differs in:\n  {}\n", stage,
                     nearest_digest.substr(0, 12), fmt::join(nearest, "\n  "));
}

}  // namespace excise
