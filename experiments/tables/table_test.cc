#include "experiments/tables/table.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/text.h"
#include "experiments/run/report.h"
#include "experiments/tables/render.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

std::string Markdown(const Results& results) { return RenderMarkdown(DescribeTable(results)); }

// The first line that starts with "| name ".
std::string RowOf(const std::string& table, const std::string& name) {
  for (const std::string& line : Lines(table)) {
    if (StartsWith(line, "| " + name + " ")) return line;
  }
  FAIL("no row " << name << " in\n" << table);
  return "";
}

}  // namespace

TEST_CASE("a table prints percent with intervals, marks the best and its ties") {
  const std::string table = Markdown(MadeUpResults());
  INFO(table);
  // Wilson's interval of 6 / 120 is [0.023, 0.105].
  CHECK_THAT(RowOf(table, "good"), Contains(" **5** [2-10] |"));
  CHECK_THAT(RowOf(table, "near"), Contains(" 7 [3-13] = |"));
  CHECK_THAT(RowOf(table, "poor"), Contains(" 50 [41-59] |"));
  // The reference row is best nowhere and stands first.
  CHECK_THAT(RowOf(table, "none"), Contains(" 98 [94-100] |") && !Contains("**"));
  CHECK(table.find("| none ") < table.find("| good "));
  CHECK_THAT(table, Contains("Not comparable with papers."));
  CHECK_THAT(table, Contains("n = 120"));
  CHECK_THAT(table,
             Contains("Below none without attack (paired test, 5 % each): good, near, poor."));
}

TEST_CASE("marks tell equal from open: within 5 points, not known, different") {
  Results results = MadeUpResults();
  // Beside 6 of 120: 8 are at most 4.9 points more (Tango, 90 %), 10 at most 7.2 (p = 1/8), and 12
  // are significantly more (p = 1/32).
  for (const auto& [method, hits] : {std::pair{"open", 10}, std::pair{"apart", 12}}) {
    results.records.push_back(MadeUpRecord(method, "none", "asr", MadeUpRate(120, hits)));
  }
  results.comparisons = CompareAll(results.records);
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(RowOf(table, "near"), Contains(" 7 [3-13] = |"));
  CHECK_THAT(RowOf(table, "open"), Contains(" 8 [5-15] ~ |"));
  CHECK_THAT(RowOf(table, "apart"), Contains(" 10 [6-17] |"));
  CHECK_THAT(table, Contains("`=`: within 5 points of it (two one-sided tests); `~`: not shown"));
}

TEST_CASE("a method that ties with nobody has no mark, and one method alone neither") {
  Results results = MadeUpResults();
  std::vector<Record> kept;
  for (const Record& record : results.records) {
    if (record.method == "none" || record.method == "poor") kept.push_back(record);
  }
  results.records = kept;
  results.comparisons = CompareAll(kept);
  CHECK_THAT(Markdown(results), !Contains("**50**"));
}

TEST_CASE("no line is wider than a terminal, whatever the number of columns") {
  Results results = MadeUpResults();
  for (int i = 0; i < 12; ++i) {
    for (const char* method : {"none", "good", "near", "poor"}) {
      results.records.push_back(MadeUpRecord(method, fmt::format("attack_with_a_long_name_{}", i),
                                             "asr", MadeUpRate(120, 120)));
    }
  }
  const std::string table = Markdown(results);
  for (const std::string& line : Lines(table)) {
    INFO(line);
    CHECK(TextWidth(line) <= kTableWidth);
  }
  CHECK_THAT(table, Contains("attack_with_a_long_name_11"));
}

TEST_CASE("the lines of a table are equally wide") {
  Table table;
  table.title = "T";
  const auto cells = [](const std::vector<std::string>& values) {
    std::vector<TableCell> made(values.size());
    for (size_t i = 0; i < values.size(); ++i) made[i].value = values[i];
    return made;
  };
  table.first = {"method", 0, true, cells({"a", "longer"})};
  TableColumn column{"x", -1, false, cells({"1", "100"})};
  column.cells[1].low = "97";
  column.cells[1].high = "100";
  table.columns = {column};
  Document document;
  document.tables = {table};
  std::vector<std::string> lines;
  for (const std::string& line : Lines(RenderMarkdown(document))) {
    if (!line.empty() && line[0] == '|') lines.push_back(line);
  }
  REQUIRE(lines.size() == 4);
  for (const std::string& line : lines) CHECK(TextWidth(line) == TextWidth(lines[0]));
  CHECK(lines[0] == "| method |          x ↓ |");
  CHECK(lines[1] == "|:-------|-------------:|");
  CHECK(lines[3] == "| longer | 100 [97-100] |");
}

