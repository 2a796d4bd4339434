// Where tests find files: under `bazel test`, and when run by hand in the repository root.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace excise {

// A file or folder of the repository ("tests/fixtures/x"). Throws Error when it is absent: then the
// test's target lacks it in `data`.
std::filesystem::path RepoFile(const std::string& relative);

// Whether models/emoji is there, with the weights of `retrained`.
bool HaveModels();

// A file of the optional data folder that is not in the repository: $EXCISE_SHARED, or shared/data
// beside the repository. nullopt when absent; the test then says so (WARN) and returns.
std::optional<std::filesystem::path> SharedFile(const std::string& relative);

// Whether the whole is asked for of what a commit tests a part of ($EXCISE_NIGHTLY is not empty).
bool Nightly();

// A fresh empty folder for this test process, removed when it exits.
std::filesystem::path TestFolder(const std::string& name);

}  // namespace excise
