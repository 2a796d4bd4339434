#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <regex>

#include "experiments/tables/render.h"
#include "tests/hostile_results.h"

namespace excise {
namespace {

using Fields = std::vector<std::string>;

// Records of RFC 4180, read in the plainest way: quotes doubled inside quotes.
std::vector<Fields> ReadCsvText(const std::string& text) {
  std::vector<Fields> records = {{""}};
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        records.back().back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        records.back().back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      records.back().emplace_back();
    } else if (c == '\n') {
      records.push_back({""});
    } else {
      records.back().back() += c;
    }
  }
  records.pop_back();  // the last line ends
  return records;
}

// The lines of `record` alone, by metric and part.
std::map<std::string, std::map<std::string, std::string>> LinesOf(const Record& record) {
  Results results = MadeUpResults();
  results.records = {record};
  const std::vector<Fields> lines = ReadCsvText(RenderCsv(results));
  std::map<std::string, std::map<std::string, std::string>> named;
  for (size_t i = 1; i < lines.size(); ++i) {
    REQUIRE(lines[i].size() == lines[0].size());
    std::map<std::string, std::string> line;
    for (size_t j = 0; j < lines[i].size(); ++j) line[lines[0][j]] = lines[i][j];
    CHECK(named.emplace(line["metric"] + "/" + line["part"], line).second);
  }
  return named;
}

}  // namespace

TEST_CASE("CSV has one number a line, and parts under a name of their own") {
  Record record = MadeUpRecord("good", "none", "retention", MadeUpRate(100, 50));
  record.score.parts = {{"near", 0.25},      {"near_n", 40.0},     {"near_base", 1.0},
                        {"frechet", 3.0},    {"frechet_low", 2.0}, {"frechet_high", 5.0},
                        {"unrelated_n", 7.0}};
  auto lines = LinesOf(record);
  CHECK(lines.size() == 5);
  auto& own = lines["retention/"];
  CHECK(own["value"] == "0.5");
  CHECK(own["n"] == "100");
  CHECK(own["concept"] == "all");
  CHECK(own["eligible"] == "120");
  CHECK(own["higher_is_better"] == "false");
  CHECK(own["reference_row"] == "false");
  auto& near = lines["retention_parts/near"];
  CHECK(near["value"] == "0.25");
  CHECK(near["n"] == "40");
  CHECK(near["unit"].empty());
  // Wilson's interval of 10 / 40 is [0.1419, 0.4019].
  CHECK(std::stod(near["low"]) == Approx(0.1419).margin(5e-5));
  CHECK(std::stod(near["high"]) == Approx(0.4019).margin(5e-5));
  auto& frechet = lines["retention_parts/frechet"];
  CHECK(frechet["value"] == "3");
  CHECK(frechet["low"] == "2");
  CHECK(frechet["high"] == "5");
  CHECK(lines["retention_parts/near_base"]["n"].empty());
  CHECK(lines["retention_parts/unrelated_n"]["value"] == "7");

  record.status = "error";
  record.reason = "it broke, twice";
  lines = LinesOf(record);
  REQUIRE(lines.size() == 1);
  CHECK(lines["retention/"]["reason"] == "it broke, twice");
  for (const char* column : {"value", "low", "high", "stderr", "n"}) {
    CHECK(lines["retention/"][column].empty());
  }
}

TEST_CASE("CSV has plain decimals that read back as the same number") {
  const std::regex plain("-?[0-9]+(\\.[0-9]+)?");
  for (const double number : {0.1 + 0.2, 1.0 / 3, -2.5e-9, 1e-300, 5e-324, 1e22, -1e300, 0.0}) {
    Record record = MadeUpRecord("good", "none", "kid", MadeUpRate(10, 5));
    record.score.value = number;
    const std::string text = LinesOf(record)["kid/"]["value"];
    INFO(text);
    CHECK(std::regex_match(text, plain));
    CHECK(std::strtod(text.c_str(), nullptr) == number);
  }
}

TEST_CASE("CSV stays a grid without formulas, whatever the names") {
  for (const std::string& hostile : HostileTexts()) {
    const Results results = HostileResults(hostile);
    const std::string csv = RenderCsv(results);
    INFO(csv.substr(0, 2000));
    CHECK(IsHarmlessText(csv));
    const auto lines = ReadCsvText(csv);
    CHECK(lines.size() > results.records.size());
    for (const auto& line : lines) {
      CHECK(line.size() == lines.front().size());
      for (const std::string& field : line) {
        const size_t start = field.find_first_not_of(' ');
        if (start == std::string::npos) continue;
        char* end = nullptr;
        std::strtod(field.c_str(), &end);
        if (*end == '\0') continue;  // a number
        CHECK(std::string("=+-@").find(field[start]) == std::string::npos);
      }
    }
  }
}

}  // namespace excise