TEST_CASE("a cost that is the same for all methods is a line of text and no column") {
  Results results = MadeUpResults();
  for (const char* method : {"none", "good", "near", "poor"}) {
    Score score;
    score.n = 1;
    score.value = std::string(method) == "good" ? 2480 : 0;
    score.parts = {{"unet_evaluations_per_image", 40.0}};
    Record record = MadeUpRecord(method, "none", "cost", score);
    record.traits = {"unet_evaluations", false, 0, 0, "cost", {"target"}};
    results.records.push_back(record);
  }
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(table, Contains("The same in every row: U-Net/image 40."));
  CHECK_THAT(table, !Contains("U-Net/image ↓"));
  CHECK_THAT(table, Contains(" U-Net ↓ |"));
}

TEST_CASE("what rounds to zero has no sign") {
  Results results = MadeUpResults();
  for (const char* method : {"none", "good", "near", "poor"}) {
    Score score;
    score.n = 10;
    score.value = std::string(method) == "good" ? -0.0002 : -0.25;
    Record record = MadeUpRecord(method, "none", "kid", score);
    record.traits = {"distance", false, 0, 3, "quality", {"near"}};
    results.records.push_back(record);
  }
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(table, Contains("-0.250") && Contains("0.000"));
  CHECK_THAT(table, !Contains("-0.000"));
}

TEST_CASE("cells that failed say so, with a footnote that is safe to print") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method != "poor" || record.attack != "pez" || record.subject != kAllConcepts)
      continue;
    record.status = "error";
    record.reason = "it \x1b[31mbroke | here";
  }
  const std::string table = Markdown(results);
  CHECK_THAT(RowOf(table, "poor"), Contains("error (1)"));
  CHECK_THAT(table, Contains("broke \\| here"));
  CHECK_THAT(table, Contains("(1) poor / "));
  CHECK(table.find('\x1b') == std::string::npos);
}

TEST_CASE(
    "a row of which pictures are missing has bounds and a footnote, and is never bold or tied") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method != "good" || record.attack != "none") continue;
    record.denominators["missing"] = 20;
    record.denominators["bounds"] = {0.04, 0.19};
    record.reason = "20 are missing; the first: junk.png";
  }
  results.comparisons = CompareAll(results.records);
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(RowOf(table, "good"), Contains(" 5 [2-10] (1) |") && !Contains(" **5** "));
  CHECK_THAT(RowOf(table, "near"), Contains(" **7** [3-13] |"));
  CHECK_THAT(table, Contains("(1) good: 20 are missing; the first: junk"));
  CHECK_THAT(table, Contains("good, none: missing or damaged pictures: 20") && Contains("4-19"));
  CHECK_THAT(RowOf(table, "poodle"), Contains("5 (1) / "));
  // A missing row is not found to be below another either.
  CHECK_THAT(table, Contains("(paired test, 5 % each): near, poor."));
}

TEST_CASE("the caption says where a judge has no reject class") {
  Results results = MadeUpResults();
  CHECK_THAT(Markdown(results), !Contains("reject class"));
  Record concept_record = results.records[0];
  concept_record.subject = "poodle";
  concept_record.protocol["judge"]["name"] = "yes_man";
  concept_record.protocol["judge"]["reject_class"] = false;
  results.records.push_back(concept_record);
  concept_record.subject = kAllConcepts;
  concept_record.protocol["judge"]["name"] = "yes_man, another";
  concept_record.attack = "another";
  results.records.push_back(concept_record);
  std::string table = Markdown(results);
  INFO(table);
  std::replace(table.begin(), table.end(), '\n', ' ');  // paragraphs are wrapped
  CHECK_THAT(table, Contains("Without a reject class, so that garbage"));
  CHECK_THAT(table, Contains("yes_man") && !Contains("yes_man, another"));
}

