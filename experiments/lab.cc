#include "experiments/lab.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "models/numerics.h"

namespace excise {
namespace {

std::vector<std::string> ChosenNames(const Selection& selection, const std::string& kind,
                                     const std::vector<std::string>& always,
                                     const std::vector<std::string>& registered) {
  const auto check = [&](const std::string& name) {
    if (std::find(registered.begin(), registered.end(), name) == registered.end()) {
      ThrowUnknownName(kind, name, registered);
    }
  };
  for (const std::string& name : always) check(name);
  for (const std::string& name : selection.only) check(name);
  for (const std::string& name : selection.exclude) check(name);
  for (const auto& [name, params] : selection.params) check(name);
  std::vector<std::string> chosen;
  std::vector<std::string> candidates = selection.only.empty() ? registered : selection.only;
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

// `first` come first, `always` take part whatever was chosen.
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
    Entry<Base> entry{name, Registry<Base>::Get().Make(name), {}, "", ""};
    const auto it = selection.params.find(name);
    if (it != selection.params.end()) {
      DecodeParams(it->second, *entry.plugin, fmt::format("{} '{}'", Base::kKind, name));
    }
    entry.params = EncodeParams(*entry.plugin);
    entries.push_back(std::move(entry));
  }
  return entries;
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
  clip.weights = backbone.text_encoder;
  clip.digest = backbone.digest;
  return clip;
}

// SHA-256 over the names and digests of all files below `folder`.
std::string FolderDigest(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(folder).generic_string()] = Sha256HexOfFile(entry.path());
  }
  return Sha256Hex(CanonicalJson(Json(files)));
}

void FindMethodFolders(Lab* lab) {
  for (Entry<Method>& entry : lab->methods) {
    const std::string needed = entry.plugin->traits().needs_folder;
    if (needed.empty()) continue;
    const std::filesystem::path folder = lab->backbone.folder / needed;
    if (std::filesystem::is_directory(folder)) {
      entry.folder_digest = FolderDigest(folder);
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

void LoadPrompts(Lab* lab) {
  const PromptCounts& counts = lab->experiment.prompts;
  for (const Concept& subject : lab->concepts) {
    std::map<std::string, std::vector<Prompt>> groups;
    for (const char* group : kGroups) {
      const int64_t limit = GroupLimit(counts, group);
      if (limit > 0) {
        groups[group] = lab->dataset->Prompts(subject, group, Split::kTest, limit).prompts;
      }
    }
    lab->prompts.push_back(std::move(groups));
  }
}

void LoadConcepts(Lab* lab, const std::filesystem::path& folder) {
  const std::vector<std::string> known = ListConcepts(folder);
  std::vector<std::string> seen;
  for (const std::string& name : lab->experiment.concepts) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      ThrowUnknownName("concept", name, known);
    }
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    lab->concepts.push_back(LoadConcept(folder / (name + ".json")));
  }
  lab->experiment.concepts = seen;
}

void LoadModels(Lab* lab, const std::filesystem::path& models) {
  const std::filesystem::path folder = models / lab->experiment.backbone;
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw Error(fmt::format(
        "The backbone '{}' was looked for in {} and is not there. Name the folder that holds it "
        "with --models=DIR.",
        lab->experiment.backbone, folder.string()));
  }
  lab->backbone = LoadBackbone(folder);
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

std::unique_ptr<Metric> Lab::MakeMetric(size_t index) const {
  std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(metrics[index].name);
  DecodeParams(metrics[index].params, *metric, metrics[index].name);
  return metric;
}

std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders) {
  auto lab = std::make_unique<Lab>();
  lab->experiment = experiment;
  for (const std::string& name : experiment.reference_rows) {
    if (!Registry<Method>::Get().Contains(name)) {
      ThrowUnknownName(Method::kKind, name, Registry<Method>::Get().Names());
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
  LoadConcepts(lab.get(), folders.concepts);
  lab->dataset = Registry<Dataset>::Get().Make(experiment.prompts.dataset);
  lab->dataset_params = EncodeParams(*lab->dataset);
  LoadModels(lab.get(), folders.models);
  FindMethodFolders(lab.get());
  LoadPrompts(lab.get());
  lab->numerics = Numerics();
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
