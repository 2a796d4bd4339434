#include "experiments/lab/lab.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/text.h"
#include "experiments/lab/attack_checks.h"
#include "experiments/lab/inputs.h"
#include "experiments/lab/judges.h"
#include "experiments/lab/models.h"
#include "experiments/lab/removals.h"
#include "experiments/results/record.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

Entry<Dataset> OpenDataset(const Experiment& experiment, InputFiles* inputs) {
  const std::string& name = experiment.prompts.dataset;
  std::unique_ptr<Dataset> plugin = Registry<Dataset>::Get().Make(name);
  DecodeParams(experiment.dataset_params, *plugin, fmt::format("dataset '{}'", name));
  if (const std::string missing = MissingSetting(*plugin); !missing.empty()) {
    throw UsageError(
        fmt::format("dataset '{}' cannot be read: {}. Set it, as in --set "
                    "prompts.params.{}=PATH.",
                    name, missing, plugin->needs_one_of().front()));
  }
  return MakeEntry<Dataset>(name, name, std::move(plugin), inputs);
}

int GroupRank(const std::string& group) {
  const std::vector<std::string> order = {"erasure",   "filter",  "retrieval",
                                          "retention", "quality", "cost"};
  return static_cast<int>(std::find(order.begin(), order.end(), group) - order.begin());
}

void FindMethodFolders(Lab* lab) {
  for (Entry<Method>& entry : lab->methods) {
    const std::string needed = entry.plugin->traits().needs_folder;
    if (needed.empty()) continue;
    const std::filesystem::path folder = lab->backbone.folder / needed;
    if (std::filesystem::is_directory(folder)) {
      entry.folder_digest = lab->inputs.Add(folder);
    } else {
      entry.not_applicable =
          fmt::format("backbone '{}' comes without {}", lab->backbone.name, needed);
    }
  }
}

int64_t GroupLimit(const PromptCounts& counts, const std::string& group) {
  if (group == "target") return counts.target;
  if (group == "near") return counts.near;
  if (group == "far") return counts.far;
  if (group == "implied") return counts.implied;
  if (group == "pairs") return counts.pairs;
  return counts.lexical;
}

// An experiment that draws by the prompts' rows needs what it draws by there.
void RequireOwnDraws(const SamplerSettings& sampler, const std::vector<Prompt>& prompts) {
  for (const Prompt& prompt : prompts) {
    const bool no_seed = sampler.noise == "torch_cpu" && !prompt.seed;
    const bool no_guidance = sampler.own_guidance && !prompt.guidance;
    if (!no_seed && !no_guidance) continue;
    throw UsageError(
        fmt::format("prompt {} names no {}, by which {} draws. Add a column '{}', or set {}.",
                    prompt.id, no_seed ? "seed" : "guidance scale",
                    no_seed ? "sampler.noise=torch_cpu" : "sampler.own_guidance=true",
                    no_seed ? "seed" : "guidance",
                    no_seed ? "sampler.noise=philox" : "sampler.own_guidance=false"));
  }
}

void LoadPrompts(Lab* lab) {
  const PromptCounts& counts = lab->experiment.prompts;
  const Split split = counts.split == "select" ? Split::kSelect : Split::kTest;
  for (const Concept& subject : lab->concepts) {
    std::map<std::string, std::vector<Prompt>> groups;
    std::map<std::string, std::vector<Exclusion>> excluded;
    for (const char* group : kGroups) {
      const int64_t limit = GroupLimit(counts, group);
      if (limit <= 0) continue;
      PromptSet set = lab->dataset.plugin->Prompts(subject, group, split, limit);
      groups[group] = std::move(set.prompts);
      RequireOwnDraws(lab->experiment.sampler, groups[group]);
      if (!set.excluded.empty()) excluded[group] = std::move(set.excluded);
    }
    CheckExpected(*lab, lab->prompts.size(), groups);
    for (const char* group : kEmbeddedGroups) {
      if (lab->quadruplets == nullptr || lab->quadruplets->Prompts(group).empty()) continue;
      groups[group] = lab->quadruplets->Prompts(group);
      const std::vector<Exclusion>& left_out = lab->quadruplets->Excluded(group);
      if (!left_out.empty()) excluded[group] = left_out;
    }
    lab->prompts.push_back(std::move(groups));
    lab->excluded.push_back(std::move(excluded));
  }
}

