// The repository's own sources, for tests of what no compiler checks: layers, cards, conventions.
#pragma once

#include <string>
#include <vector>

namespace excise {

struct SourceFile {
  std::string room;  // "methods", "models/nets"
  std::string name;  // "methods/uce.cc", "models/nets/clip.cc"
  std::string text;
};

// Every .cc, .h and BUILD of the rooms, sorted by name.
std::vector<SourceFile> ReadSourceTree();

// What `#include` lines name, with their first character: "<vector", "\"core/json.h".
std::vector<std::string> Includes(const std::string& text);

// A plug-in registers itself.
bool IsPlugin(const SourceFile& file);

}  // namespace excise
