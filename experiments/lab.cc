#include "experiments/lab.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "experiments/record.h"
#include "models/numerics.h"
#include "models/registered.h"

namespace excise {
namespace {

// The plug-in behind a name of a selection, and its parameters.
struct Chosen {
  std::string name, plugin;
  Json params = Json::object();
};

// A row or column of the user's own name: {"plugin": "snapshot", ...}.
bool IsNamedByUser(const Json& params) { return params.is_object() && params.contains("plugin"); }

Chosen Resolve(const Selection& selection, const std::string& kind, const std::string& name) {
  Chosen chosen{name, name};
  const auto given = selection.params.find(name);
  if (given == selection.params.end()) return chosen;
  chosen.params = given->second;
  if (!IsNamedByUser(chosen.params)) return chosen;
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
  if (!chosen.params["plugin"].is_string() || name.empty() || !plain || name == kUnion) {
    throw UsageError(fmt::format(
        "{} '{}': a name of one's own has letters, digits, _ and -, is not '{}', and \"plugin\" is "
        "the name of a {}.",
        kind, name, kUnion, kind));
  }
  chosen.plugin = chosen.params["plugin"];
  chosen.params.erase("plugin");
  return chosen;
}

std::vector<std::string> ChosenNames(const Selection& selection, const std::string& kind,
                                     const std::vector<std::string>& always,
                                     const std::vector<std::string>& registered) {
  std::vector<std::string> known = registered;
  for (const auto& [name, params] : selection.params) {
    if (!IsNamedByUser(params)) continue;
    if (std::find(registered.begin(), registered.end(), name) != registered.end()) {
      throw UsageError(fmt::format(
          "{} '{}' is registered, so it cannot stand for another one. Choose a name of your own.",
          kind, name));
    }
    known.push_back(name);
  }
  const auto check = [&](const std::string& name) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      ThrowUnknownName(kind, name, known);
    }
  };
  for (const std::string& name : always) check(name);
  for (const std::string& name : selection.only) check(name);
  for (const std::string& name : selection.exclude) check(name);
  for (const auto& [name, params] : selection.params) check(name);
  std::vector<std::string> chosen;
  std::vector<std::string> candidates = selection.only.empty() ? known : selection.only;
  candidates.insert(candidates.end(), always.begin(), always.end());
  for (const std::string& name : candidates) {
    const bool excluded = std::find(selection.exclude.begin(), selection.exclude.end(), name) !=
                          selection.exclude.end();
    const bool repeated = std::find(chosen.begin(), chosen.end(), name) != chosen.end();
    // A plug-in that was asked for by name is wanted, whatever the file leaves out.
    if (!repeated && (!excluded || !selection.only.empty())) chosen.push_back(name);
  }
  return chosen;
}

// Names of `first` before the others; both parts keep their order.
void MoveToFront(std::vector<std::string>* names, const std::vector<std::string>& first) {
  std::stable_sort(names->begin(), names->end(), [&](const auto& a, const auto& b) {
    const auto rank = [&](const std::string& name) {
      return std::find(first.begin(), first.end(), name) - first.begin();
    };
    return rank(a) < rank(b);
  });
}

// `first` come first, `always` take part whatever was chosen. A plug-in that needs a setting which
// nobody made is left out, unless it was asked for.
template <class Base>
std::vector<Entry<Base>> Instantiate(const Selection& selection,
                                     const std::vector<std::string>& first,
                                     const std::vector<std::string>& always) {
  std::vector<std::string> names =
      ChosenNames(selection, Base::kKind, always, Registry<Base>::Get().Names());
  std::sort(names.begin(), names.end());
  MoveToFront(&names, first);
  std::vector<Entry<Base>> entries;
  for (const std::string& name : names) {
    const Chosen chosen = Resolve(selection, Base::kKind, name);
    std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(chosen.plugin);
    DecodeParams(chosen.params, *plugin, fmt::format("{} '{}'", Base::kKind, name));
    const std::string missing = MissingSetting(*plugin);
    if (!missing.empty()) {
      if (selection.only.empty() && selection.params.count(name) == 0) continue;
      throw UsageError(fmt::format("{} '{}' cannot run: {}. Set it, as in --set {}s.{}.{}=PATH.",
                                   Base::kKind, name, missing, Base::kKind, name,
                                   plugin->needs_one_of().front()));
    }
    entries.push_back(MakeEntry<Base>(name, chosen.plugin, std::move(plugin)));
  }
  return entries;
}

