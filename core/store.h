// Content-addressed artifacts: a folder each, STORE/<stage>/<first two>/<digest>/, named by the
// SHA-256 of its key. The folder is written beside (STORE/.tmp), fsynced and renamed; the manifest
// (sizes and digests of the files, and the key itself) comes last, so a killed run leaves nothing
// half-made.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "core/store_folder.h"

namespace excise {

struct Artifact {
  std::string digest;  // of the key
  std::filesystem::path folder;
  std::map<std::string, std::string> files;  // name -> SHA-256
  std::filesystem::path File(const std::string& name) const { return folder / name; }
  std::string Read(const std::string& name) const;  // throws Error naming the path
};

// What a program may do to a store: everything, or nothing but read what is there.
enum class StoreUse { kWrite, kLook };

class Store {
 public:
  // Creates `root`, with folders below it that are their owner's alone. Throws UsageError when it
  // cannot be written, or where a link or something else stands in a folder's place. To look,
  // `root` need not be there, and the disk stays as it is: a damaged artifact is reported and left,
  // and what stores throws.
  explicit Store(std::filesystem::path root, StoreUse use = StoreUse::kWrite);
  const std::filesystem::path& root() const { return root_; }

  // Key: {stage, plugin, version, params, numerics, seeds, inputs}; see design "one key rule".
  static std::string Digest(const Json& key);

  // The artifact of `key` if it is whole: every file is there with its size and SHA-256. A damaged
  // one is reported on stderr, removed and counts as absent.
  std::optional<Artifact> Find(const Json& key);

  // Whether something is stored under `key`; damage, which Find would see, is not looked for.
  bool Holds(const Json& key) const;

  // Stores bytes under `key`. Another process storing the same key at the same time is harmless:
  // the first one's files stay. Names are plain (no folders, no leading dot, not "manifest.json").
  // Throws Error (full disk included) and then leaves nothing behind.
  Artifact Put(const Json& key, const std::map<std::string, std::string>& files);

  // Takes away an artifact that is whole but cannot be what `key` stands for, `why` reported on
  // stderr, and all that was made of it: whose keys name its digest. One that another process has
  // stored in its place meanwhile stays.
  void Discard(const Json& key, const Artifact& artifact, const std::string& why);

  // Takes away what is stored under `key`, if anything is. Throws Error.
  void Remove(const Json& key);

  // A path for checkpoints of the work that will become `key`; removed by Put.
  std::filesystem::path Scratch(const Json& key, const std::string& name);

  // The stored key of the same stage and plug-in that differs from `key` in the fewest places: what
  // changed since explains why `key` is not stored. Nothing when there is none.
  std::optional<Json> Nearest(const Json& key) const;

 private:
  // To write in. Throws Error in a store to look at.
  const StoreFolder& Folder() const;
  void RemoveArtifact(const std::filesystem::path& folder) const;
  std::vector<std::filesystem::path> MadeOf(const std::string& digest) const;

  std::filesystem::path root_;
  std::optional<StoreFolder> folder_;  // to look at: none
};

}  // namespace excise
