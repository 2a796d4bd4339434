#include "experiments/lab.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "models/numerics.h"

namespace excise {
namespace {

std::vector<std::string> ChosenNames(const Selection& selection, const std::string& kind,
                                     const std::vector<std::string>& registered) {
  const auto check = [&](const std::string& name) {
    if (std::find(registered.begin(), registered.end(), name) == registered.end()) {
      ThrowUnknownName(kind, name, registered);
    }
  };
  for (const std::string& name : selection.only) check(name);
  for (const std::string& name : selection.exclude) check(name);
  for (const auto& [name, params] : selection.params) check(name);
  std::vector<std::string> chosen;
  for (const std::string& name : selection.only.empty() ? registered : selection.only) {
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

template <class Base>
std::vector<Entry<Base>> Instantiate(const Selection& selection,
                                     const std::vector<std::string>& first) {
  std::vector<std::string> names =
      ChosenNames(selection, Base::kKind, Registry<Base>::Get().Names());
  MoveToFront(&names, first);
  std::vector<Entry<Base>> entries;
  for (const std::string& name : names) {
    Entry<Base> entry{name, Registry<Base>::Get().Make(name), {}};
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

}  // namespace

std::unique_ptr<Metric> Lab::MakeMetric(size_t index) const {
  std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(metrics[index].name);
  DecodeParams(metrics[index].params, *metric, metrics[index].name);
  return metric;
}

std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders) {
  auto lab = std::make_unique<Lab>();
  lab->experiment = experiment;
  lab->methods = Instantiate<Method>(experiment.methods, experiment.reference_rows);
  lab->attacks = Instantiate<Attack>(experiment.attacks, {"none"});
  lab->metrics = Instantiate<Metric>(experiment.metrics, {});
  std::stable_sort(lab->metrics.begin(), lab->metrics.end(), [](const auto& a, const auto& b) {
    return GroupRank(a.plugin->traits().group) < GroupRank(b.plugin->traits().group);
  });
  const std::vector<std::string> known = ListConcepts(folders.concepts);
  for (const std::string& name : experiment.concepts) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      ThrowUnknownName("concept", name, known);
    }
    lab->concepts.push_back(LoadConcept(folders.concepts / (name + ".json")));
  }
  lab->dataset = Registry<Dataset>::Get().Make(experiment.prompts.dataset);
  lab->dataset_params = EncodeParams(*lab->dataset);
  const std::filesystem::path folder = folders.models / experiment.backbone;
  if (!std::filesystem::is_directory(folder)) {
    throw Error(fmt::format(
        "The backbone '{}' was looked for in {} and is not there. Name the folder that holds it "
        "with --models=DIR.",
        experiment.backbone, folder.string()));
  }
  lab->backbone = LoadBackbone(folder);
  lab->judges = JudgePanel::Load(folder / "judges");
  lab->reference_clip = LoadClipModel(folder / "reference_clip");
  lab->surrogate_clip = LoadClipModel(folder / "surrogate_clip");
  lab->own_clip = OwnClip(lab->backbone);
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
