#include "core/store_contents.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <system_error>
#include <tuple>
#include <utility>

#include "core/error.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";

bool IsDigest(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

void ForEachStored(const fs::path& stage,
                   const std::function<void(const fs::path&, const Json&)>& visit) {
  std::error_code code, ignored;
  fs::recursive_directory_iterator it(stage, code), end;
  for (; !code && it != end; it.increment(code)) {
    if (it->path().filename() != kManifest || !it->is_regular_file(ignored)) continue;
    Json key;
    try {
      key = ReadJsonFile(it->path()).at("key");
    } catch (const std::exception&) {
      continue;
    }
    visit(it->path().parent_path(), key);
  }
}

std::vector<StoredArtifact> ContentsOf(const fs::path& root) {
  std::error_code code;
  if (!fs::is_directory(root / ".tmp", code)) {
    throw UsageError(fmt::format(
        "{}: there is no store here. A store is the folder of --cache (else ~/.cache/excise).",
        root.string()));
  }
  std::vector<StoredArtifact> contents;
  for (const auto& stage : fs::directory_iterator(root)) {
    const std::string name = stage.path().filename().string();
    if (name[0] == '.' || !stage.is_directory(code) || stage.is_symlink(code)) continue;
    ForEachStored(stage.path(), [&](const fs::path& folder, const Json& key) {
      StoredArtifact artifact{name, folder.filename().string(), key, 0,
                              fs::last_write_time(folder / kManifest, code)};
      for (const auto& file : fs::directory_iterator(folder)) {
        if (file.is_regular_file(code)) artifact.bytes += file.file_size(code);
      }
      contents.push_back(std::move(artifact));
    });
  }
  std::sort(contents.begin(), contents.end(), [](const auto& a, const auto& b) {
    return std::tie(a.stage, a.digest) < std::tie(b.stage, b.digest);
  });
  return contents;
}

std::vector<std::string> DigestsIn(const Json& key) {
  std::vector<std::string> digests;
  const Json flat = key.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (value.is_string() && IsDigest(value.get<std::string>())) digests.push_back(value);
  }
  return digests;
}

std::set<std::string> WithOrigins(const std::vector<StoredArtifact>& contents,
                                  std::set<std::string> digests) {
  std::map<std::string, const Json*> keys;
  for (const StoredArtifact& artifact : contents) keys[artifact.digest] = &artifact.key;
  std::vector<std::string> open(digests.begin(), digests.end());
  while (!open.empty()) {
    const auto found = keys.find(open.back());
    open.pop_back();
    if (found == keys.end()) continue;
    for (const std::string& origin : DigestsIn(*found->second)) {
      if (keys.count(origin) != 0 && digests.insert(origin).second) open.push_back(origin);
    }
  }
  return digests;
}

MergeCounts MergeStores(const fs::path& from, Store* into) {
  std::error_code code;
  if (fs::equivalent(from, into->root(), code)) {
    throw UsageError(fmt::format("{}: a store cannot be merged into itself.", from.string()));
  }
  Store source(from, StoreUse::kLook);
  MergeCounts counts;
  for (const StoredArtifact& one : ContentsOf(from)) {
    if (into->Holds(one.key) && into->Find(one.key)) {
      ++counts.there;
      continue;
    }
    const std::optional<Artifact> artifact = source.Find(one.key);
    if (!artifact) {
      ++counts.damaged;
      continue;
    }
    std::map<std::string, std::string> files;
    for (const auto& [name, sha] : artifact->files) files[name] = artifact->Read(name);
    into->Put(one.key, files);
    ++counts.copied;
    counts.bytes += one.bytes;
  }
  return counts;
}

}  // namespace excise