TEST_CASE("where the judge does not fit, no removal is printed, and one footnote says why") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method == "none" && record.attack == "none") continue;
    record.status = kUnfitJudge;
    record.reason = "the judge sees nothing";
    record.score = {};
  }
  results.comparisons = CompareAll(results.records);
  const std::string table = Markdown(results);
  INFO(table);
  for (const char* method : {"good", "near", "poor"}) {
    CHECK_THAT(RowOf(table, method), Contains("n/a (1)") && !Contains("["));
  }
  CHECK_THAT(table, Contains("(1) no removal is reported: the judge sees nothing"));
  CHECK_THAT(table, !Contains("(2) "));
}

TEST_CASE("the worst case stands in a column of its own") {
  Results results = MadeUpResults();
  for (Record& record : UnionRecords(results.records)) results.records.push_back(record);
  results.comparisons = CompareAll(results.records);
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(table, Contains("worst case ↓"));
  // poor: 60 without attack, 30 others under pez: 90 of 120.
  CHECK_THAT(RowOf(table, "poor"), Contains("75 [67-82]"));
  CHECK_THAT(RowOf(table, "poodle"), Contains("50 / 75"));
}

TEST_CASE("what was left out is counted, with its reasons and what it could change") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.attack != "pez" || record.subject != kAllConcepts) continue;
    record.denominators["set"] = 130;
    record.denominators["excluded"] = 10;
    record.denominators["reasons"] = {{"excluded:no_candidate", 10}};
    record.denominators["bounds"] = {0.25, 0.375};
  }
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(table,
             Contains("Left out under pez: 10 of 130 pictures (excluded&#58;no_candidate 10)"));
  CHECK_THAT(table, Contains("good 25-38"));
  CHECK_THAT(table, !Contains("Left out under none"));
}

TEST_CASE("concepts that one edit removes together are named, and what is left out for them") {
  Results results = MadeUpResults();
  CHECK_THAT(Markdown(results), !Contains("removed together") && !Contains("removed_too"));
  results.experiment["removals"] = {{"poodle", "sepia", "weapons"}, {"smoking", "bombs"}};
  Record kept = MadeUpRecord("good", "none", "retention", MadeUpRate(120, 90));
  kept.traits.group = "retention";
  kept.denominators["set"] = 130;
  kept.denominators["excluded"] = 10;
  kept.denominators["reasons"] = {{"excluded:removed_too", 10}};
  results.records.push_back(kept);
  std::string table = Markdown(results);
  INFO(table);
  std::replace(table.begin(), table.end(), '\n', ' ');  // paragraphs are wrapped
  CHECK_THAT(table, Contains("poodle, sepia and weapons are removed together by one edit. smoking "
                             "and bombs are removed together by one edit."));
  CHECK_THAT(table, Contains("is to remove what they show, too: 10 of 130 pictures"));
}

TEST_CASE("a method that cannot run says why, once") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method != "poor") continue;
    record.status = "not_applicable";
    record.reason = "it needs a U-Net";
  }
  results.comparisons.clear();
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(RowOf(table, "poor"), Contains("n/a (1)") && !Contains("(2)"));
  CHECK_THAT(table, Contains("(1) poor: it needs a U-Net\n"));
  CHECK_THAT(table, !Contains("(2) "));
}

namespace {

// A row of a metric whose values are no fractions.
Record Distance(const std::string& method, double value, double low, double high, int64_t n = 10) {
  Score score;
  score.n = n;
  score.value = value;
  score.low = low;
  score.high = high;
  Record record = MadeUpRecord(method, "none", "kid", score);
  record.traits = {"distance", false, 0, 3, "quality", {"near"}};
  return record;
}

}  // namespace

TEST_CASE("what is zero by construction has no interval, and a small one enough digits") {
  Results results = MadeUpResults();
  results.records.push_back(Distance("none", 0, 0, 0));
  results.records.push_back(Distance("good", 0.0002, 0.0001, 0.0003));
  results.records.push_back(Distance("near", 0.02, 0.01, 0.03));
  results.records.push_back(Distance("poor", 0.5, 0.5 - 1e-12, 0.5 + 1e-12));
  const std::string table = Markdown(results);
  INFO(table);
  const std::string kept = table.substr(table.find("Is the rest kept"));
  CHECK_THAT(RowOf(kept, "none"), Contains(" 0.000 |") && !Contains("±"));
  CHECK_THAT(RowOf(kept, "good"), Contains("**0.0002** ±0.0001 |"));
  CHECK_THAT(RowOf(kept, "near"), Contains(" 0.020 ±0.010 "));
  CHECK_THAT(RowOf(kept, "poor"), Contains(" 0.500 |"));  // what rounding left is no interval
}