Entry<Dataset> OpenDataset(const Experiment& experiment) {
  const std::string& name = experiment.prompts.dataset;
  std::unique_ptr<Dataset> plugin = Registry<Dataset>::Get().Make(name);
  DecodeParams(experiment.dataset_params, *plugin, fmt::format("dataset '{}'", name));
  if (const std::string missing = MissingSetting(*plugin); !missing.empty()) {
    throw UsageError(
        fmt::format("dataset '{}' cannot be read: {}. Set it, as in --set "
                    "prompts.params.{}=PATH.",
                    name, missing, plugin->needs_one_of().front()));
  }
  return MakeEntry<Dataset>(name, name, std::move(plugin));
}

int GroupRank(const std::string& group) {
  const std::vector<std::string> order = {"erasure", "retention", "quality", "cost"};
  return static_cast<int>(std::find(order.begin(), order.end(), group) - order.begin());
}

// The conditioning CLIP as an attacker's surrogate: the same text encoder, with its image tower.
ClipModel OwnClip(const Backbone& backbone) {
  ClipModel clip;
  clip.folder = backbone.folder / "text_encoder";
  clip.config = backbone.clip;
  clip.tokenizer = backbone.tokenizer;
  clip.weights = Place(backbone.text_encoder, Compute{});  // attacks read it on the CPU
  clip.digest = backbone.digest;
  return clip;
}

void FindMethodFolders(Lab* lab) {
  for (Entry<Method>& entry : lab->methods) {
    const std::string needed = entry.plugin->traits().needs_folder;
    if (needed.empty()) continue;
    const std::filesystem::path folder = lab->backbone.folder / needed;
    if (std::filesystem::is_directory(folder)) {
      entry.folder_digest = Sha256HexOfPath(folder);
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
  return counts.lexical;
}

void RequireJudged(const JudgePanel& judges, const std::string& name, const std::string& where,
                   bool style) {
  const std::vector<std::string> styles = {"plain", "sepia", "line"};
  const std::vector<std::string>& known = style ? styles : judges.reporting().config.class_ids;
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  const std::string near = Suggest(name, known);
  throw UsageError(fmt::format(
      "{}: '{}' is nothing that the judge can see.{} It knows {} {}{}.", where, name,
      near.empty() ? "" : fmt::format(" Did you mean '{}'?", near), known.size(),
      style ? "styles: " : "classes, as ", fmt::join(known.begin(), known.begin() + 3, ", ")));
}

// A target that the judge does not know would never be found, which looks like perfect removal.
void CheckJudges(const Lab& lab) {
  for (const Concept& subject : lab.concepts) {
    const bool style = subject.judge.kind == "style";
    for (const auto* list : {&subject.judge.target, &subject.judge.anchor}) {
      for (const std::string& name : *list) {
        RequireJudged(*lab.judges, name, fmt::format("concept '{}', judge", subject.name), style);
      }
    }
  }
}

void CheckExpectedClasses(const Lab& lab,
                          const std::map<std::string, std::vector<Prompt>>& groups) {
  for (const auto& [group, prompts] : groups) {
    for (const Prompt& prompt : prompts) {
      if (prompt.expected_class.empty()) continue;
      RequireJudged(*lab.judges, prompt.expected_class,
                    fmt::format("prompt {}, expected_class", prompt.id), false);
    }
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
      if (!set.excluded.empty()) excluded[group] = std::move(set.excluded);
    }
    CheckExpectedClasses(*lab, groups);
    lab->prompts.push_back(std::move(groups));
    lab->excluded.push_back(std::move(excluded));
  }
}

// Asked before any work: an attack that fits none of the prompts is a mistake, and its file is
// read.
void CheckAttacks(const Lab& lab) {
  for (size_t attack = 1; attack < lab.attacks.size(); ++attack) {
    std::string example;
    bool any = false;
    for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
      for (const Prompt& seed : lab.prompts[subject].at("target")) {
        any = any || lab.NotAttacked(attack, subject, seed).empty();
        if (example.empty()) example = fmt::format("id {}, text '{}'", seed.id, seed.text);
      }
    }
    if (any || example.empty()) continue;
    throw UsageError(
        fmt::format("attack '{}' has a candidate for none of the prompts (the first has {}). "
                    "--export_prompts=FILE.csv lists them all.",
                    lab.attacks[attack].name, example));
  }
}

