// Finds files that ship with the program: in the current folder (bazel run, bazel test, a
// checkout), in the runfiles of the running binary, or in a folder above it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace excise {

// `relative` is a path from the repository root: "datasets/emoji_classes.json". Throws Error naming
// the folders that were searched.
std::filesystem::path DataFile(std::string_view relative);

// SHA-256 of a file of the distribution. Throws Error when it is missing or not the expected one,
// naming `package` ("fonts-symbola 2.60-1.1"), whose first word is what to install.
std::string CheckedDigest(const std::filesystem::path& file, std::string_view expected_sha256,
                          std::string_view package);

}  // namespace excise
