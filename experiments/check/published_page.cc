#include "experiments/check/published_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/escape.h"
#include "core/plural.h"

namespace excise {
namespace {

using Outcomes = std::vector<const ClaimOutcome*>;

std::string Safe(const std::string& data) { return Escape(data, Format::kTerminal); }

bool IsFact(const ClaimOutcome& o) {
  const std::string& kind = o.claim.kind;
  return kind == "count" || kind == "wilson" || kind == "fisher" || kind == "prompt_file";
}

// A printed rate that no count of its samples gives.
bool IsImpossible(const ClaimOutcome& o) {
  return o.claim.kind == "count" && o.claim.count.successes < 0 && o.verdict == "reproduced";
}

std::string Source(const Citation& c) {
  return fmt::format("{} [{}{}]", c.where, c.evidence,
                     c.quoted_by.empty() ? "" : ": " + c.quoted_by);
}

std::string Line(const ClaimOutcome& o) {
  return Safe(fmt::format("- **{}** {}. Here: {}. ({})", o.verdict, o.claim.says, o.detail,
                          Source(o.claim.citation))) +
         "\n";
}

Outcomes Those(const std::vector<ClaimOutcome>& outcomes,
               const std::function<bool(const ClaimOutcome&)>& wanted) {
  Outcomes chosen;
  for (const ClaimOutcome& o : outcomes) {
    if (wanted(o)) chosen.push_back(&o);
  }
  return chosen;
}

std::string Section(const std::string& title, const std::string& intro, const Outcomes& outcomes) {
  if (outcomes.empty()) return "";
  std::string text = fmt::format("\n## {}\n\n{}\n\n", title, intro);
  for (const ClaimOutcome* o : outcomes) text += Line(*o);
  return text;
}

std::string Title(const Citation& c) {
  return Safe(c.arxiv.empty() ? c.paper : fmt::format("{} (arXiv {})", c.paper, c.arxiv));
}

std::string Counts(const std::vector<ClaimOutcome>& outcomes) {
  std::map<std::string, int64_t> verdicts;
  for (const ClaimOutcome& o : outcomes) ++verdicts[o.verdict];
  std::vector<std::string> counts;
  for (const auto& [verdict, count] : verdicts) {
    counts.push_back(fmt::format("{} {}", count, verdict));
  }
  return fmt::format("{}: {}.", Plural(static_cast<int64_t>(outcomes.size()), "claim"),
                     fmt::join(counts, ", "));
}

// The papers in the order of the claims; of each what was measured, and how its arithmetic comes
// out.
std::string ByPaper(const std::vector<ClaimOutcome>& outcomes) {
  std::vector<std::string> titles;
  std::map<std::string, Outcomes> of;
  for (const ClaimOutcome& o : outcomes) {
    if (!o.claim.registered.empty()) continue;
    const std::string title = Title(o.claim.citation);
    if (of.count(title) == 0) titles.push_back(title);
    of[title].push_back(&o);
  }
  std::string text = "\n## By paper\n";
  for (const std::string& title : titles) {
    text += fmt::format("\n### {}\n\n", title);
    int64_t facts = 0, reproduced = 0;
    for (const ClaimOutcome* o : of[title]) {
      if (IsFact(*o) && o->verdict == "reproduced") {
        ++reproduced;
      } else {
        text += Line(*o);
      }
      facts += IsFact(*o);
    }
    if (facts > 0) {
      text += fmt::format("- {} of {} follow from the counts that they name.\n", reproduced,
                          Plural(facts, "printed number"));
    }
  }
  return text;
}

// What a reader with the paper's model types. The sampler's settings are the claim's.
std::string Command(const Claim& claim) {
  std::string command = fmt::format("bazel run //experiments:{} -- --models=DIR --set backbone={}",
                                    claim.table, claim.protocol.value("backbone", "NAME"));
  for (const auto& [key, setting] : std::map<std::string, std::string>{
           {"sampler", "scheduler"}, {"steps", "steps"}, {"guidance", "guidance"}}) {
    if (!claim.protocol.contains(key)) continue;
    const Json& value = claim.protocol[key];
    command += fmt::format(" --set sampler.{}={}", setting,
                           value.is_string() ? value.get<std::string>() : value.dump());
  }
  const auto rows = [&](std::set<std::string> methods, std::set<std::string> attacks) {
    methods.insert("none");
    attacks.insert("none");
    command +=
        fmt::format(" --methods={} --attacks={}", fmt::join(methods, ","), fmt::join(attacks, ","));
  };
  if (claim.kind == "value") rows({claim.value.method}, {claim.value.attack});
  if (claim.kind == "recovery") rows({claim.recovery.method, "retrained"}, {claim.recovery.attack});
  if (claim.kind == "ordering") {
    const OrderingClaim& o = claim.ordering;
    const bool methods = o.over == "methods";
    rows(methods ? std::set<std::string>{o.lower, o.higher} : std::set<std::string>{o.given},
         methods ? std::set<std::string>{o.given} : std::set<std::string>{o.lower, o.higher});
  }
  if (claim.protocol.contains("dataset") && claim.protocol["dataset"] != "emoji_prompts") {
    command += " --set prompts.dataset=prompts_csv --set prompts.params.file=FILE";
  }
  if (claim.kind == "value" && !claim.value.concept_name.empty()) {
    command += fmt::format(" --concepts_dir=DIR --concepts={}", claim.value.concept_name);
  }
  return command + " --out=mine.json";
}

std::string Open(const std::vector<ClaimOutcome>& outcomes) {
  std::map<std::string, std::vector<std::string>> by_command;
  std::vector<std::string> files, open;
  for (const ClaimOutcome& o : outcomes) {
    if (o.Decided()) continue;
    if (o.verdict == "skipped") {
      files.push_back(o.claim.prompt_file.file);
    } else if (o.claim.protocol.value("backbone", "emoji") == "emoji") {
      open.push_back(o.claim.id);
    } else {
      by_command[Command(o.claim)].push_back(o.claim.id);
    }
  }
  std::string text = "\n## What is open, and how to decide it\n";
  if (!files.empty()) {
    text += fmt::format(
        "\nFiles of prompts that you fetch yourself ({}):\n\n"
        "    bazel run //experiments:table1 -- --check=published --user_data=DIR\n",
        Safe(fmt::format("{}", fmt::join(files, ", "))));
  }
  if (!open.empty()) {
    text += fmt::format(
        "\nMore prompts of the embedded model's own table, or a method that is not here yet: {}.\n",
        Safe(fmt::format("{}", fmt::join(open, ", "))));
  }
  if (by_command.empty()) return text;
  text +=
      "\nWith the paper's own model, judge and prompts on your disk, each command below makes a "
      "results file, and the same table with `--check=published --results=mine.json` reads it "
      "in the\nplace of the committed one.\n\n";
  for (const auto& [command, ids] : by_command) {
    text += Safe(fmt::format("- {}", fmt::join(ids, ", "))) + "\n\n      " + Safe(command) + "\n";
  }
  return text;
}

}  // namespace

std::string RenderPublished(const std::vector<ClaimOutcome>& outcomes) {
  std::string text =
      "# Published numbers, held to what can be computed\n\n"
      "Printed by `bazel run //experiments:table1 -- --check=published` from the claims in\n"
      "`results/checks/published` and the committed results; nothing is run. Each claim has its "
      "source:\nC read in code or data, P printed in the paper, S quoted by another.\n\n" +
      Counts(outcomes) + "\n";
  text += Section("Numbers that cannot be as printed",
                  "A rate over n prompts is a count of them, divided by n. These are none.",
                  Those(outcomes, IsImpossible));
  text += Section("Sources that contradict each other", "One claim, printed with several values.",
                  Those(outcomes, [](const ClaimOutcome& o) {
                    return o.claim.kind == "value" && o.claim.value.values.size() > 1;
                  }));
  const Outcomes registered =
      Those(outcomes, [](const ClaimOutcome& o) { return !o.claim.registered.empty(); });
  if (!registered.empty()) {
    text += Section(
        "What was registered before it was run",
        fmt::format("Written into the repository on {}, before the run that decides it. The "
                    "attacks had been tried before, with other settings and on few "
                    "prompts.",
                    registered.front()->claim.registered),
        registered);
  }
  return text + ByPaper(outcomes) + Open(outcomes);
}

}  // namespace excise