TEST_CASE("an interval that one sample or equal ones cannot give is not printed") {
  Results results = MadeUpResults();
  const std::vector<Observation> one = {{"a#0", 31.5}}, equal = {{"a#0", 31.5}, {"b#0", 31.5}};
  // Two pictures of one prompt say nothing of other prompts.
  const std::vector<Observation> twice = {{"a#0", 1}, {"a#1", 1}};
  for (const auto& observations : {one, equal, twice}) {
    Results few = results;
    Record record = MadeUpRecord("good", "none", "clip_score", MeanScore(observations));
    record.traits = {"cosine", true, 0, 1, "quality", {"near"}};
    if (observations.front().value == 1) record.traits.unit = "fraction";
    few.records.push_back(record);
    const std::string table = Markdown(few);
    const std::string kept = table.substr(table.find("Is the rest kept"));
    INFO(kept);
    CHECK_THAT(RowOf(kept, "good"), !Contains("±") && !Contains("["));
    CHECK_THAT(RowOf(kept, "good"), Contains(" 31.5 |") || Contains(" 100 |"));
    const std::string csv = RenderCsv(few);
    CHECK_THAT(csv, Contains(",31.5,,,,") || Contains(",1,,,,"));
  }
}

TEST_CASE("a row over some of the concepts says so and is not ranked") {
  Results results = MadeUpResults();
  std::vector<Record> more;
  for (Record& record : results.records) {
    if (record.subject != kAllConcepts) {
      more.push_back(record);
      more.back().subject = "weapons";
    }
    if (record.method != "good" || record.subject == "poodle") continue;
    record.status = "not_applicable";
    record.reason = "it removes unsafe concepts only, and 'poodle' is of category object";
    record.score = {};
  }
  for (Record& record : results.records) {
    if (record.method == "good" && record.subject == "poodle") record.status = "not_applicable";
  }
  results.records.insert(results.records.end(), more.begin(), more.end());
  results.records.push_back(Distance("near", 0.02, 0.01, 0.03));
  Record set = Distance("good", 0, 0, 0);
  set.status = "not_applicable";
  set.reason = "it removes unsafe concepts only";
  results.records.push_back(set);
  results.records.push_back(Distance("good", 0.01, 0.005, 0.02));
  results.records.back().subject = "weapons";
  const std::string table = Markdown(results);
  INFO(table);
  // 6 of 120 pictures of the one concept; best of the ranked rows is another one.
  CHECK_THAT(RowOf(table, "good"), Contains(" 5 [2-10] (1) |") && !Contains("**"));
  CHECK_THAT(RowOf(table, "near"), Contains(" **7** [3-13] |"));
  CHECK_THAT(table,
             Contains("(1) good: over 1 of 2 concepts (weapons) and so not ranked: it removes "
                      "unsafe concepts only"));
  // Distances of sets do not average.
  CHECK_THAT(RowOf(table.substr(table.find("Is the rest kept")), "good"), Contains("n/a (2) |"));
}

TEST_CASE("captions count in the singular, and do not say how a user's prompts were made") {
  Results results = MadeUpResults();
  results.experiment["prompts"]["target"] = 1;
  std::string table = Markdown(results);
  CHECK_THAT(table, Contains("1 concept, 1 test prompt each, n = 120 pictures a cell"));
  CHECK_THAT(table, Contains("crafted once for all methods: pez"));
  for (Record& record : results.records) {
    if (record.attack == "pez") record.attack_params["file_sha256"] = std::string(64, 'f');
  }
  table = Markdown(results);
  CHECK_THAT(table, Contains("from a file, the same prompts for all methods: pez"));
  CHECK_THAT(table, !Contains("crafted once"));
}

