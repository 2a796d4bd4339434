#include "experiments/tables/table_filters.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// "good" has a filter; CLIP accuracy of it and of `retrained`, with an attack or without.
Results WithFilter(bool filter) {
  Results results = MadeUpResults();
  results.experiment["reference_rows"] = {"none", "retrained"};
  const auto add = [&](const std::string& method, const std::string& attack,
                       const std::string& metric, int64_t hits) {
    results.records.push_back(MadeUpRecord(method, attack, metric, MadeUpRate(120, hits)));
    if (method == "retrained") results.records.back().uses = {"training_data"};
    if (metric == "filter_fnr") results.records.back().traits.group = "filter";
  };
  if (filter) add("good", "none", "filter_fnr", 6);
  for (const std::string attack : {"none", "pez"}) {
    add("retrained", attack, "clip_accuracy", 96);
    add("good", attack, "clip_accuracy", 3);
  }
  return results;
}

}  // namespace

TEST_CASE("beside filters CLIP accuracy is shown by attack, with what it says of the naive row") {
  const Results results = WithFilter(true);
  const std::vector<FilterSection> sections = FilterSections(TableView(results));
  REQUIRE(sections.size() == 2);
  CHECK(sections[0].name == "filter_fnr");
  CHECK(sections[1].name == "clip_accuracy_by_attack");
  REQUIRE(sections[1].columns.size() == 2);
  CHECK(sections[1].columns[0].attack == "none");
  CHECK(sections[1].columns[1].attack == "pez");
  CHECK_THAT(sections[1].intro, Contains("It says 80 % of retrained"));
}

TEST_CASE("without a filter there is no such section") {
  const Results results = WithFilter(false);
  CHECK(FilterSections(TableView(results)).empty());
}

}  // namespace excise
