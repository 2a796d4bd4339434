// The figures that the findings print follow from committed records (tests/figures.json).
//
// A sentence there is one of the document with fields in place of its figures, which this test
// fills in:
//   {METHOD ATTACK METRIC FIELD}  of the part's table, over all concepts; METRIC@CONCEPT: of one
//   {/POINTER}                    a number, or {"hits", "n"}, of the part's file
// FIELD is a place in the record ("value", "parts.garbage"), or ci, ci_concepts ("[26-70]"), hits
// (of n), n, or p of a recovery. Shares are printed in percent; ":1" after it: with one decimal,
// ":plain": as they are, with three. What a document prints and no record has is listed as well,
// with where it comes from.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/read_file.h"
#include "core/text.h"
#include "tests/committed_records.h"
#include "tests/testdata.h"

namespace excise {
namespace {

std::string OnOneLine(const std::string& text) {
  return std::regex_replace(text, std::regex("\\s+"), " ");
}

std::string Percent(double share, int decimals) {
  std::string number = fmt::format("{:.{}f}", 100 * share, decimals);
  return number == "-0" ? "0" : number;
}

int Decimals(const std::string& form) { return form == "1" ? 1 : 0; }

// "[26-70]", or "[-1 to 49]", where a dash could be read as a sign.
std::string Interval(const Json& ends, int decimals) {
  const double low = ends.at(0), high = ends.at(1);
  const std::string from = Percent(low, decimals), to = Percent(high, decimals);
  return fmt::format("[{}{}{}]", from, from[0] == '-' || to[0] == '-' ? " to " : "-", to);
}

// As the documents print it; `form`: what stands after the colon.
std::string Number(const Json& found, const std::string& form) {
  if (found.is_object()) {
    return Percent(found.at("hits").get<double>() / found.at("n").get<double>(), Decimals(form));
  }
  if (found.is_number_integer()) return fmt::format("{}", found.get<int64_t>());
  if (form == "plain") return fmt::format("{:.3f}", found.get<double>());
  return Percent(found.get<double>(), Decimals(form));
}

Json::json_pointer Place(const std::string& field) {
  return Json::json_pointer("/" + std::regex_replace(field, std::regex("\\."), "/"));
}

// The figure that `field` of a record asks for.
std::string Figure(const Json& record, const std::string& field) {
  const size_t colon = std::min(field.find(':'), field.size());
  const std::string name = field.substr(0, colon);
  const std::string form = colon == field.size() ? "" : field.substr(colon + 1);
  if (name == "ci") return Interval(record.at("ci95"), Decimals(form));
  if (name == "ci_concepts") return Interval(record.at("ci95_concepts"), Decimals(form));
  if (name == "p") return fmt::format("{:.2f}", record.at("parts").at("p").get<double>());
  const double n = record.value("n", 0.0);
  if (name == "n") return fmt::format("{:.0f}", n);
  if (name == "hits") return fmt::format("{:.0f}", record.at("value").get<double>() * n);
  return Number(record.at(Place(name)), form);
}

// Where the figures of some sentences come from: a table, or another file of results.
class Source {
 public:
  explicit Source(const Json& part) {
    if (part.contains("table")) {
      table_ = std::make_unique<CommittedTable>(part.at("table").get<std::string>());
    } else {
      file_ = Json::parse(ReadFile(RepoFile(part.at("file").get<std::string>())));
    }
  }

  // `asked`: what stands between the braces.
  std::string Get(const std::string& asked) const {
    if (table_ == nullptr) {
      const size_t colon = std::min(asked.find(':'), asked.size());
      const Json& found = file_.at(Json::json_pointer(asked.substr(0, colon)));
      return Number(found, colon == asked.size() ? "" : asked.substr(colon + 1));
    }
    std::istringstream words(asked);
    std::string method, attack, metric, field;
    if (!(words >> method >> attack >> metric >> field)) throw Error("not four words: " + asked);
    const size_t at = metric.find('@');
    const std::string concept_name = at == std::string::npos ? "*" : metric.substr(at + 1);
    return Figure(table_->Find(method, metric.substr(0, at), attack, concept_name), field);
  }

