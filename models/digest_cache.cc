#include "models/digest_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <ctime>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/json.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBigFile = int64_t{32} << 20;
constexpr int64_t kNanoseconds = 1'000'000'000;
// A file that changed so recently may change again within the resolution of its times.
constexpr int64_t kSettled = 2;

std::atomic<bool> distrusted{false};

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * kNanoseconds + time.tv_nsec; }

// What must not have changed since a digest was taken.
Json IdentityOf(const struct stat& status) {
  return {{"device", status.st_dev},
          {"inode", status.st_ino},
          {"size", status.st_size},
          {"modified_ns", Nanoseconds(status.st_mtim)},
          {"changed_ns", Nanoseconds(status.st_ctim)}};
}

std::string Remembered(const fs::path& entry, const Json& identity) {
  std::error_code missing;
  if (!fs::exists(entry, missing)) return "";
  try {
    const Json json = ReadJsonFile(entry);
    return json.at("file") == identity ? json.at("sha256").get<std::string>() : "";
  } catch (const std::exception&) {
    return "";  // damaged: hashed anew
  }
}

void Remember(const fs::path& entry, const Json& identity, const std::string& digest) {
  try {
    CreateFolders(entry.parent_path());
    WriteFileAtomically(entry, Json{{"file", identity}, {"sha256", digest}}.dump(1) + "\n");
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
  if (const std::string given = environment("EXCISE_CACHE"); !given.empty()) return given;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) {
    return fs::path(xdg) / "excise";
  }
  if (const std::string home = environment("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "excise";
  }
  return {};
}

std::string WeightDigest(const fs::path& path) {
  struct stat before {};
  const fs::path folder = UserCacheFolder();
  if (folder.empty() || stat(path.c_str(), &before) != 0 || before.st_size < kBigFile) {
    return Sha256HexOfFile(path);
  }
  const Json identity = IdentityOf(before);
  const fs::path entry =
      folder / "digests" / fmt::format("{:x}-{:x}.json", before.st_dev, before.st_ino);
  if (!distrusted) {
    if (const std::string known = Remembered(entry, identity); !known.empty()) return known;
  }
  const std::string digest = Sha256HexOfFile(path);
  struct stat after {};
  const bool steady = stat(path.c_str(), &after) == 0 && IdentityOf(after) == identity &&
                      std::time(nullptr) - after.st_ctim.tv_sec > kSettled;
  if (steady) Remember(entry, identity, digest);
  return digest;
}

void DistrustDigests() { distrusted = true; }

}  // namespace excise
