// What papers print, as claims that are checked: arithmetic by computing it, values and orderings
// against committed results. results/checks/published/*.json; results/SCHEMA.md has the format.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/params.h"
#include "experiments/results/record.h"

namespace excise {

// Where a claim was read. A claim from memory is refused.
struct Citation : Parameterised {
  std::string paper, where;   // title; table, figure, file
  std::string arxiv, source;  // arXiv id; repository@commit
  std::string evidence;       // C: read in code or data, P: printed in the paper, S: quoted
  std::string quoted_by;      // for S: who quotes it
  void Fields(ParamVisitor& v) override;
};

// "76.05" percent of 142 is 108: some count gives the printed digits, rounded or cut. -1: no count
// does, so the number cannot be a rate over n.
struct CountFact : Parameterised {
  std::string printed, unit = "percent";
  int64_t n = 0, successes = 0;
  void Fields(ParamVisitor& v) override;
};

// Wilson's 95 % interval of successes / n, in percent as printed.
struct WilsonFact : Parameterised {
  int64_t successes = 0, n = 0;
  std::string low, high;
  void Fields(ParamVisitor& v) override;
};

// Fisher's exact test of two rates.
struct FisherFact : Parameterised {
  int64_t first_successes = 0, first_n = 0, second_successes = 0, second_n = 0;
  std::string p;
  void Fields(ParamVisitor& v) override;
};

// A file of prompts that users fetch themselves: its digest, its rows, and how many tokens CLIP's
// tokenizer makes of them, start and end apart. -1: nothing is claimed.
struct PromptFileFact : Parameterised {
  std::string file, sha256, column = "prompt";
  int64_t bytes = -1, rows = -1, shortest = -1, median = -1, longest = -1;
  int64_t limit = -1, over_limit = -1;  // rows of more than `limit` tokens
  void Fields(ParamVisitor& v) override;
};

// A printed value, for a record over all concepts. Reproduced: ours is within `band` of it.
struct ValueClaim : Parameterised {
  std::string method, attack = "none", metric, printed, unit = "percent";
  int64_t n = 0;    // samples behind the printed value; 0: not a rate over samples
  double band = 0;  // in the metric's unit (fractions, not percent)
  void Fields(ParamVisitor& v) override;
};

// One of two is lower than the other: methods under one attack, or attacks on one method.
struct OrderingClaim : Parameterised {
  std::string metric, part, over = "methods", given, lower, higher;
  void Fields(ParamVisitor& v) override;
};

struct Claim {
  std::string id, kind, says;  // kind: count | wilson | fisher | prompt_file | value | ordering
  std::string file;            // the name of the file that makes it
  Citation citation;
  CountFact count;
  WilsonFact wilson;
  FisherFact fisher;
  PromptFileFact prompt_file;
  ValueClaim value;
  OrderingClaim ordering;
  // What the paper measured with, for values and orderings: {"backbone": "sd14", "steps": 50, ...};
  // a key that differs from ours, or that ours lacks, makes another protocol.
  Json protocol = Json::object();
};

// All claims of FOLDER/*.json that name `table` or none. Strict: throws Error naming file and claim
// on unknown keys, missing citation, evidence [M], two claims of one id.
std::vector<Claim> LoadClaims(const std::filesystem::path& folder, const std::string& table);

struct ClaimOutcome {
  std::string id, kind, says, source;
  // Facts and values: reproduced | differs; values also other_protocol | underpowered | not_run.
  // Files that are not there: skipped. Orderings: holds | contradicted | inconclusive | not_run.
  std::string verdict;
  std::string detail;
  // A fact or a value of the same protocol that comes out otherwise. What a paper orders may turn
  // out otherwise here: that is a finding, not a failure.
  bool Failed() const { return verdict == "differs"; }
};

// An ordering is a contrast that was planned: it is judged by the pair's own test, adjusted (Holm)
// over the orderings of its file that the results can decide, and not over all pairs of the table.
// `results`: of the table; without records where there are none. `user_data`: where prompt files
// and CLIP's tokenizer are looked for, or empty.
std::vector<ClaimOutcome> CheckClaims(const std::vector<Claim>& claims, const Results& results,
                                      const std::filesystem::path& user_data);

// A Markdown list by kind, and how many of each verdict.
std::string RenderOutcomes(const std::vector<ClaimOutcome>& outcomes);

// Counts k of 0..n for which 100 k / n (or k / n) shows the printed digits, rounded or cut.
std::vector<int64_t> CountsThatPrint(const std::string& printed, const std::string& unit,
                                     int64_t n);

}  // namespace excise
