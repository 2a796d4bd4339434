// Content-addressed artifacts: a folder each, STORE/<stage>/<first two>/<digest>/, named by the
// SHA-256 of its key. The folder is written beside (STORE/.tmp), fsynced and renamed; the manifest
// (sizes and digests of the files, and the key itself) comes last, so a killed run leaves nothing
// half-made.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/files.h"
#include "core/json.h"

namespace excise {

struct Artifact {
  std::string digest;  // of the key
  std::filesystem::path folder;
  std::map<std::string, std::string> files;  // name -> SHA-256
  std::filesystem::path File(const std::string& name) const { return folder / name; }
  std::string Read(const std::string& name) const;  // throws Error naming the path
};

class Store {
 public:
  // Creates `root`. Throws UsageError when it cannot be written.
  explicit Store(std::filesystem::path root);
  const std::filesystem::path& root() const { return root_; }

  // Key: {stage, plugin, version, params, numerics, seeds, inputs}; see design "one key rule".
  static std::string Digest(const Json& key);

  // The artifact of `key` if it is whole: every file is there with its size and SHA-256. A damaged
  // one is reported on stderr, removed and counts as absent.
  std::optional<Artifact> Find(const Json& key);

  // Stores bytes under `key`. Another process storing the same key at the same time is harmless:
  // the first one's files stay. Names are plain (no folders, no leading dot, not "manifest.json").
  // Throws Error (full disk included) and then leaves nothing behind.
  Artifact Put(const Json& key, const std::map<std::string, std::string>& files);

  // A path for checkpoints of the work that will become `key`; removed by Put.
  std::filesystem::path Scratch(const Json& key, const std::string& name);

  // Why `key` is not stored: the nearest stored key of the same stage and plug-in, and what differs
  // (JSON pointers with old and new value). Empty when nothing is near.
  std::string Explain(const Json& key) const;

 private:
  std::filesystem::path root_;
};

}  // namespace excise