// Metrics that read nothing but groups that an experiment may do without take no part in one that
// does: quadruplets, and prompts that describe the target or ask for two things.
void RemoveUnreadMetrics(Lab* lab) {
  const PromptCounts& counts = lab->experiment.prompts;
  const auto absent = [&](const std::string& group) {
    if (group == "implied") return counts.implied == 0;
    if (group == "pairs") return counts.pairs == 0;
    return IsEmbeddedGroup(group) && lab->quadruplets == nullptr;
  };
  const auto unread = [&](const Entry<Metric>& entry) {
    const std::vector<std::string> groups = entry.plugin->traits().sample_groups;
    if (!std::all_of(groups.begin(), groups.end(), absent)) return false;
    if (IsOneOf(entry.name, lab->experiment.metrics.only)) {
      const bool embedded = IsEmbeddedGroup(groups.front());
      throw UsageError(fmt::format(
          "metric '{}' reads {}, and the experiment has no {}.", entry.name,
          fmt::join(groups, ", "),
          embedded ? "section \"quadruplets\""
                   : fmt::format("such prompts: say how many, as in --set prompts.{}=10",
                                 groups.front())));
    }
    return true;
  };
  std::vector<Entry<Metric>>& metrics = lab->metrics;
  metrics.erase(std::remove_if(metrics.begin(), metrics.end(), unread), metrics.end());
}

// Metrics that read what this experiment does not have take no part; one that is asked for by name
// is refused.
void RemoveMetrics(Lab* lab, bool MetricTraits::*reads, const std::string& why) {
  std::vector<Entry<Metric>>& metrics = lab->metrics;
  const auto lacks = [&](const Entry<Metric>& entry) { return entry.plugin->traits().*reads; };
  for (const Entry<Metric>& entry : metrics) {
    if (!lacks(entry) || !IsOneOf(entry.name, lab->experiment.metrics.only)) continue;
    throw UsageError(fmt::format("metric '{}' reads {}", entry.name, why));
  }
  metrics.erase(std::remove_if(metrics.begin(), metrics.end(), lacks), metrics.end());
}

void RemoveIdleMetrics(Lab* lab) {
  const bool votes = std::any_of(
      lab->judges.begin(), lab->judges.end(),
      [](const Entry<Judge>& judge) { return !judge.plugin->traits().members.empty(); });
  if (!votes) {
    RemoveMetrics(lab, &MetricTraits::of_votes,
                  "the votes of a panel, and no judge is one. Name it as the judge: \"judge\": "
                  "{\"plugin\": \"panel\", \"params\": {\"members\": [...]}}.");
  }
  if (lab->experiment.sampler.images_per_prompt < 2) {
    RemoveMetrics(lab, &MetricTraits::of_several,
                  "several pictures of a prompt, and each has one. Set "
                  "sampler.images_per_prompt, or take 'asr', which is the same then.");
  }
}

void LoadConcepts(Lab* lab, const Folders& folders) {
  std::map<std::string, std::filesystem::path> files;
  std::error_code ignored;
  for (const std::filesystem::path& folder : {folders.concepts, folders.concepts / "wide",
                                              folders.concepts / "real", folders.own_concepts}) {
    const bool part = folder != folders.concepts && folder != folders.own_concepts;
    if (folder.empty() || (part && !std::filesystem::is_directory(folder, ignored))) continue;
    for (const std::string& name : ListConcepts(folder)) {
      const std::filesystem::path file = folder / (name + ".json");
      if (files.emplace(name, file).second) continue;
      throw UsageError(fmt::format("{}: a concept '{}' comes with Excise. Give yours another name.",
                                   file.string(), name));
    }
  }
  std::vector<std::string> known, seen;
  for (const auto& [name, file] : files) known.push_back(name);
  for (const std::string& name : lab->experiment.concepts) {
    if (files.count(name) == 0) ThrowUnknownName("concept", name, known);
    if (IsOneOf(name, seen)) continue;
    seen.push_back(name);
    lab->concepts.push_back(LoadConcept(files[name]));
  }
  lab->experiment.concepts = seen;
  lab->known_concepts = known;
}

}  // namespace

