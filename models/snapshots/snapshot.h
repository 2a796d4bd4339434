// Which files of a Hugging Face snapshot folder a model needs, and their digest.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/input_files.h"
#include "models/tensors/registered.h"

namespace excise {

// Collects files under their logical names ("unet/config.json"); what is missing is reported all at
// once, so that a half downloaded snapshot needs one look and not five.
class SnapshotFiles {
 public:
  explicit SnapshotFiles(std::filesystem::path root) : root_(std::move(root)) {}

  // `folder` is where the files lie, `prefix` ("unet/" or "") opens their logical names.
  void Need(const std::filesystem::path& folder, const std::string& prefix,
            const std::string& name);
  // vocab.json and merges.txt, or tokenizer.json; and the optional files of a tokenizer.
  void NeedTokenizer(const std::filesystem::path& folder, const std::string& prefix);
  // STEM.safetensors or its shards, or the .fp16 variant.
  void NeedWeights(const std::filesystem::path& folder, const std::string& prefix,
                   const std::string& stem);

  // Throws Error naming every missing file; `hint` says where the model comes from.
  void Check(const std::string& what, const std::string& hint = "") const;
  // SHA-256 of canonical JSON {logical name: SHA-256 of the file}. Call after Check and after the
  // files were read: throws Error naming a file that changed since it was needed.
  std::string Digest() const;
  // How the files differ from what a publisher's are known to be, one text a file.
  std::vector<std::string> Differences(const std::vector<RegisteredFile>& published) const;

 private:
  bool AddIfPresent(const std::filesystem::path& folder, const std::string& prefix,
                    const std::string& name);

  std::filesystem::path root_;
  std::map<std::string, InputFile> files_;
  std::map<std::filesystem::path, InputFile> folders_;  // in which files were looked for
  std::vector<std::string> missing_;
};

// Whether a tokenizer's files are in this very folder.
bool HoldsTokenizer(const std::filesystem::path& folder);

// STEM, or STEM.fp16 where only that exists.
std::string WeightStem(const std::filesystem::path& folder, const std::string& stem);

}  // namespace excise
