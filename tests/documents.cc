#include "tests/documents.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>

#include "core/text.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// The lines of code blocks; one that ends with a backslash goes on in the next.
std::vector<std::string> CodeLines(const std::string& text) {
  std::vector<std::string> lines;
  bool inside = false, goes_on = false;
  for (std::string line : Lines(text)) {
    if (StartsWith(line, "```")) {
      inside = !inside;
      continue;
    }
    if (!inside) continue;
    const bool more = !line.empty() && line.back() == '\\';
    if (more) line.pop_back();
    if (goes_on) {
      lines.back() += line;
    } else {
      lines.push_back(line);
    }
    goes_on = more;
  }
  return lines;
}

// Words as a shell splits a line: quotes, comments; a redirection ends them.
std::vector<std::string> ShellWords(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool open = false;
  char quote = 0;
  for (const char c : line + " ") {
    if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      open = true;
    } else if (c == ' ') {
      if (open) words.push_back(word);
      word.clear();
      open = false;
    } else if (!open && (c == '#' || c == '<')) {
      break;
    } else {
      word += c;
      open = true;
    }
  }
  return words;
}

}  // namespace

std::vector<DocumentFile> ReadAllDocuments() {
  const fs::path root = RepoFile("README.md").parent_path();
  std::vector<DocumentFile> documents;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".md" || !fs::is_regular_file(entry.path())) continue;
    std::ifstream in(entry.path());
    documents.push_back({entry.path().lexically_relative(root).string(),
                         {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}});
  }
  std::sort(documents.begin(), documents.end(),
            [](const DocumentFile& a, const DocumentFile& b) { return a.name < b.name; });
  return documents;
}

std::vector<DocumentFile> ReadGuides() {
  std::vector<DocumentFile> guides;
  for (DocumentFile& document : ReadAllDocuments()) {
    const std::string& name = document.name;
    const bool of_room =
        std::regex_match(name, std::regex("(attacks|datasets|judges|methods|metrics)/.*"));
    if (name == "README.md" || name == "CONTRIBUTING.md" || StartsWith(name, "docs/") || of_room) {
      guides.push_back(std::move(document));
    }
  }
  return guides;
}

std::string Prose(const std::string& text) {
  std::string prose;
  bool inside = false;
  for (const std::string& line : Lines(text)) {
    const bool fence = StartsWith(line, "```");
    if (fence) inside = !inside;
    if (!fence && !inside) prose += line + "\n";
  }
  return prose;
}

std::vector<std::string> CodeSpans(const std::string& text) {
  const std::string prose = Prose(text);
  const std::regex span("`([^`]+)`"), space("\\s+");
  std::vector<std::string> spans;
  for (std::sregex_iterator it(prose.begin(), prose.end(), span), end; it != end; ++it) {
    spans.push_back(std::regex_replace((*it)[1].str(), space, " "));
  }
  return spans;
}

std::vector<BazelRun> BazelRuns(const std::string& text) {
  std::vector<std::string> lines = CodeLines(text);
  for (const std::string& span : CodeSpans(text)) lines.push_back(span);
  std::vector<BazelRun> runs;
  for (const std::string& line : lines) {
    const std::vector<std::string> words = ShellWords(line);
    const size_t n = words.size();
    if (n < 3 || (words[0] != "bazel" && words[0] != "./bazelw") || words[1] != "run") continue;
    BazelRun run{words[2], {}};
    if (n > 3 && words[3] == "--") run.arguments.assign(words.begin() + 4, words.end());
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace excise
