#include "experiments/lab/judges.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "experiments/lab/lab.h"

namespace excise {
namespace {

constexpr const char* kEmbeddedJudge = "emoji";

// The first few of a list that may have thousands.
std::string SomeOf(const std::vector<std::string>& names) {
  const size_t shown = std::min<size_t>(names.size(), 3);
  return fmt::format("{}", fmt::join(names.begin(), names.begin() + shown, ", "));
}

// What a judge can see of one kind.
struct Sight {
  std::string judge, kind;
  std::vector<std::string> known;
};

Sight SightOf(const Entry<Judge>& judge, const std::string& kind) {
  return {judge.plugin_name, kind, NamesOfKind(judge.plugin->traits().scores, kind)};
}

void RequireSeen(const Sight& sight, const std::string& name, const std::string& where) {
  if (IsOneOf(name, sight.known)) return;
  const std::string many = sight.kind == "class" ? "classes" : sight.kind + "s";
  const std::string what =
      sight.known.empty()
          ? "tells no " + many + " apart"
          : fmt::format("knows {} {}, as {}", sight.known.size(),
                        sight.known.size() == 1 ? sight.kind : many, SomeOf(sight.known));
  throw UsageError(fmt::format(
      "{}: '{}' is nothing that the judge can see.{} The judge '{}' {}. Name what it knows, or a "
      "judge that knows more (\"plugin\" in the concept's \"judge\").",
      where, name, DidYouMean(name, sight.known), sight.judge, what));
}

void RequireOneJudge(const Lab& lab) {
  if (lab.judges.size() < 2) return;
  std::vector<std::string> names;
  for (const Entry<Judge>& judge : lab.judges) names.push_back(judge.name);
  for (const Entry<Metric>& metric : lab.metrics) {
    if (!IsOneOf("judge", metric.plugin->traits().models)) continue;
    throw UsageError(fmt::format(
        "metric '{}' compares pictures by the judge's features, and the concepts have several "
        "judges ({}), whose features are not comparable. Leave it out with --metrics, let it read "
        "another model, or run the concepts apart.",
        metric.name, fmt::join(names, ", ")));
  }
}

// The judges of these concepts, each once.
std::vector<const Entry<Judge>*> JudgesOf(const Lab& lab, const std::vector<size_t>& subjects) {
  std::vector<const Entry<Judge>*> judges;
  for (const size_t subject : subjects) {
    const Entry<Judge>* judge = &lab.JudgeOf(subject);
    if (std::find(judges.begin(), judges.end(), judge) == judges.end()) judges.push_back(judge);
  }
  return judges;
}

// One digest as it is, of several the digest of their list.
std::string Together(const std::vector<std::string>& digests) {
  return digests.size() == 1 ? digests[0] : Sha256Hex(CanonicalJson(Json(digests)));
}

}  // namespace

JudgeChoice JudgeOfConcept(const Experiment& experiment, const Concept& subject) {
  if (!experiment.judge.plugin.empty()) return experiment.judge;
  if (!subject.judge.plugin.empty()) return {subject.judge.plugin, subject.judge.params};
  return {kEmbeddedJudge, Json::object()};
}

std::string JudgeName(const JudgeChoice& choice) {
  if (choice.params.empty()) return choice.plugin;
  return choice.plugin + " " + CanonicalJson(choice.params);
}

void OpenJudges(Lab* lab) {
  const auto given = [](const ClipModel& clip) {
    return clip.weights.size() == 0 ? nullptr : &clip;
  };
  const JudgeSource source{lab->backbone.folder, given(lab->reference_clip),
                           given(lab->independent_clip)};
  for (const Concept& subject : lab->concepts) {
    const JudgeChoice choice = JudgeOfConcept(lab->experiment, subject);
    const std::string name = JudgeName(choice);
    const bool open = std::any_of(lab->judges.begin(), lab->judges.end(),
                                  [&](const Entry<Judge>& judge) { return judge.name == name; });
    if (open) continue;
    std::unique_ptr<Judge> plugin = Registry<Judge>::Get().Make(choice.plugin);
    DecodeParams(choice.params, *plugin,
                 fmt::format("concept '{}', judge '{}'", subject.name, choice.plugin));
    if (const std::string missing = MissingSetting(*plugin); !missing.empty()) {
      throw UsageError(
          fmt::format("concept '{}': the judge '{}' cannot be used: {}. Set it in its \"params\".",
                      subject.name, choice.plugin, missing));
    }
    plugin->Open(source);
    lab->judges.push_back(MakeEntry<Judge>(name, choice.plugin, std::move(plugin), &lab->inputs));
  }
  for (size_t i = 0; i < lab->concepts.size(); ++i) {
    const Concept& subject = lab->concepts[i];
    const std::string where = fmt::format("concept '{}', judge", subject.name);
    const Sight sight = SightOf(lab->JudgeOf(i), subject.judge.kind);
    for (const auto* list : {&subject.judge.target, &subject.judge.anchor}) {
      for (const std::string& name : *list) RequireSeen(sight, name, where);
    }
  }
  RequireOneJudge(*lab);
}

void CheckExpected(const Lab& lab, size_t subject,
                   const std::map<std::string, std::vector<Prompt>>& groups) {
  const Sight classes = SightOf(lab.JudgeOf(subject), "class");
  const Sight styles = SightOf(lab.JudgeOf(subject), "style");
  for (const auto& [group, prompts] : groups) {
    for (const Prompt& prompt : prompts) {
      if (!prompt.expected_class.empty()) {
        RequireSeen(classes, prompt.expected_class,
                    fmt::format("prompt {}, expected_class", prompt.id));
      }
      // A judge that tells no styles apart is asked for none.
      if (!styles.known.empty() && !prompt.expected_style.empty()) {
        RequireSeen(styles, prompt.expected_style,
                    fmt::format("prompt {}, expected_style", prompt.id));
      }
    }
  }
}

Json DescribeJudges(const Lab& lab, const std::vector<size_t>& subjects, const Json& classes) {
  const std::vector<const Entry<Judge>*> judges = JudgesOf(lab, subjects);
  std::vector<std::string> names, digests;
  bool rejects = true;
  for (const Entry<Judge>* judge : judges) {
    names.push_back(judge->plugin_name);
    digests.push_back(judge->plugin->digest());
    rejects = rejects && judge->plugin->traits().rejects;
  }
  Json json = {{"name", fmt::format("{}", fmt::join(names, ", "))},
               {"version", judges.size() == 1 ? judges[0]->plugin->version() : 0},
               {"classes", classes},
               {"threshold", nullptr},
               {"sha", Together(digests)}};
  if (judges.size() == 1) {
    const std::optional<double> threshold = judges[0]->plugin->traits().threshold;
    if (threshold) json["threshold"] = *threshold;
    if (!judges[0]->params.empty()) json["params"] = judges[0]->params;
  }
  if (!rejects) json["reject_class"] = false;
  return json;
}

Json DescribeOracles(const Lab& lab, const std::vector<size_t>& subjects) {
  std::vector<std::string> digests;
  for (const Entry<Judge>* judge : JudgesOf(lab, subjects)) {
    digests.push_back(judge->plugin->oracle_digest());
  }
  return {{"name", "oracle"}, {"sha", Together(digests)}};
}

}  // namespace excise
