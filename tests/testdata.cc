#include "tests/testdata.h"

#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "core/error.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Folders in which repository paths may be looked up, the likeliest first.
std::vector<fs::path> Roots() {
  std::vector<fs::path> roots;
  if (const std::string source = Env("TEST_SRCDIR"); !source.empty()) {
    const std::string workspace = Env("TEST_WORKSPACE");
    roots.push_back(fs::path(source) / (workspace.empty() ? "excise" : workspace));
  }
  for (fs::path here = fs::current_path(); here.has_relative_path(); here = here.parent_path()) {
    roots.push_back(here);
  }
  return roots;
}

// The folder of the sources. Runfiles are links to them, so a link's end tells.
fs::path SourceFolder() {
  for (const fs::path& root : Roots()) {
    std::error_code ignored;
    const fs::path end = fs::canonical(root / "WORKSPACE", ignored);
    if (!ignored) return end.parent_path();
  }
  return fs::current_path();
}

// Removes its folders when the process exits.
struct Scratch {
  fs::path root;
  ~Scratch() {
    std::error_code ignored;
    if (!root.empty()) fs::remove_all(root, ignored);
  }
};

}  // namespace

fs::path RepoFile(const std::string& relative) {
  for (const fs::path& root : Roots()) {
    if (fs::exists(root / relative)) return root / relative;
  }
  throw Error("No file '" + relative + "' in the runfiles or above " + fs::current_path().string() +
              ". Add it to the test's data, or run the test in the repository root.");
}

bool HaveModels() {
  try {
    return fs::exists(RepoFile("models/emoji/unet/config.json")) &&
           fs::exists(RepoFile("models/emoji/retrained/unet/config.json"));
  } catch (const Error&) {
    return false;
  }
}

std::optional<fs::path> SharedFile(const std::string& relative) {
  fs::path folder = Env("EXCISE_SHARED");
  if (folder.empty()) folder = SourceFolder().parent_path() / "shared" / "data";
  if (!fs::exists(folder / relative)) return std::nullopt;
  return folder / relative;
}

bool Nightly() { return !Env("EXCISE_NIGHTLY").empty(); }

fs::path TestFolder(const std::string& name) {
  static Scratch scratch;
  if (scratch.root.empty()) {
    const std::string given = Env("TEST_TMPDIR");
    const fs::path base = given.empty() ? fs::temp_directory_path() : fs::path(given);
    scratch.root = base / ("excise_test_" + std::to_string(getpid()));
  }
  const fs::path folder = scratch.root / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

}  // namespace excise
