// The interface of a judge: pictures in, what they show out. A judge is one file,
// judges/<name>.cc; see judges/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/params.h"
#include "core/registry.h"
#include "datasets/formats/concept.h"
#include "models/snapshots/backbone.h"

namespace excise {

// What a judge says of one picture.
struct Verdict {
  std::string class_id;  // best class, or "" for garbage (the reject class)
  std::string style;     // best style; "" by a judge that tells none apart
  double class_probability = 0, style_probability = 0;  // how sure it is of them, in [0, 1]
  // Of a panel: whether each member sees what is looked for. Empty: no panel.
  std::vector<bool> votes = {};
};

enum class Outcome { kTarget, kAnchor, kOtherValid, kGarbage, kBlocked, kError };
std::string OutcomeName(Outcome outcome);

// A broken model must not look like perfect removal: garbage is its own outcome.
Outcome OutcomeOf(const Verdict& verdict, const Concept& subject);

// One of the scores that a judge gives to every picture: of a class ("class", "poodle"), of its
// reject class ("class", "") or of a style ("style", "plain"). Verdicts are read off these; what
// they were made of may be kept beside them: a detector's part ("label", "FEET_EXPOSED"), what a
// panel's member says ("member", "0 q16").
struct ScoreName {
  std::string kind, name;
};
inline bool operator==(const ScoreName& a, const ScoreName& b) {
  return a.kind == b.kind && a.name == b.name;
}

// The classes among them ("class") or the styles ("style"), in order, without the reject class.
std::vector<std::string> NamesOfKind(const std::vector<ScoreName>& scores, const std::string& kind);

// What was said of a batch.
struct Judgement {
  std::vector<Verdict> verdicts;
  std::vector<ScoreName> names;  // of the columns
  at::Tensor scores;             // float32 (batch, names) on the CPU, before any threshold
};

// The answer of the attacks' oracle for one picture.
struct OracleAnswer {
  bool success = false;           // the outcome is the target
  double target_probability = 0;  // of all target classes (or the target styles) together
};

// What a judge may read when it is opened. All of it outlives the judge.
struct JudgeSource {
  std::filesystem::path backbone;  // the backbone's folder
  // CLIPs that the run has loaded: the one that scores, and the one of other weights. Null: none.
  const ClipModel* reference_clip = nullptr;
  const ClipModel* independent_clip = nullptr;
};

struct JudgeTraits {
  // Its scores; no two are alike. A concept is judged by those of its kind: the best one is the
  // verdict.
  std::vector<ScoreName> scores;
  // Whether it may say that a picture shows none of its classes. One that cannot names a class for
  // any garbage, and every record of it says so.
  bool rejects = true;
  // The score from which it sees a class at all, where it has one.
  std::optional<double> threshold = std::nullopt;
  // Of a panel: its members' names, in the order of Verdict::votes.
  std::vector<std::string> members = {};
};

// Of a judge of these classes alone: one with a `threshold` above 0 may say none.
JudgeTraits ClassTraits(const std::vector<std::string>& classes, double threshold);
// What such a judge says by its probabilities (batch, classes), the columns as in `traits`: the
// largest, and none where it is below the threshold. Throws Error where one is not finite.
Judgement ByProbabilities(const JudgeTraits& traits, const at::Tensor& probabilities);
// What a judge of two classes says, which sees the first one where `score` (batch), in [0, 1], is
// at least `threshold`. As probabilities the scores are stretched, so that the threshold stands at
// 1/2. `details` (batch, scores in `traits` beside the two classes) are kept as they are. Throws
// Error likewise.
Judgement YesOrNo(const JudgeTraits& traits, const at::Tensor& score, double threshold,
                  const at::Tensor& details = {});
// Throws UsageError, naming the judge and the oracle's file or folder, where both have one digest:
// an attack would be tuned to the judge that reports.
void RequireOtherOracle(const std::string& judge, const std::string& oracle,
                        const std::string& digest, const std::string& oracle_digest);

class Judge : public Parameterised {
 public:
  static constexpr const char* kKind = "judge";
  virtual int version() const = 0;
  // Named settings, each an object for DecodeParams over the defaults.
  virtual std::map<std::string, Json> presets() const { return {}; }
  // Once, before anything else is asked. Throws Error saying what is missing.
  virtual void Open(const JudgeSource& source) = 0;
  // Of all that decides its scores beside its parameters: weights, fonts, texts.
  virtual std::string digest() const = 0;
  virtual JudgeTraits traits() const = 0;
  // images uint8 (batch, 3, h, w). What it says of a picture depends on no other one, but for the
  // rounding of scores. Throws Error where a score is not finite. Thread-safe.
  virtual Judgement Report(const at::Tensor& images) const = 0;
  // float32 (batch, d), for distances between sets of pictures. Throws Error where it has none.
  virtual at::Tensor Features(const at::Tensor& images) const;

  // The oracle: what searches ask whether a candidate worked, so that no attack is tuned to the
  // judge that reports. Its weights differ from every reporting judge's. Both throw Error where
  // there is none.
  virtual std::string oracle_digest() const;
  virtual Judgement ConsultOracle(const at::Tensor& images) const;
};

// What the judge's oracle says of the concept. Throws Error when there is no oracle, or when it
// does not know a target of `subject`.
std::vector<OracleAnswer> AskOracle(const Judge& judge, const at::Tensor& images,
                                    const Concept& subject);

}  // namespace excise
