// What: adversarial prompts that were made elsewhere, from a CSV or JSONL file
// Paper: none; reads the lists that attacks publish (Ring-A-Bell, P4D, MMA-Diffusion, ...)
// Equation: trajectory(p) = the file's rows that belong to the seed prompt p, in their order
// Reference: none
// Deviations: rows that mention minors are left out, as are empty ones and repetitions
// Needs: a file; the prompt in adv_prompt, adversarial_prompt or prompt; and what ties a row to its
//   seed: its id in root_id, seed_id or prompt_id, its text in seed_prompt or target_prompt, or the
//   end of its id in row, case_number or case_num; where there is a column concept it must fit too
// Caveats: the last row of a seed is the attack's choice; seeds without rows are not attacked, and
//   results say how many; what the attack spent to find its prompts is not known here
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/progress.h"
#include "datasets/formats/user_prompts.h"

namespace excise {
namespace {

const std::vector<FieldNames> kFields = {
    {"prompt", {"adv_prompt", "adversarial_prompt", "prompt"}},
    {"root_id", {"root_id", "seed_id", "prompt_id"}},
    {"seed_prompt", {"seed_prompt", "target_prompt", "original_prompt"}},
    {"row", {"row", "case_number", "case_num"}},
    {"concept", {"concept"}},
    {"score", {"score"}}};
// What ties a row to its seed: the first of these that the file has.
constexpr const char* kTies[] = {"root_id", "seed_prompt", "row"};

constexpr const char* kNoCandidate = "excluded:no_candidate";

struct Found {
  std::string subject, text;  // subject "" = any
  double score = 0;
};

struct Loaded {
  std::string tie;
  std::map<std::string, std::vector<Found>> by_seed;
  std::set<std::string> minors;  // seeds of whose rows some mention minors
};

double Number(const UserTable& table, const FileRow& row) {
  const auto text = table.Get(row, "score");
  if (!text) return 0;
  try {
    size_t used = 0;
    const double value = std::stod(*text, &used);
    if (used == text->size() && value - value == 0) return value;
  } catch (const std::exception&) {
  }
  throw UsageError(fmt::format("{}: score '{}' is no finite number.", table.Where(row), *text));
}

class PromptFile : public Attack {
 public:
  void Fields(ParamVisitor& v) override { file_.Fields(v); }
  int version() const override { return 2; }  // the filter for minors reads through obfuscation
  AttackTraits traits() const override { return {}; }
  std::vector<std::string> needs_one_of() const override { return {"file"}; }

  std::string Excludes(const Backbone&, const Concept& subject, const Prompt& seed) const override {
    if (!Rows(subject, seed).empty()) return "";
    return File().minors.count(KeyOf(seed)) != 0 ? kMinor : kNoCandidate;
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Trajectory trajectory;
    for (const Found* found : Rows(subject, seed)) {
      Candidate candidate;
      const auto index = static_cast<int64_t>(trajectory.size());
      candidate.prompt = AdversarialPrompt(seed, "prompt_file", index, found->text);
      candidate.score = found->score;
      ++target.ledger().candidate_evaluations;
      candidate.ledger = target.ledger();
      trajectory.push_back(std::move(candidate));
    }
    return trajectory;
  }

 private:
  const Loaded& File() const {
    std::call_once(once_, [this] { loaded_ = Load(); });
    return loaded_;
  }

  Loaded Load() const {
    const UserTable table(file_, kFields, "prompt", "prompt_file");
    Loaded loaded;
    for (const char* tie : kTies) {
      if (loaded.tie.empty() && table.Has(tie)) loaded.tie = tie;
    }
    if (loaded.tie.empty()) {
      throw UsageError(
          fmt::format("{}: nothing says which seed prompt a row belongs to. Add a column "
                      "prompt_id, seed_prompt "
                      "or row (--export_prompts=FILE.csv lists the seeds). Prompts that stand for "
                      "themselves are "
                      "a data set: --set prompts.dataset=prompts_csv.",
                      table.path()));
    }
    std::set<std::vector<std::string>> seen;
    Progress progress("prompt_file", static_cast<int64_t>(table.rows().size()), "rows");
    for (const FileRow& row : table.rows()) {
      if (InterruptRequested()) throw Interrupted{};
      progress.Advance();
      const auto seed = table.Get(row, loaded.tie);
      if (!seed) {
        throw UsageError(fmt::format("{}: the field '{}' is empty, so the row belongs to no seed.",
                                     table.Where(row), loaded.tie));
      }
      const std::string text = table.Get(row, "prompt").value_or("");
      const std::string reason = ReasonToExclude(text);
      if (reason == kMinor) loaded.minors.insert(*seed);
      const std::string subject = ConceptKey(table.Get(row, "concept").value_or(""));
      if (!reason.empty() || !seen.insert({*seed, subject, text}).second) continue;
      loaded.by_seed[*seed].push_back({subject, text, Number(table, row)});
    }
    return loaded;
  }

  // How the file names the seed.
  std::string KeyOf(const Prompt& seed) const {
    const std::string& id = seed.root_id.empty() ? seed.id : seed.root_id;
    if (File().tie == "root_id") return id;
    if (File().tie == "seed_prompt") return seed.text;
    return id.substr(id.rfind('/') + 1);
  }

  std::vector<const Found*> Rows(const Concept& subject, const Prompt& seed) const {
    std::vector<const Found*> rows;
    const auto found = File().by_seed.find(KeyOf(seed));
    if (found == File().by_seed.end()) return rows;
    for (const Found& one : found->second) {
      if (one.subject.empty() || one.subject == subject.name) rows.push_back(&one);
    }
    return rows;
  }

  UserFile file_;
  mutable std::once_flag once_;
  mutable Loaded loaded_;
};

const Registration<Attack, PromptFile> registration;

}  // namespace
}  // namespace excise
