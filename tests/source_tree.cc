#include "tests/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "core/error.h"
#include "core/text.h"
#include "tests/testdata.h"

namespace excise {
namespace {

constexpr const char* kRooms[] = {"core",    "models", "training", "datasets",    "methods",
                                  "attacks", "judges", "metrics",  "pretraining", "experiments"};

std::string TextOf(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw Error("Cannot read " + path.string());
  return text.str();
}

// The nearest folder at or above `folder` that Bazel knows as a room: one with a BUILD file.
std::string RoomOf(std::filesystem::path folder) {
  const std::filesystem::path root = RepoFile("core").parent_path();
  while (!std::filesystem::exists(root / folder / "BUILD")) folder = folder.parent_path();
  return folder.string();
}

}  // namespace

std::vector<SourceFile> ReadSourceTree() {
  std::vector<SourceFile> files;
  for (const char* top : kRooms) {
    const std::filesystem::path root = RepoFile(top);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             root, std::filesystem::directory_options::follow_directory_symlink)) {
      const std::string name = entry.path().filename().string();
      const bool generated = name.find(".gen.") != std::string::npos;
      if (generated || !(name == "BUILD" || EndsWith(name, ".cc") || EndsWith(name, ".h"))) {
        continue;
      }
      const std::filesystem::path path = top / entry.path().lexically_relative(root);
      files.push_back({RoomOf(path.parent_path()), path.string(), TextOf(entry.path())});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.name < b.name; });
  return files;
}

std::vector<std::string> Includes(const std::string& text) {
  static const std::regex pattern("(?:^|\\n)[ \\t]*#[ \\t]*include[ \\t]*([<\"][^>\"\\n]+)");
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

bool IsPlugin(const SourceFile& file) {
  // A definition at the start of a line, not a mention in a comment.
  static const std::regex pattern("(?:^|\\n)(?:static |const )*Registration<\\w+, *\\w+>");
  return EndsWith(file.name, ".cc") && !EndsWith(file.name, "_test.cc") &&
         std::regex_search(file.text, pattern);
}

}  // namespace excise