 private:
  std::unique_ptr<CommittedTable> table_;
  Json file_;
};

// The sentence with its figures.
std::string Filled(const std::string& sentence, const Source& source) {
  static const std::regex field("\\{([^}]*)\\}");
  std::string filled;
  auto end = sentence.cbegin();
  for (std::sregex_iterator it(sentence.begin(), sentence.end(), field), none; it != none; ++it) {
    filled.append(end, sentence.cbegin() + it->position()).append(source.Get((*it)[1].str()));
    end = sentence.cbegin() + it->position() + it->length();
  }
  return filled.append(end, sentence.cend());
}

// What looks like a measured figure in the text.
std::vector<std::string> FiguresOf(const std::string& text) {
  static const std::regex figure("\\d[\\d.,]* (%|points|of \\d+)|\\[-?\\d[\\d.]*( to |-)\\S*\\]");
  std::vector<std::string> all;
  for (std::sregex_iterator it(text.begin(), text.end(), figure), none; it != none; ++it) {
    all.push_back(it->str());
  }
  return all;
}

// Takes `part` out of `text`. Returns whether it was there.
bool TakeOut(const std::string& part, std::string* text) {
  const size_t at = text->find(part);
  if (at == std::string::npos) return false;
  text->replace(at, part.size(), "#");
  return true;
}

}  // namespace

TEST_CASE("the findings' figures follow from committed records, and no other stands there") {
  const Json listed = Json::parse(ReadFile(RepoFile("tests/figures.json")));
  for (const auto& [document, parts] : listed.items()) {
    INFO(document);
    std::string text = OnOneLine(ReadFile(RepoFile(document)));
    for (const Json& part : parts) {
      if (part.contains("source")) {  // in words: no record has them
        CHECK_FALSE(part.at("source").get<std::string>().empty());
        for (const std::string sentence : part.at("says")) {
          INFO("the document should say: " << sentence);
          CHECK(TakeOut(sentence, &text));
        }
        continue;
      }
      const Source source(part);
      for (const std::string sentence : part.at("says")) {
        const std::string filled = Filled(sentence, source);
        INFO("the document should say: " << filled);
        CHECK(TakeOut(filled, &text));
      }
    }
    const std::vector<std::string> left = FiguresOf(text);
    INFO("not listed in tests/figures.json: " << fmt::format("{}", fmt::join(left, " | ")));
    CHECK(left.empty());
  }
}

TEST_CASE("every page of findings is listed, but for those that wait for their table") {
  const Json listed = Json::parse(ReadFile(RepoFile("tests/figures.json")));
  const std::vector<std::string> waiting = {"review.md"};
  size_t pages = 0;
  for (const auto& page : std::filesystem::directory_iterator(RepoFile("docs/findings"))) {
    const std::string name = page.path().filename().string();
    INFO(name);
    CHECK(listed.contains("docs/findings/" + name) != IsOneOf(name, waiting));
    ++pages;
  }
  CHECK(pages == listed.size() + waiting.size());
}

TEST_CASE("a figure is printed as the findings print it") {
  const Json record = {{"value", 0.25},
                       {"n", 20},
                       {"ci95", {-0.0112, 0.488}},
                       {"ci95_concepts", {0.304, 0.5}},
                       {"parts", {{"garbage", 0.1234}, {"p", 0.1249}}}};
  CHECK(Figure(record, "value") == "25");
  CHECK(Figure(record, "ci") == "[-1 to 49]");
  CHECK(Figure(record, "ci_concepts") == "[30-50]");
  CHECK(Figure(record, "hits") == "5");
  CHECK(Figure(record, "n") == "20");
  CHECK(Figure(record, "p") == "0.12");
  CHECK(Figure(record, "parts.garbage:1") == "12.3");
  CHECK(Figure(record, "value:plain") == "0.250");
  CHECK_THROWS(Figure(record, "parts.missing"));
  CHECK(Number({{"hits", 14}, {"n", 226}}, "1") == "6.2");
}

TEST_CASE("a figure that no record has is seen") {
  CHECK(FiguresOf("UCE keeps 62 % of them [3-9], 54 of 322; by 5 points, in 2026.").size() == 4);
  CHECK(FiguresOf("Two concepts, 100 gradient steps, table 1.").empty());
  std::string text = "It keeps 62 %.";
  CHECK_FALSE(TakeOut("keeps 63 %", &text));
  CHECK(TakeOut("keeps 62 %", &text));
  CHECK(FiguresOf(text).empty());
}

}  // namespace excise
