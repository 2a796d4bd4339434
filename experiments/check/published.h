// What papers print, as claims that are checked: arithmetic by computing it, values and orderings
// against committed results. results/checks/published/*.json; results/SCHEMA.md has the format.
#pragma once

#include <filesystem>
#include <map>
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

// One printing of a value, by whoever printed it.
struct Printing : Parameterised {
  std::string printed;
  int64_t n = 0;  // samples behind it; 0: not known, or not a rate over samples
  Citation citation;
  void Fields(ParamVisitor& v) override;  // without the citation
};

// A value that one source prints, or several print differently, for a record of one concept.
struct ValueClaim : Parameterised {
  std::string method, attack = "none", metric, unit = "percent";
  std::string concept_name;  // whose record; "": the one over all concepts
  // What the pictures were drawn on: "fresh", noise that no search saw, or "searched" (which is
  // `asr_search`); "" for what is no success of an attack.
  std::string noise;
  std::string budget;  // of the attack, in words
  double band = 0.05;  // the least margin, in the metric's unit (fractions, not percent)
  std::vector<Printing> values;
  void Fields(ParamVisitor& v) override;  // without the values
};

// An attack brings back what the edited model hides, more than on the floor: see
// experiments/results/recovery.h.
struct RecoveryClaim : Parameterised {
  std::string method, attack;
  void Fields(ParamVisitor& v) override;
};

// One of two is lower than the other: methods under one attack, or attacks on one method.
struct OrderingClaim : Parameterised {
  std::string metric, part, over = "methods", given, lower, higher;
  void Fields(ParamVisitor& v) override;
};

struct Claim {
  // kind: count | wilson | fisher | prompt_file | value | ordering | recovery
  std::string id, kind, says;
  std::string file;        // of the claim: tests of one file are adjusted for each other
  std::string table;       // whose results decide it, or ""
  std::string registered;  // the day on which it was written down, where that was before the run
  Citation citation;
  CountFact count;
  WilsonFact wilson;
  FisherFact fisher;
  PromptFileFact prompt_file;
  ValueClaim value;
  OrderingClaim ordering;
  RecoveryClaim recovery;
  // What the paper measured with, for what is measured: {"backbone": "sd14", "steps": 50, ...};
  // a key that differs from ours, or that ours lacks, makes another protocol.
  Json protocol = Json::object();
};

// All claims of FOLDER/*.json. Strict: throws Error naming file and claim on unknown keys, missing
// citation, evidence [M], two claims of one id.
std::vector<Claim> LoadClaims(const std::filesystem::path& folder);

struct ClaimOutcome {
  Claim claim;
  // Facts and values: reproduced | differs; values also other_protocol | underpowered | not_run.
  // Files that are not there: skipped. Orderings and recoveries: holds | contradicted |
  // inconclusive | not_run.
  std::string verdict;
  std::string detail;
  // A fact or a value of the same protocol that comes out otherwise. What a paper orders may turn
  // out otherwise here: that is a finding, not a failure.
  bool Failed() const { return verdict == "differs"; }
  bool Decided() const;
};

// `results` by table: what is committed of each. Those that are not there: their claims are
// not_run. `user_data`: where prompt files and CLIP's tokenizer are looked for, or empty.
std::vector<ClaimOutcome> CheckClaims(const std::vector<Claim>& claims,
                                      const std::map<std::string, Results>& results,
                                      const std::filesystem::path& user_data);

// How far two runs of the protocol behind a printed rate may lie apart: the 95 % half width of the
// difference of two samples of its own size, 1.96 sqrt(2 p (1 - p) / n), with p kept at least one
// sample away from 0 and 1.
double SamplingBand(double rate, int64_t n);

// Counts k of 0..n for which 100 k / n (or k / n) shows the printed digits, rounded or cut.
std::vector<int64_t> CountsThatPrint(const std::string& printed, const std::string& unit,
                                     int64_t n);

}  // namespace excise