TEST_CASE("a distance over other pictures than its rivals' is not bold, and says why") {
  Results results = MadeUpResults();
  for (const auto& [method, value, blocked] :
       {std::tuple{"good", 0.0, 60.0}, std::tuple{"near", 0.02, 0.0}, {"poor", 0.05, 0.0}}) {
    Score score = MadeUpRate(60, 0);
    score.per_sample.clear();
    score.sample_ids.clear();
    score.value = value;
    score.low = value - 0.01;
    score.high = value + 0.01;
    score.stderr_ = 0.005;
    score.parts = {{"blocked", blocked}};
    Record record = MadeUpRecord(method, "none", "kid", score);
    record.traits = {"mmd2", false, 0, 3, "quality", {"near"}, {}, BlockedPictures::kLeftOut};
    results.records.push_back(record);
  }
  const std::string table = Markdown(results);
  const std::string kept = table.substr(table.find("Is the rest kept"));
  INFO(kept);
  CHECK_THAT(RowOf(kept, "good"), !Contains("**") && Contains("0.000 ±0.010"));
  CHECK_THAT(RowOf(kept, "near"), Contains("**0.020**"));
  CHECK_THAT(kept, Contains("kid of good: 60 of 120 pictures were blocked and are left out"));
  CHECK_THAT(kept, !Contains("kid of near"));
}

TEST_CASE("blocked pictures that count as nothing are told, and keep their place in the ranking") {
  Results results = MadeUpResults();
  for (const auto& [method, blocked] : {std::pair{"good", 0.25}, std::pair{"near", 0.0}}) {
    Score score = MadeUpRate(120, 60);
    score.parts = {{"blocked", blocked}};
    Record record = MadeUpRecord(method, "none", "clip_score", score);
    record.traits = {"cosine_x100", true,     0,  1,
                     "retention",   {"near"}, {}, BlockedPictures::kNothing};
    results.records.push_back(record);
  }
  const std::string table = Markdown(results);
  INFO(table);
  CHECK_THAT(table, Contains("clip_score of good: 25 % of the pictures were blocked and count as "
                             "0") &&
                        !Contains("clip_score of near"));
}

TEST_CASE("pooled rates stand again with the interval over concepts, and each table says which") {
  Results results = MadeUpResults();
  CHECK_THAT(Markdown(results), !Contains("Would other concepts") &&
                                    Contains("Intervals cover other prompts, not other concepts"));
  for (Record& record : results.records) {
    if (record.subject == kAllConcepts) record.score.over_concepts = Interval{0.01, 0.99};
  }
  const std::string table = Markdown(results);
  const std::string over = table.substr(table.find("Would other concepts"));
  INFO(over);
  CHECK_THAT(over, Contains("95 % intervals over concepts, prompts and edits"));
  CHECK_THAT(RowOf(over, "good"), Contains(" 5 [1-99] |") && !Contains("**"));
  CHECK_THAT(RenderCsv(results), Contains(",0.01,0.99,"));
}

TEST_CASE("the caption names the rows of several edits, whose parts are clustered by prompt") {
  Results results = MadeUpResults();
  results.experiment["seeds"]["erase"] = {1, 2, 3};
  std::vector<Observation> observations;
  for (int i = 0; i < 40; ++i) {
    for (const char* edit : {"@1", "@2", "@3"}) {
      observations.push_back(
          {fmt::format("poodle/near/set@0/{:03}#0{}", i, edit), i < 20 ? 1.0 : 0.0});
    }
  }
  Record record = MadeUpRecord("good", "none", "retention", MeanScore(observations));
  record.traits = {"fraction", true, 0, 1, "retention", {"near", "far"}};
  record.score.parts = {{"near", 0.5}, {"near_n", 120}};
  record.denominators["edits"] = 3;
  results.records.push_back(record);
  std::string caption = Markdown(results);
  std::replace(caption.begin(), caption.end(), '\n', ' ');
  CHECK_THAT(caption,
             Contains("Erased 3 times, with the seeds [1,2,3], and pooled: good; the other "
                      "rows draw nothing"));
  // 20 of 40 prompts, whatever the edits: about [0.35, 0.65], and not 60 of 120's [0.41, 0.59].
  const auto pooled = EstimateOf(record, "near");
  REQUIRE(pooled);
  CHECK(pooled->low == Approx(0.35).margin(0.03));
  CHECK(pooled->high == Approx(0.65).margin(0.03));
  record.score.per_sample.clear();
  record.score.sample_ids.clear();
  CHECK(EstimateOf(record, "near")->low == Approx(0.3520).margin(1e-3));  // Wilson, 20 of 40
}

}  // namespace excise
