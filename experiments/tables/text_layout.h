// Tables and running text in columns of characters: what Markdown and the terminal have in common.
#pragma once

#include <string>
#include <vector>

namespace excise {

// With spaces on the right (`left`: the text stands left), or on the left.
std::string Padded(const std::string& text, size_t width, bool left);

// Running text of lines at most `width` wide, where words allow; each ends with '\n'. No line
// begins with a word of which `clings` says that it belongs to the one before.
std::string Wrapped(const std::string& text, size_t width,
                    bool (*clings)(const std::string& word) = nullptr);

struct TextColumn {
  std::vector<std::string> header;  // a line each
  bool left = false;                // aligned
  std::vector<std::string> cells;
  size_t width = 3;
};

// The columns in tables at most `width` wide that each repeat the first one. `edges`: characters of
// a line beside its cells; `gap`: between two cells.
std::vector<std::vector<const TextColumn*>> FittingTables(const TextColumn& first,
                                                          const std::vector<TextColumn>& columns,
                                                          size_t width, size_t edges, size_t gap);

}  // namespace excise
