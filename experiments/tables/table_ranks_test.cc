#include "experiments/tables/table_ranks.h"

#include <catch2/catch.hpp>

#include "experiments/tables/render.h"

namespace excise {
namespace {

using Catch::Contains;

TEST_CASE("ranks as a document") {
  Ranks ranks;
  ranks.attack = "union";
  ranks.runs = {{1, 3}, {2, 3}, {1, 5}};
  ranks.concepts = {"poodle", "car"};
  ranks.methods = {"esd", "uce"};
  ranks.left_out = {{"sld", "it has no removal or no retention of car in some run"}};
  ranks.metrics = {{"removal",
                    {{.905, 1.25, {1, 1.5}}, {.5, 1.75, {1.5, 2}}},
                    {3, .333, {-.5, 1}},
                    {1, 1, {1, 1}},
                    {}}};
  const std::string text = RenderText(DescribeRanks(ranks), 140);
  CHECK_THAT(text, Contains("2 methods by 2 concepts in 3 runs: 2 erase seeds, 2 guidance scales"));
  CHECK_THAT(text, Contains("attack union"));
  CHECK_THAT(text, Contains("1.2 [1.0-1.5]"));
  CHECK_THAT(text, Contains("0.33 [-0.50, 1.00]"));
  CHECK_THAT(text, Contains("Left out: sld, for it has no removal"));
  // No pair of runs differs in guidance alone.
  const Document document = DescribeRanks(ranks);
  CHECK(document.tables[1].columns[2].cells[0].value == "-");
  CHECK(document.tables[1].columns[2].cells[0].low.empty());
  CHECK_THAT(RenderMarkdown(document), Contains("| esd "));
}

}  // namespace
}  // namespace excise
