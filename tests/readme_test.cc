// What the documents claim and a machine can check without the programs: the README's excerpt is
// the committed result; every link, file and Bazel label that they name exists.
// tests/documents_test.cc has what needs the programs.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "tests/documents.h"
#include "tests/source_tree.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::string TextOf(const std::vector<DocumentFile>& documents, const std::string& name) {
  for (const DocumentFile& document : documents) {
    if (document.name == name) return document.text;
  }
  FAIL("no document " << name << " in the test's data");
  return "";
}

bool Exists(const std::string& path) {
  try {
    return fs::exists(RepoFile(path));
  } catch (const Error&) {
    return false;
  }
}

// "| a | b |" -> {"a", "b"}.
std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream in(line.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) cells.emplace_back(Trimmed(cell));
  return cells;
}

// Every Markdown table whose first column is "method": (method, column) -> its cells, for a column
// may stand in several blocks: recovery under an attack, and the plain rate.
using TableCells = std::map<std::pair<std::string, std::string>, std::set<std::string>>;
TableCells MethodTables(const std::string& text) {
  TableCells all;
  std::vector<std::string> header;
  for (const std::string& line : Lines(text)) {
    if (line.empty() || line[0] != '|') {
      header.clear();
      continue;
    }
    const std::vector<std::string> cells = Cells(line);
    if (header.empty()) {
      header = cells;
    } else if (header[0] == "method" && cells[0].find("--") == cells[0].npos) {
      for (size_t i = 1; i < std::min(cells.size(), header.size()); ++i) {
        all[{cells[0], header[i]}].insert(cells[i]);
      }
    }
  }
  return all;
}

// The text of a room's BUILD file, or "".
std::string BuildFile(const std::string& room) {
  static const std::vector<SourceFile> sources = ReadSourceTree();
  for (const SourceFile& source : sources) {
    if (source.name == room + "/BUILD") return source.text;
  }
  return "";
}

}  // namespace

TEST_CASE("the README's excerpt is the committed table's") {
  const std::vector<DocumentFile> documents = ReadAllDocuments();
  const TableCells excerpt = MethodTables(TextOf(documents, "README.md"));
  const TableCells table = MethodTables(TextOf(documents, "results/table1/table1.md"));
  REQUIRE(table.size() > 20);
  std::vector<std::string> rows;
  for (const auto& [place, cells] : excerpt) {
    const auto& [method, column] = place;
    if (rows.empty() || rows.back() != method) rows.push_back(method);
    const auto found = table.find(place);
    INFO("row " << method << ", column " << column);
    REQUIRE(found != table.end());
    for (const std::string& cell : cells) CHECK(found->second.count(cell) == 1);
  }
  CHECK(rows.size() == 6);
}

TEST_CASE("what documents link to is there") {
  const std::regex link("\\]\\(([^)]+)\\)"), scheme("^[a-z]+:.*");
  size_t links = 0;
  for (const DocumentFile& document : ReadAllDocuments()) {
    const std::string prose = Prose(document.text);
    const fs::path folder = fs::path(document.name).parent_path();
    for (std::sregex_iterator it(prose.begin(), prose.end(), link), end; it != end; ++it) {
      const std::string target = (*it)[1];
      const std::string path = target.substr(0, target.find('#'));
      if (std::regex_match(target, scheme) || path.empty()) continue;
      INFO(document.name << " links to " << target);
      CHECK(Exists((folder / path).lexically_normal().string()));
      ++links;
    }
  }
  CHECK(links >= 20);
}

TEST_CASE("files and folders of the repository that guides name are there") {
  // No placeholders (NAME, <name>, x.cc), no patterns, and only what the test's data has.
  const std::regex path(
      "(attacks|core|datasets|docs|experiments|methods|metrics|models|pretraining|results|tests|"
      "training)/[a-z0-9_/]*(\\.[a-z]+)?");
  const std::regex placeholder(".*/x(\\.cc|\\.h|\\.json)?|.*[/_]x/.*");
  size_t paths = 0;
  for (const DocumentFile& guide : ReadGuides()) {
    for (const std::string& span : CodeSpans(guide.text)) {
      if (!std::regex_match(span, path) || std::regex_match(span, placeholder)) continue;
      INFO(guide.name << " names " << span);
      CHECK(Exists(span));
      ++paths;
    }
  }
  CHECK(paths >= 20);
}

TEST_CASE("names that a room's README puts in backticks stand in the code") {
  std::set<std::string> words;
  const std::regex word("\\w+"), name("[A-Za-z_]\\w*(\\(.*\\))?");
  for (const SourceFile& source : ReadSourceTree()) {
    if (EndsWith(source.name, "_test.cc")) continue;
    words.insert(fs::path(source.name).stem());  // plug-ins are named after their files
    for (const std::string& line : Lines(source.text)) {
      const std::string code = line.substr(0, line.find("// "));
      for (std::sregex_iterator it(code.begin(), code.end(), word), end; it != end; ++it) {
        words.insert(it->str());
      }
    }
  }
  for (const DocumentFile& guide : ReadGuides()) {
    if (!EndsWith(guide.name, "/README.md")) continue;
    for (const std::string& span : CodeSpans(guide.text)) {
      if (!std::regex_match(span, name)) continue;
      INFO(guide.name << ": " << span);
      CHECK(words.count(span.substr(0, span.find('('))) == 1);
    }
  }
}

TEST_CASE("the Bazel targets that documents name are declared") {
  const std::regex label("//([\\w/]+):(\\w+)");
  size_t labels = 0;
  for (const DocumentFile& guide : ReadGuides()) {
    for (std::sregex_iterator it(guide.text.begin(), guide.text.end(), label), end; it != end;
         ++it) {
      const std::string room = (*it)[1], name = (*it)[2], file = room + "/" + name;
      // Of every kind of plug-in, of every table, and the reader's own.
      if (name == "contract_" || name == "x" || StartsWith(name, "my_")) continue;
      INFO(guide.name << " names //" << room << ":" << name);
      // Experiments are declared by their JSON files, programs and tests by theirs, others by name.
      const bool by_file = Exists(file + ".json") || Exists(file + "_main.cc") ||
                           Exists(file + ".cc") || Exists(file + ".sh");
      CHECK((by_file || BuildFile(room).find('"' + name + '"') != std::string::npos));
      ++labels;
    }
  }
  CHECK(labels >= 20);
}

TEST_CASE("documents are short and use the field's words") {
  const std::vector<DocumentFile> guides = ReadGuides();
  CHECK(Lines(TextOf(guides, "README.md")).size() <= 130);
  CHECK(Lines(TextOf(guides, "docs/architecture.md")).size() <= 300);
  for (const DocumentFile& guide : guides) {
    std::string text = guide.text;
    std::replace(text.begin(), text.end(), '\n', ' ');
    // "Significantly different from", "the unmodified model", "the edited model".
    for (const char* phrase : {"told from", "told apart", "unharmed", "removal comes to"}) {
      INFO(guide.name);
      CHECK_THAT(text, !Catch::Contains(phrase));
    }
  }
}

}  // namespace excise