const ClipModel& Lab::Surrogate() const {
  return experiment.surrogate == "independent" ? independent_clip : own_clip;
}

const Entry<Judge>& Lab::JudgeOf(size_t subject) const {
  const std::string name = JudgeName(JudgeOfConcept(experiment, concepts.at(subject)));
  for (const Entry<Judge>& judge : judges) {
    if (judge.name == name) return judge;
  }
  throw Error(
      fmt::format("concept '{}': the judge '{}' is not open.", concepts[subject].name, name));
}

int64_t Lab::PictureSide() const {
  return backbone.unet_config.sample_size << (backbone.vae_config.block_out_channels.size() - 1);
}

size_t Lab::BaseOf(size_t method) const {
  if (methods[method].pictures == nullptr || methods[method].pictures->base.empty()) {
    return unmodified;
  }
  const auto base = std::find_if(methods.begin(), methods.end(), [&](const auto& entry) {
    return entry.name == methods[method].pictures->base;
  });
  return static_cast<size_t>(base - methods.begin());
}

namespace {

std::string ReasonNotClaimed(const MethodTraits& traits, const Concept& asked) {
  if (!traits.concepts.empty() && !IsOneOf(asked.name, traits.concepts)) {
    return fmt::format("it is not said to remove '{}' (its parameter 'concepts')", asked.name);
  }
  if (!traits.categories.empty() && !IsOneOf(asked.category, traits.categories)) {
    return fmt::format("it removes {} concepts only, and '{}' is of category {}",
                       fmt::join(traits.categories, ", "), asked.name, asked.category);
  }
  return "";
}

}  // namespace

std::string Lab::ReasonNotClaimed(size_t method, size_t subject) const {
  const MethodTraits traits = methods[method].plugin->traits();
  const std::vector<size_t> together = RemovedTogether(*this, method, subject);
  for (const size_t one : together) {
    const std::string reason = excise::ReasonNotClaimed(traits, concepts[one]);
    if (reason.empty()) continue;
    if (together.size() == 1) return reason;
    return fmt::format("{}, and one edit is to remove {} together", reason,
                       NamesOf(*this, together, ", "));
  }
  return "";
}

int64_t Lab::EraseSeedOf(size_t method) const {
  const size_t edit = methods[method].edit;
  return edit == 0 ? experiment.seeds.erase : experiment.seeds.more_erase.at(edit - 1);
}

size_t Lab::EditsOf(size_t method) const {
  size_t next = RowOf(method) + 1;
  while (next < methods.size() && methods[next].edit > 0) ++next;
  return next - RowOf(method);
}

std::vector<size_t> Lab::Rows() const {
  std::vector<size_t> rows;
  for (size_t method = 0; method < methods.size(); ++method) {
    if (methods[method].edit == 0) rows.push_back(method);
  }
  return rows;
}

bool DependsOnSeed(const MethodTraits& traits) { return traits.seeded || traits.base_pictures; }

void AddEdits(Lab* lab) {
  std::vector<Entry<Method>> all;
  for (const Entry<Method>& entry : lab->methods) {
    all.push_back(entry);
    if (!DependsOnSeed(entry.plugin->traits())) continue;
    for (size_t more = 0; more < lab->experiment.seeds.more_erase.size(); ++more) {
      all.push_back(entry);
      all.back().edit = more + 1;
    }
  }
  lab->methods = std::move(all);
}

