#include "experiments/tables/text_layout.h"

#include <algorithm>

#include "core/text.h"

namespace excise {

std::string Padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, TextWidth(text)), ' ');
  return left ? text + space : space + text;
}

std::string Wrapped(const std::string& text, size_t width,
                    bool (*clings)(const std::string& word)) {
  std::string out, line;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    const bool breaks = clings == nullptr || !clings(word);
    if (!line.empty() && breaks && TextWidth(line) + 1 + TextWidth(word) > width) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    start = end + 1;
  }
  return out + line + "\n";
}

std::vector<std::vector<const TextColumn*>> FittingTables(const TextColumn& first,
                                                          const std::vector<TextColumn>& columns,
                                                          size_t width, size_t edges, size_t gap) {
  std::vector<std::vector<const TextColumn*>> tables;
  for (size_t start = 0; start < columns.size();) {
    std::vector<const TextColumn*> shown = {&first};
    size_t total = edges + first.width;
    while (start < columns.size() &&
           (shown.size() == 1 || total + gap + columns[start].width <= width)) {
      total += gap + columns[start].width;
      shown.push_back(&columns[start++]);
    }
    tables.push_back(std::move(shown));
  }
  return tables;
}

}  // namespace excise
