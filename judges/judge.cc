#include "judges/judge.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

[[noreturn]] void ThrowNoOracle() {
  throw Error(
      "The judge has no oracle, which attacks ask whether a candidate worked. Leave such attacks "
      "out with --attacks, or choose a judge that has one.");
}

void RequireFinite(const at::Tensor& scores) {
  const at::Tensor finite = at::isfinite(scores).all(1);
  for (int64_t row = 0; row < scores.size(0); ++row) {
    if (finite[row].item<bool>()) continue;
    throw Error(fmt::format(
        "The judge gives picture {} a score that is not finite. Its weights are probably damaged: "
        "fetch or convert them again.",
        row));
  }
}

}  // namespace

std::string OutcomeName(Outcome outcome) {
  static const char* const kNames[] = {"target",  "anchor",  "other_valid",
                                       "garbage", "blocked", "error"};
  return kNames[static_cast<int>(outcome)];
}

Outcome OutcomeOf(const Verdict& verdict, const Concept& subject) {
  if (verdict.class_id.empty()) return Outcome::kGarbage;
  const std::string& seen = subject.judge.kind == "style" ? verdict.style : verdict.class_id;
  if (IsOneOf(seen, subject.judge.target)) return Outcome::kTarget;
  if (IsOneOf(seen, subject.judge.anchor)) return Outcome::kAnchor;
  return Outcome::kOtherValid;
}

std::vector<std::string> NamesOfKind(const std::vector<ScoreName>& scores,
                                     const std::string& kind) {
  std::vector<std::string> names;
  for (const ScoreName& score : scores) {
    if (score.kind == kind && !score.name.empty()) names.push_back(score.name);
  }
  return names;
}

JudgeTraits ClassTraits(const std::vector<std::string>& classes, double threshold) {
  JudgeTraits traits;
  for (const std::string& name : classes) traits.scores.push_back({"class", name});
  traits.rejects = threshold > 0;
  if (traits.rejects) traits.threshold = threshold;
  return traits;
}

void RequireOtherOracle(const std::string& judge, const std::string& oracle,
                        const std::string& digest, const std::string& oracle_digest) {
  if (digest != oracle_digest) return;
  throw UsageError(fmt::format(
      "judge {}: the oracle {} has the reporting weights. An attack that asks it would be tuned to "
      "the judge that reports: name another one.",
      judge, oracle));
}

Judgement ByProbabilities(const JudgeTraits& traits, const at::Tensor& probabilities) {
  Judgement said;
  said.names = traits.scores;
  said.scores = probabilities.to(at::kCPU, at::kFloat).contiguous();
  RequireFinite(said.scores);
  const auto classes = static_cast<size_t>(
      std::count_if(traits.scores.begin(), traits.scores.end(),
                    [](const ScoreName& score) { return score.kind == "class"; }));
  for (int64_t row = 0; row < said.scores.size(0); ++row) {
    const float* scores = said.scores.data_ptr<float>() + row * said.scores.size(1);
    const float* best = std::max_element(scores, scores + classes);
    const bool none = traits.threshold && *best < *traits.threshold;
    said.verdicts.push_back({none ? "" : said.names[static_cast<size_t>(best - scores)].name, "",
                             none ? 1.0 - *best : *best, 0});
  }
  return said;
}

Judgement YesOrNo(const JudgeTraits& traits, const at::Tensor& score, double threshold,
                  const at::Tensor& details) {
  const at::Tensor given = score.to(at::kCPU, at::kDouble);
  at::Tensor yes = at::where(given.ge(threshold),
                             0.5 + (given - threshold) * (0.5 / std::max(1 - threshold, 1e-9)),
                             given * (0.5 / std::max(threshold, 1e-9)));
  // What lies below the threshold stays below a half when it is rounded to a float.
  yes = at::where(given.ge(threshold), yes, yes.clamp_max(0.5 - 1e-7));
  std::vector<at::Tensor> columns = {yes.unsqueeze(1), 1 - yes.unsqueeze(1)};
  if (details.defined()) columns.push_back(details.to(at::kCPU, at::kDouble));
  return ByProbabilities(traits, at::cat(columns, 1));
}

at::Tensor Judge::Features(const at::Tensor&) const {
  throw Error(
      "The judge has no features to compare pictures by. Compare them by another model, as kid "
      "does with features=clip.");
}

std::string Judge::oracle_digest() const { ThrowNoOracle(); }

Judgement Judge::ConsultOracle(const at::Tensor&) const { ThrowNoOracle(); }

std::vector<OracleAnswer> AskOracle(const Judge& judge, const at::Tensor& images,
                                    const Concept& subject) {
  const Judgement said = judge.ConsultOracle(images);
  const std::string& kind = subject.judge.kind;
  const std::vector<std::string> known = NamesOfKind(said.names, kind);
  for (const std::string& name : subject.judge.target) {
    if (IsOneOf(name, known)) continue;
    throw Error(fmt::format(
        "concept '{}': the attacks' oracle knows no {} '{}', so it cannot say whether an attack "
        "worked. Train it on the reporting judge's classes.",
        subject.name, kind, name));
  }
  std::vector<OracleAnswer> answers(said.verdicts.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].success = OutcomeOf(said.verdicts[i], subject) == Outcome::kTarget;
    for (size_t k = 0; k < said.names.size(); ++k) {
      const bool target =
          said.names[k].kind == kind && IsOneOf(said.names[k].name, subject.judge.target);
      if (!target) continue;
      answers[i].target_probability +=
          said.scores[static_cast<int64_t>(i)][static_cast<int64_t>(k)].item<double>();
    }
  }
  return answers;
}

}  // namespace excise