void LoadConcepts(Lab* lab, const Folders& folders) {
  std::map<std::string, std::filesystem::path> files;
  for (const std::filesystem::path& folder : {folders.concepts, folders.own_concepts}) {
    if (folder.empty()) continue;
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
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    lab->concepts.push_back(LoadConcept(files[name]));
  }
  lab->experiment.concepts = seen;
  lab->known_concepts = known;
}

void LoadModels(Lab* lab, const std::filesystem::path& models) {
  const std::filesystem::path folder = models / lab->experiment.backbone;
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    const RegisteredModel* registered = FindRegisteredModel(lab->experiment.backbone);
    throw Error(fmt::format(
        "The backbone '{}' was looked for in {} and is not there. {}Name the folder that holds it "
        "with --models=DIR.",
        lab->experiment.backbone, folder.string(),
        registered == nullptr ? ""
                              : DescribeModel(*registered) + " Weights are never downloaded: "));
  }
  lab->backbone = LoadBackbone(folder, {lab->compute.device, at::kFloat});
  // Said now rather than after the removals: a sampler or a number of steps that the model's
  // schedule does not allow.
  const SamplerSettings& sampler = lab->experiment.sampler;
  MakeSampler(WithScheduler(lab->backbone.scheduler, sampler.scheduler), sampler.steps,
              {0, [](size_t, const at::Tensor& like) { return like; }});
  lab->judges = JudgePanel::Load(folder / "judges");
  lab->reference_clip = LoadClipModel(folder / "reference_clip");
  lab->independent_clip = LoadClipModel(folder / "surrogate_clip");
  lab->own_clip = OwnClip(lab->backbone);
  if (lab->experiment.surrogate == "base" &&
      !lab->own_clip.weights.Contains("visual_projection.weight")) {
    throw UsageError(fmt::format(
        "{}: holds a text encoder without its vision part, so attacks cannot read it as a CLIP. "
        "Set \"surrogate\": \"independent\" in the experiment.",
        lab->own_clip.folder.string()));
  }
}

}  // namespace

const ClipModel& Lab::Surrogate() const {
  return experiment.surrogate == "independent" ? independent_clip : own_clip;
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

bool Lab::Claims(size_t method, size_t subject) const {
  const std::vector<std::string> claimed = methods[method].plugin->traits().concepts;
  return claimed.empty() ||
         std::find(claimed.begin(), claimed.end(), concepts[subject].name) != claimed.end();
}

std::string Lab::NotAttacked(size_t attack, size_t subject, const Prompt& seed) const {
  const auto* transfer = dynamic_cast<const TransferAttack*>(attacks[attack].plugin.get());
  return transfer == nullptr ? "" : transfer->Excludes(concepts[subject], seed);
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
  lab->methods = Instantiate<Method>(experiment.methods, experiment.reference_rows, {kUnmodified});
  lab->attacks = Instantiate<Attack>(experiment.attacks, {kUnmodified}, {kUnmodified});
  lab->metrics = Instantiate<Metric>(experiment.metrics, {}, {});
  std::stable_sort(lab->metrics.begin(), lab->metrics.end(), [](const auto& a, const auto& b) {
    return GroupRank(a.plugin->traits().group) < GroupRank(b.plugin->traits().group);
  });
  const auto none = std::find_if(lab->methods.begin(), lab->methods.end(),
                                 [](const auto& entry) { return entry.name == kUnmodified; });
  lab->unmodified = static_cast<size_t>(none - lab->methods.begin());
  LoadConcepts(lab.get(), folders);
  for (const Entry<Method>& entry : lab->methods) {
    for (const std::string& name : entry.plugin->traits().concepts) {
      const auto& known = lab->known_concepts;
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        ThrowUnknownName("concept", name, known);
      }
    }
  }
  lab->dataset = OpenDataset(experiment);
  LoadModels(lab.get(), folders.models);
  FindMethodFolders(lab.get());
  CheckJudges(*lab);
  LoadPrompts(lab.get());
  CheckAttacks(*lab);
  if (!folders.pictures.empty()) AddPictureRows(folders.pictures, lab.get());
  lab->numerics = Numerics(compute);
  return lab;
}

Concept VisibleToMethods(const Concept& subject) {
  Concept visible = subject;
  visible.held_out.clear();
  visible.neighbours = {};
  visible.judge = {};
  return visible;
}

}  // namespace excise