std::string Lab::ReasonNotAttacked(size_t attack, size_t subject, const Prompt& seed) const {
  const Concept visible = VisibleToAttack(concepts[subject], TraitsOf(attack));
  return attacks[attack].plugin->Excludes(backbone, visible, seed);
}

size_t Lab::VictimOf(size_t attack, size_t method) const {
  if (!TraitsOf(attack).ForEachMethod()) return unmodified;
  const std::string& row = attacks[attack].found_on;
  if (row.empty()) return method;
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const Entry<Method>& entry) { return entry.name == row; });
  return static_cast<size_t>(found - methods.begin());
}

bool Lab::AttackApplies(size_t attack, size_t method) const {
  const std::vector<std::string> seen = TraitsOf(attack).adapts_to;
  method = RowOf(VictimOf(attack, method));  // what its edits offer is the same
  if (seen.empty() || method >= offers.size() || !offers[method]) return true;
  return std::any_of(offers[method]->begin(), offers[method]->end(),
                     [&](const std::string& one) { return IsOneOf(one, seen); });
}

std::unique_ptr<Metric> Lab::MakeMetric(size_t index) const {
  const Entry<Metric>& entry = metrics[index];
  std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(entry.plugin_name);
  DecodeParams(EncodeParams(*entry.plugin), *metric, entry.name);
  return metric;
}

std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders,
                             const Compute& compute) {
  auto lab = std::make_unique<Lab>();
  lab->experiment = experiment;
  lab->compute = compute;
  for (const std::string& name : experiment.reference_rows) {
    const std::string& plugin = Resolve(experiment.methods, Method::kKind, name).plugin;
    if (!Registry<Method>::Get().Contains(plugin)) {
      ThrowUnknownName(Method::kKind, plugin, Registry<Method>::Get().Names());
    }
  }
  InputFiles* inputs = &lab->inputs;
  lab->methods =
      Instantiate<Method>(experiment.methods, experiment.reference_rows, {kUnmodified}, inputs);
  AddEdits(lab.get());
  lab->attacks = Instantiate<Attack>(experiment.attacks, {kUnmodified}, {kUnmodified}, inputs);
  lab->metrics = Instantiate<Metric>(experiment.metrics, {}, {}, inputs);
  std::stable_sort(lab->metrics.begin(), lab->metrics.end(), [](const auto& a, const auto& b) {
    return GroupRank(a.plugin->traits().group) < GroupRank(b.plugin->traits().group);
  });
  const auto none = std::find_if(lab->methods.begin(), lab->methods.end(),
                                 [](const auto& entry) { return entry.name == kUnmodified; });
  lab->unmodified = static_cast<size_t>(none - lab->methods.begin());
  LoadConcepts(lab.get(), folders);
  TakeRemovals(lab.get());
  for (const Entry<Method>& entry : lab->methods) {
    for (const std::string& name : entry.plugin->traits().concepts) {
      const auto& known = lab->known_concepts;
      if (!IsOneOf(name, known)) {
        ThrowUnknownName("concept", name, known);
      }
    }
  }
  lab->dataset = OpenDataset(experiment, inputs);
  lab->quadruplets = OpenQuadruplets(experiment);
  RemoveUnreadMetrics(lab.get());
  LoadModels(lab.get(), folders.models);
  FindMethodFolders(lab.get());
  OpenJudges(lab.get());
  RemoveIdleMetrics(lab.get());
  LoadPrompts(lab.get());
  LeaveOutRemoved(lab.get());
  CheckFoundOn(*lab);
  CheckDrawings(*lab);
  CheckAttacks(*lab);
  if (!folders.pictures.empty()) AddPictureRows(folders.pictures, lab.get());
  ReadInputs(lab.get());
  lab->numerics = Numerics(compute);
  lab->inputs.Check();  // prompts were read by now
  return lab;
}

}  // namespace excise
