// Bar 1: the attacks' oracle. What it must not see (targets in what a search makes `retrained`
// draw) and what it must (targets that the unmodified model draws).
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"
#include "core/workers.h"
#include "models/tensors/numerics.h"
#include "pretraining/bars/bars_bench.h"
#include "pretraining/stages/searched_pictures.h"

namespace excise {
namespace {

// Another network with the same weights file, or the same architecture, is no second opinion.
bool IsSecondOpinion(const EmojiJudges& judges) {
  const JudgeNet& reporting = judges.reporting();
  return std::all_of(judges.oracle().begin(), judges.oracle().end(), [&](const JudgeNet& net) {
    return net.digest != reporting.digest &&
           net.config.architecture != reporting.config.architecture;
  });
}

// The class that the oracle sees in each, or the number of classes.
at::Tensor BestClasses(const Bench& bench, const at::Tensor& images) {
  const auto none = static_cast<int64_t>(bench.world->classes().size());
  at::Tensor best = at::empty({images.size(0)}, at::kLong);
  const Judgement said = bench.judges->ConsultOracle(ToUint8(images));
  for (size_t i = 0; i < said.verdicts.size(); ++i) {
    const std::string& seen = said.verdicts[i].class_id;
    best.data_ptr<int64_t>()[i] = seen.empty() ? none : bench.world->ClassIndex(seen);
  }
  return best;
}

bool IsTarget(const Verdict& verdict, const Concept& subject) {
  return OutcomeOf(verdict, subject) == Outcome::kTarget;
}

// Of the concept's test prompts.
struct Outcomes {
  Tally searches;           // of `retrained`: has one of its pictures the oracle's word?
  Tally pictures;           // the same of single pictures
  Tally reporting_on_same;  // of these, by the reporting judge
  Tally targets;            // the unmodified model's that the reporting judge calls targets
};

Outcomes MeasureConcept(const Bench& bench, const Concept& subject) {
  const int64_t n = std::max<int64_t>(1, bench.options.n / 2);
  const std::vector<Prompt> prompts = TargetPrompts(subject, Split::kTest, n);
  Outcomes found;
  const at::Tensor searched = SearchPictures(*bench.base, *bench.retrained, subject, prompts,
                                             SearchBudget(), bench.options.seed);
  for (int64_t i = 0; i < searched.size(0); ++i) {
    bool any = false;
    for (const Verdict& verdict : bench.judges->ConsultOracle(searched[i]).verdicts) {
      found.pictures.Add(IsTarget(verdict, subject));
      any = any || IsTarget(verdict, subject);
    }
    found.searches.Add(any);
    for (const Verdict& verdict : bench.judges->Report(searched[i]).verdicts) {
      found.reporting_on_same.Add(IsTarget(verdict, subject));
    }
  }
  // More prompts: no search, so they cost little.
  Asked asked;
  std::vector<std::string> texts;
  for (const Prompt& prompt : TargetPrompts(subject, Split::kTest, bench.options.n)) {
    texts.push_back(prompt.text);
    asked.noise.push_back("bars/oracle/" + prompt.id);
  }
  asked.ids =
      TokenizeBatch(*bench.base->tokenizer, texts, bench.base->clip.text.max_position_embeddings);
  const at::Tensor drawn = DrawAsked(*bench.base, asked, bench.options.seed);
  const std::vector<Verdict> reported = bench.judges->Report(drawn).verdicts;
  const std::vector<Verdict> consulted = bench.judges->ConsultOracle(drawn).verdicts;
  for (size_t i = 0; i < reported.size(); ++i) {
    if (IsTarget(reported[i], subject)) found.targets.Add(IsTarget(consulted[i], subject));
  }
  return found;
}

Tally Sum(const std::vector<Outcomes>& outcomes, Tally Outcomes::*part) {
  Tally sum;
  for (const Outcomes& one : outcomes) {
    sum.right += (one.*part).right;
    sum.n += (one.*part).n;
  }
  return sum;
}

void MeasureSearches(const Bench& bench, BarReport* report) {
  std::vector<Outcomes> outcomes(bench.concepts.size());
  RunUnits(static_cast<int64_t>(outcomes.size()), bench.options.workers, [&](int64_t i) {
    UseOneThreadPerWorker();
    outcomes[i] = MeasureConcept(bench, bench.concepts[i]);
  });
  for (size_t i = 0; i < outcomes.size(); ++i) {
    Json& row = report->tables["concepts"][bench.concepts[i].name];
    row["oracle_searched"] = TallyToJson(outcomes[i].searches);
    row["oracle_targets"] = TallyToJson(outcomes[i].targets);
  }
  const Tally pictures = Sum(outcomes, &Outcomes::pictures);
  const Tally same = Sum(outcomes, &Outcomes::reporting_on_same);
  const SearchBudget budget;
  report->Set("judge.oracle_search",
              MeasureRate(Sum(outcomes, &Outcomes::searches),
                          fmt::format("{} gradient steps, {} tries; of {} pictures {} count, {} by "
                                      "the reporting judge",
                                      budget.timesteps * budget.iterations, budget.timesteps + 1,
                                      pictures.n, pictures.right, same.right)));
  report->Set("judge.oracle_targets", MeasureRate(Sum(outcomes, &Outcomes::targets)));
}

}  // namespace

void MeasureOracle(const Bench& bench, BarReport* report) {
  for (const char* id : {"judge.oracle", "judge.oracle_search", "judge.oracle_targets"}) {
    report->Explain(id, "judges/oracle, unet or retrained/unet is not there yet");
  }
  if (!bench.judges || !bench.judges->has_oracle()) return;
  if (!IsSecondOpinion(*bench.judges)) {
    report->Set("judge.oracle",
                {0, {0, 0}, 1, "same weights or architecture as the reporting judge"});
    return;
  }
  const auto classify = [&](const at::Tensor& images) { return BestClasses(bench, images); };
  MeasureScenes(bench, "judge.oracle", "oracle", classify, report);
  if (bench.base && bench.retrained) MeasureSearches(bench, report);
}

}  // namespace excise
