#include "experiments/lab/models.h"

#include <fmt/format.h>

#include <string>
#include <system_error>

#include "core/error.h"
#include "models/tensors/registered.h"

namespace excise {
namespace {

// The conditioning CLIP as an attacker's surrogate: the same text encoder, with its image tower.
ClipModel OwnClip(const Backbone& backbone, const Compute& compute) {
  ClipModel clip;
  clip.folder = backbone.folder / "text_encoder";
  clip.config = backbone.clip;
  clip.tokenizer = backbone.tokenizer;
  clip.weights = Place(backbone.text_encoder, compute);
  clip.digest = backbone.digest;
  return clip;
}

constexpr const char* kReferenceClip = "reference_clip";
constexpr const char* kIndependentClip = "surrogate_clip";

// A CLIP in the backbone's folder, or none: snapshots of others bring none.
ClipModel ClipIn(const std::filesystem::path& folder, const Compute& compute) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) return {};
  ClipModel clip = LoadClipModel(folder);
  clip.weights = Place(std::move(clip.weights), compute);
  return clip;
}

// Metrics and attacks that take part have the CLIPs that they read.
void RequireClips(const Lab& lab, const std::filesystem::path& folder) {
  const auto missing = [&](const std::string& kind, const std::string& name, const char* clip) {
    throw UsageError(fmt::format(
        "{} '{}' reads a CLIP that the backbone '{}' does not bring. Put the folder of a CLIPModel "
        "(or a link to one) at {}, or leave it out with --{}s.",
        kind, name, lab.experiment.backbone, (folder / clip).string(), kind));
  };
  for (const Entry<Metric>& metric : lab.metrics) {
    for (const std::string& model : metric.plugin->traits().models) {
      if (model == "reference_clip" && lab.reference_clip.weights.size() == 0) {
        missing("metric", metric.name, kReferenceClip);
      }
      if (model == "independent_clip" && lab.independent_clip.weights.size() == 0) {
        missing("metric", metric.name, kIndependentClip);
      }
    }
  }
  for (size_t i = 0; i < lab.attacks.size(); ++i) {
    if (!lab.attacks[i].plugin->traits().surrogate) continue;
    if (lab.Surrogate().weights.Contains("visual_projection.weight")) continue;
    if (lab.experiment.surrogate == "independent") {
      missing("attack", lab.attacks[i].name, kIndependentClip);
    }
    throw UsageError(fmt::format(
        "{}: holds a text encoder without its vision part, so the attack '{}' cannot read it as a "
        "CLIP. Set \"surrogate\": \"independent\" in the experiment.",
        lab.own_clip.folder.string(), lab.attacks[i].name));
  }
}

}  // namespace

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
  // Erasing, attacking and measuring are float32, whatever pictures are drawn in.
  const Compute exact{lab->compute.device, at::kFloat};
  lab->backbone = LoadBackbone(folder, exact);
  // Said now rather than after the removals: a sampler or a number of steps that the model's
  // schedule does not allow.
  const SamplerSettings& sampler = lab->experiment.sampler;
  const SchedulerConfig scheduler = WithScheduler(lab->backbone.scheduler, sampler.scheduler);
  if (sampler.noise == "torch_cpu" && sampler.images_per_prompt > 1 && IsStochastic(scheduler)) {
    // What is added to one picture would come after all pictures' latents, so that each depended on
    // how many there are.
    throw UsageError(fmt::format(
        "sampler.noise=torch_cpu with a sampler that adds noise draws one picture a prompt, not "
        "sampler.images_per_prompt={}. Take a sampler that adds none, as ddim or lms.",
        sampler.images_per_prompt));
  }
  MakeSampler(scheduler, sampler.steps, {0, [](size_t, const at::Tensor& like) { return like; }});
  lab->reference_clip = ClipIn(folder / kReferenceClip, exact);
  lab->independent_clip = ClipIn(folder / kIndependentClip, exact);
  lab->own_clip = OwnClip(lab->backbone, exact);
  RequireClips(*lab, folder);
}

}  // namespace excise
