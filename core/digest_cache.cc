#include "core/digest_cache.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/json.h"
#include "core/store_folder.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kBigFile = uint64_t{32} << 20;

std::atomic<bool> distrusted{false}, remembers{true};

// UserCacheFolder() until a program names another one.
std::optional<fs::path>& NamedCache() {
  static std::optional<fs::path> cache;
  return cache;
}

// What must not have changed since a digest was taken.
Json ToJson(const FileIdentity& identity) {
  return {{"device", identity.device},
          {"inode", identity.inode},
          {"size", identity.size},
          {"modified_ns", identity.modified_ns},
          {"changed_ns", identity.changed_ns}};
}

// An entry says when hashing began: within a tick of the file's last change, another one may have
// left no trace.
std::string Remembered(const fs::path& entry, const FileIdentity& identity) {
  std::error_code missing;
  if (!fs::exists(entry, missing)) return "";
  try {
    const Json json = ReadJsonFile(entry);
    const bool believed = json.at("file") == ToJson(identity) &&
                          identity.Settled(json.at("hashed_ns").get<int64_t>());
    return believed ? json.at("sha256").get<std::string>() : "";
  } catch (const std::exception&) {
    return "";  // damaged, or of a version that did not say when: hashed anew
  }
}

void Remember(const fs::path& entry, const FileIdentity& identity, int64_t hashed_ns,
              const std::string& digest) {
  if (!remembers) return;
  try {
    CreatePrivateFolders(entry.parent_path());  // what others may write they could forge
    const Json json = {{"file", ToJson(identity)}, {"hashed_ns", hashed_ns}, {"sha256", digest}};
    WriteFileAtomically(entry, json.dump(1) + "\n");
  } catch (const Error&) {
    // A cache that cannot be written costs seconds next time, and nothing else.
  }
}

}  // namespace

fs::path UserCacheFolder() {
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string given = environment("EXCISE_CACHE"); !given.empty()) return UserPath(given);
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) {
    return UserPath(xdg) / "excise";
  }
  if (const std::string home = environment("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "excise";
  }
  return {};
}

std::string WeightDigest(const fs::path& path) {
  const int64_t now = NowInNanoseconds();
  const InputFile file(path);
  const FileIdentity& identity = file.identity();
  const fs::path folder = NamedCache() ? *NamedCache() : UserCacheFolder();
  if (folder.empty() || !file.IsFile() || identity.size < kBigFile) return Sha256HexOfFile(path);
  const fs::path entry =
      folder / "digests" / fmt::format("{:x}-{:x}.json", identity.device, identity.inode);
  if (!distrusted) {
    if (const std::string known = Remembered(entry, identity); !known.empty()) return known;
  }
  const std::string digest = Sha256HexOfFile(path);
  file.RequireUnchanged();
  if (identity.Settled(now)) Remember(entry, identity, now, digest);
  return digest;
}

void UseDigestsIn(const fs::path& cache, bool remember) {
  NamedCache() = cache;
  remembers = remember;
}

void DistrustDigests() { distrusted = true; }

}  // namespace excise
