#include "core/data_file.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "core/hash.h"

namespace excise {

namespace fs = std::filesystem;

fs::path DataFile(std::string_view relative) {
  std::vector<fs::path> roots = {fs::current_path()};
  std::error_code failure;
  const fs::path binary = fs::read_symlink("/proc/self/exe", failure);
  if (!failure) {
    const fs::path runfiles = binary.string() + ".runfiles";
    if (fs::is_directory(runfiles, failure)) {
      for (const auto& entry : fs::directory_iterator(runfiles)) {
        if (entry.is_directory()) roots.push_back(entry.path());
      }
    }
    for (fs::path up = binary.parent_path(); up != up.root_path(); up = up.parent_path()) {
      roots.push_back(up);
    }
  }
  std::string searched;
  for (const fs::path& root : roots) {
    if (fs::exists(root / relative, failure)) return root / relative;
    searched += "\n  " + root.string();
  }
  throw Error(
      fmt::format("{}: not found. Run from the repository's root, or through Bazel. "
                  "Searched:{}",
                  relative, searched));
}

std::string CheckedDigest(const fs::path& file, std::string_view expected_sha256,
                          std::string_view package) {
  if (!fs::exists(file)) {
    throw Error(
        fmt::format("{}: not found. The emoji pictures need it: apt install {} "
                    "(expected: {} of Debian 12).",
                    file.string(), package.substr(0, package.find(' ')), package));
  }
  std::string digest = Sha256HexOfFile(file);
  if (digest != expected_sha256) {
    throw Error(fmt::format(
        "{}: SHA-256 is {}, expected {} ({} of Debian 12). With another version pictures or "
        "captions differ, and numbers would not be comparable. Install that version.",
        file.string(), digest, expected_sha256, package));
  }
  return digest;
}

}  // namespace excise
