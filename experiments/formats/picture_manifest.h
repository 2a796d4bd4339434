// manifest.json of a folder of pictures made elsewhere (experiments/lab/picture_folder.h), as plain
// data: checked as far as a file can be that knows no run. Knows no LibTorch, so that it can be
// fuzzed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/params.h"

namespace excise {

struct PictureEntry : Parameterised {
  std::string row, prompt_id, prompt, subject, group, attack = "none", file, sha256;
  int64_t replicate = 0;
  std::filesystem::path path;  // of `file`: absolute, inside the folder; it need not exist
  void Fields(ParamVisitor& v) override;
};

struct PictureRowInfo : Parameterised {
  std::string base;
  std::vector<std::string> uses;
  void Fields(ParamVisitor& v) override;
};

struct PictureManifest {
  std::vector<PictureEntry> pictures;
  std::map<std::string, PictureRowInfo> rows;
};

// Reads FOLDER/manifest.json. Throws UsageError naming the file and the entry: no such file,
// another structure, unknown keys, wrong types, row names that are not plain, a path that leaves
// the folder.
PictureManifest ReadPictureManifest(const std::filesystem::path& folder);

// The same from the file's text, whose pictures lie in `folder`.
PictureManifest ParsePictureManifest(const Json& manifest, const std::filesystem::path& folder,
                                     const std::string& origin);

}  // namespace excise
