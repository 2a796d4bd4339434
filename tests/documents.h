// For tests: the documents of the repository, and what they tell a reader to type.
#pragma once

#include <string>
#include <vector>

namespace excise {

struct DocumentFile {
  std::string name;  // "docs/models.md"
  std::string text;
};

// Every .md file that the test's data has below the repository's root, sorted by name.
std::vector<DocumentFile> ReadAllDocuments();

// Those of them that speak of what is true now: the README, CONTRIBUTING.md, docs/ and the rooms'
// own; not what was measured or changed once.
std::vector<DocumentFile> ReadGuides();

// The text without its code blocks.
std::string Prose(const std::string& text);

// What stands in backticks in the prose, with single spaces between words.
std::vector<std::string> CodeSpans(const std::string& text);

// A program that is run by Bazel: in a code block, or in backticks.
struct BazelRun {
  std::string label;                   // "//experiments:table1"
  std::vector<std::string> arguments;  // what follows "--", as a shell splits it
};
std::vector<BazelRun> BazelRuns(const std::string& text);

}  // namespace excise
