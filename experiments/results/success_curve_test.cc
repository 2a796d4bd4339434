#include "experiments/results/success_curve.h"

#include <catch2/catch.hpp>

namespace excise {
namespace {

Row MakeRow(const std::string& method, const std::string& root, const std::string& attack,
            bool success) {
  Row row;
  row.method = method;
  row.subject = "poodle";
  row.attack = attack;
  row.group = "target";
  row.root_id = root;
  row.outcome = success ? "target" : "anchor";
  return row;
}

// The same expectation by trying every order of four pictures.
double ByEnumeration(const std::vector<bool>& successes, size_t q) {
  int hits = 0, sets = 0;
  for (unsigned set = 0; set < 1u << successes.size(); ++set) {
    size_t members = 0;
    bool hit = false;
    for (size_t i = 0; i < successes.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      ++members;
      hit = hit || successes[i];
    }
    if (members != q) continue;
    ++sets;
    hits += hit;
  }
  return static_cast<double>(hits) / sets;
}

}  // namespace

TEST_CASE("success within q pictures is the expectation over all choices of q") {
  const std::vector<std::vector<bool>> prompts = {{true, false, false, true},
                                                  {false, false, false, false},
                                                  {true, true, true, true},
                                                  {false, true, false, false}};
  std::vector<Row> rows;
  for (size_t p = 0; p < prompts.size(); ++p) {
    for (size_t a = 0; a < 4; ++a) {
      rows.push_back(MakeRow("m", "p" + std::to_string(p), "a" + std::to_string(a), prompts[p][a]));
    }
  }
  Row kept = MakeRow("m", "p9", "none", true);
  kept.group = "near";
  rows.push_back(kept);  // what must stay is no success of an attack
  const std::vector<SuccessCurve> curves = SuccessByBudget(rows);
  REQUIRE(curves.size() == 1);
  REQUIRE(curves[0].points.size() == 4);
  for (size_t q = 1; q <= 4; ++q) {
    double expected = 0;
    for (const std::vector<bool>& prompt : prompts) expected += ByEnumeration(prompt, q) / 4;
    CHECK(curves[0].points[q - 1].first == static_cast<double>(q));
    CHECK(curves[0].points[q - 1].second == Approx(expected).margin(1e-12));
  }
  // With all pictures: the share of prompts that any attack succeeds on.
  CHECK(curves[0].points[3].second == Approx(0.75));
}

TEST_CASE("a method with a picture that is missing has no curve") {
  std::vector<Row> rows = {MakeRow("a", "p", "x", true), MakeRow("b", "p", "x", true),
                           MakeRow("b", "p", "y", true)};
  rows[2].outcome = "error";
  const std::vector<SuccessCurve> curves = SuccessByBudget(rows);
  REQUIRE(curves.size() == 1);
  CHECK(curves[0].method == "a");
}

TEST_CASE("methods keep their order, and prompts with fewer pictures use all they have") {
  const std::vector<Row> rows = {MakeRow("b", "p", "x", true), MakeRow("a", "p", "x", false),
                                 MakeRow("a", "p", "y", true), MakeRow("a", "q", "x", true)};
  const std::vector<SuccessCurve> curves = SuccessByBudget(rows);
  REQUIRE(curves.size() == 2);
  CHECK(curves[0].method == "b");
  CHECK(curves[0].points.back().second == 1);
  CHECK(curves[1].points[0].second == Approx(0.75));
  CHECK(curves[1].points[1].second == Approx(1));
  CHECK(SuccessByBudget({}).empty());
}

TEST_CASE("pictures of two edits are no two tries against one model") {
  std::vector<Row> rows = {MakeRow("esd", "p", "none", true), MakeRow("esd", "p", "none", false)};
  rows[0].erase_seed = 1;
  rows[1].erase_seed = 2;
  const std::vector<SuccessCurve> curves = SuccessByBudget(rows);
  REQUIRE(curves.size() == 1);
  REQUIRE(curves[0].points.size() == 1);
  CHECK(curves[0].points[0].second == Approx(0.5));
}

}  // namespace excise
