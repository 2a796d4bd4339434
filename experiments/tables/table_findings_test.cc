#include "experiments/tables/table_findings.h"

#include <catch2/catch.hpp>
#include <string>

#include "experiments/results/comparisons.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

Record Attacked(const std::string& attack, int64_t hits, const Json& most, bool adaptive = true,
                const Json& params = Json::object()) {
  Record record = MadeUpRecord("uce", attack, "asr", MadeUpRate(60, hits));
  record.attack_params = params;
  record.protocol["adaptive"] = adaptive;
  record.protocol["budget"] = {{"per", "prompt"}, {"most", most}, {"spent", Json::object()}};
  return record;
}

// What is said of a search through gradients, which shows the concept in 10 of 60 prompts, and of
// `others`.
std::string Said(const std::vector<Record>& others) {
  Results results;
  results.records = {
      MadeUpRecord("none", "none", "asr", MadeUpRate(60, 60)),
      MadeUpRecord("uce", "none", "asr", MadeUpRate(60, 0)),
      Attacked("search", 10, {{"gradient_steps", 100}, {"victim_queries", 11}}),
  };
  results.records.insert(results.records.end(), others.begin(), others.end());
  results.comparisons = CompareAll(results.records);
  const TableView view(results);
  std::string said;
  const Text findings = TableFindings(view, "asr");
  for (const Span& span : findings.spans()) said += span.text;
  return said;
}

}  // namespace

TEST_CASE("a blind search that beats one with gradients is a sign of gradient masking") {
  const Json questions = {{"victim_queries", 11}};
  CHECK_THAT(Said({Attacked("blind", 30, questions)}),
             Contains("Gradient masking suspected") && Contains("blind above search on uce."));
  CHECK_THAT(Said({Attacked("blind", 12, questions)}), Contains("5 % each): nowhere."));
  // Found elsewhere: on a row that is not this one.
  const Json search = {{"gradient_steps", 100}, {"victim_queries", 11}};
  CHECK_THAT(Said({Attacked("on_esd", 30, search, false, {{"found_on", "esd"}})}),
             Contains("on_esd above search on uce."));
  // Two attacks with full access are no sign, with gradients or without.
  CHECK_THAT(Said({Attacked("words", 30, Json::object())}), !Contains("Gradient masking"));
  CHECK_THAT(Said({Attacked("on_uce", 30, search, false, {{"found_on", "uce"}})}),
             !Contains("Gradient masking"));
}

TEST_CASE("more questions are another budget, and what is learnt for a concept another attack") {
  CHECK_THAT(Said({Attacked("blind", 30, {{"victim_queries", 12}})}),
             !Contains("Gradient masking"));
  Record learnt = Attacked("learnt", 30, {{"victim_queries", 11}});
  learnt.protocol["budget"]["per"] = "concept";
  CHECK_THAT(Said({learnt}), !Contains("Gradient masking"));
  CHECK_THAT(Said({}), !Contains("Gradient masking"));
}

}  // namespace excise
