// What: edits the words around the name, turns attention away from it by a LoRA, and fuses these
// Paper: Lu, Wang, Li, Liu, Kong, "MACE: Mass Concept Erasure in Diffusion Models", CVPR 2024,
//   arXiv 2403.06135
// Equation: W' = argmin sum |W c - W0 g|^2 + l1 |W - W0|^2 over tokens c beside the name, which in
//   the prompt with the anchor are g; for each concept i min_BA sum over layers ||A_l||_F, A_l what
//   masked pixels attend to the name under W' + BA; W* = argmin sum_i sum_c |W c - (W' + B_i A_i)
//   c|^2 + b sum |W p - W' p|^2 + l2 |W - W'|^2, W: keys and values of cross-attention
// Reference: Shilin-LU/MACE @ 057e7a6, src/cfr_lora_training.py, cfr_utils.py,
//   fuse_lora_close_form.py
// Deviations: masks are where the unmodified model attends to the name, at a fifth of the noise,
//   where the reference asks Grounding DINO and SAM; what is kept are the concept file's preserved
//   prompts, where it has captions of COCO; timesteps 200 and 400 are shares of the schedule
// Needs: known names, anchor and preserved names; the unmodified model's pictures of the concept
// Caveats: prompts that do not name the concept teach it nothing; a style has no place in a
//   picture, so its mask is the whole; defaults are reduced for the emoji backbone
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "methods/captioned_pictures.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "models/nets/attention_maps.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "training/closed_form.h"
#include "training/diffusion.h"
#include "training/lora.h"

namespace excise {
namespace {

class Mace : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("refine_lambda", &refine_lambda_, "weight of the original maps in the first edit (l1)",
             {.min = 1e-9});
    v.Number("fuse_lambda", &fuse_lambda_, "weight of these maps in the fusion (l2)",
             {.min = 1e-9});
    v.Number("preserve", &preserve_, "weight of preserved prompts in both (b)", {.min = 0});
    v.Integer("rank", &rank_, "of each LoRA", {.min = 1, .max = 64});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Integer("iterations", &iterations_, "gradient steps a concept; 0: no LoRA", {.min = 0});
    v.Integer("batch", &batch_, "draws of noise on a picture in a gradient step", {.min = 1});
    v.Integer("pictures", &pictures_, "prompts of the concept, with a picture each",
              {.min = 1, .max = 1000});
    v.Flag("end_token", &end_token_, "whether attention to the end of the prompt counts, too");
    v.Number("mask_threshold", &mask_threshold_,
             "attention that a masked pixel has, from the least (0) to the most (1) of a picture",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "anchor", "preserve", "target_images"}, true, ""};
    traits.prompts = {{"target", pictures_}, {"preserve", pictures_}};
    traits.base_pictures = traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"refine_lambda", 1000},
              {"fuse_lambda", 1000},
              {"preserve", 0},
              {"rank", 1},
              {"lr", 1e-5},
              {"iterations", 50},
              {"batch", 1},
              {"pictures", 8},
              {"end_token", true},
              {"mask_threshold", 0.5}}},
            {"smoke", {{"iterations", 4}, {"pictures", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"refine_lambda", {1, 10, 100, 1000}},
            {"fuse_lambda", {1, 10, 100, 1000}},
            {"preserve", {0, 0.1, 1}},
            {"lr", {1e-4, 1e-3, 3e-3, 1e-2}},
            {"iterations", {50, 150}}};
  }
  Work work() const override {
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)},
            {Pass::kUNet, static_cast<double>(pictures_), 1},
            {Pass::kUNetGradient, static_cast<double>(iterations_), static_cast<double>(batch_)}};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;

 private:
  // Maps in which prompts say beside a name what they say beside its anchor.
  StateDict Refine(const Backbone& base, const std::vector<NamedCaption>& named,
                   const CaptionedPictures& pictures, const at::Tensor& kept) const;
  // `refined` with the LoRA that was trained on `named` merged in: maps of cross-attention.
  StateDict WithLora(Context& context, const Backbone& base, const StateDict& refined,
                     const std::vector<NamedCaption>& named,
                     const CaptionedPictures& pictures) const;
  // The sum over layers of the norm of what the region's pixels give to the caption's name.
  at::Tensor Attended(const AttentionMaps& maps, const at::Tensor& region,
                      const std::string& caption) const;
  // Where the unmodified model's picture is the concept's, (1, height, width) of 0 and 1.
  at::Tensor RegionOf(const Backbone& base, const NamedCaption& one,
                      const CaptionedPictures& pictures, const at::Tensor& noise) const;

  double refine_lambda_ = 10, fuse_lambda_ = 10, preserve_ = 0.1;
  double lr_ = 1e-3, mask_threshold_ = 0.5;
  int64_t rank_ = 1, iterations_ = 50, batch_ = 4, pictures_ = 16;
  bool end_token_ = true;
};

// A timestep that is likely where things get their shape: 1 / (1 + exp(-(t - 200) / 20)) - 1 / (1 +
// exp(-(t - 400) / 20)) of a schedule of 1000.
int64_t FocalTimestep(Philox* rng, int64_t timesteps) {
  std::vector<double> until;
  double sum = 0;
  for (int64_t t = 0; t < timesteps; ++t) {
    const double at = 1000.0 * static_cast<double>(t) / static_cast<double>(timesteps);
    sum += 1 / (1 + std::exp(-0.05 * (at - 200))) - 1 / (1 + std::exp(-0.05 * (at - 400)));
    until.push_back(sum);
  }
  const double drawn = rng->Uniform() * sum;
  const auto found = std::upper_bound(until.begin(), until.end(), drawn);
  return std::min<int64_t>(found - until.begin(), timesteps - 1);
}

StateDict Mace::Refine(const Backbone& base, const std::vector<NamedCaption>& named,
                       const CaptionedPictures& pictures, const at::Tensor& kept) const {
  const at::Tensor without = StatesWithAnchor(base, pictures);
  RidgeEdit edit(base.unet_config.cross_attention_dim, refine_lambda_);
  for (const NamedCaption& one : named) {
    const std::string& caption = pictures.captions[static_cast<size_t>(one.row)];
    const std::string& anchor = pictures.subjects[static_cast<size_t>(one.row)]->anchor;
    const auto [from, to] = RowsAround(*base.tokenizer, caption, Renamed(caption, one.name, anchor),
                                       pictures.states.size(1));
    const auto rows = [&](const at::Tensor& states, const at::Tensor& index) {
      return states[one.row].to(at::kCPU, at::kDouble).index_select(0, index);
    };
    edit.Move(rows(pictures.states, from), rows(without, to), 1);
  }
  if (preserve_ > 0) edit.Keep(kept, preserve_);
  StateDict maps = CrossAttentionMaps(base.unet);
  edit.Apply(&maps);
  return maps;
}

at::Tensor Mace::RegionOf(const Backbone& base, const NamedCaption& one,
                          const CaptionedPictures& pictures, const at::Tensor& noise) const {
  const at::Tensor latents = pictures.latents.narrow(0, one.row, 1);
  const at::Tensor whole = at::ones_like(latents.select(1, 0));
  if (pictures.subjects[static_cast<size_t>(one.row)]->category == "style") return whole;
  const NoGrad no_grad;
  const at::Tensor early =
      at::full({1}, base.scheduler.num_train_timesteps / 5, latents.options().dtype(at::kLong));
  AttentionMaps maps(one.positions);
  UNetForward(base.unet_config, base.unet, AddNoise(base.scheduler, latents, noise, early), early,
              pictures.states.narrow(0, one.row, 1), &maps);
  return maps.Region(latents.size(2), latents.size(3), mask_threshold_);
}

at::Tensor Mace::Attended(const AttentionMaps& maps, const at::Tensor& region,
                          const std::string& caption) const {
  at::Tensor sum;
  for (const auto& [layer, map] : maps.layers()) {
    const at::Tensor inside = RegionAt(region, map.size(2))[0].gt(0.5).nonzero();
    if (inside.size(0) == 0) continue;
    const at::Tensor norm = map.index_select(2, inside.view(-1)).norm();
    sum = sum.defined() ? sum + norm : norm;
  }
  if (sum.defined()) return sum;
  throw Error(
      fmt::format("mace: the mask of '{}' holds no pixel at any layer. Lower mask_threshold ({}).",
                  caption, mask_threshold_));
}

StateDict Mace::WithLora(Context& context, const Backbone& base, const StateDict& refined,
                         const std::vector<NamedCaption>& named,
                         const CaptionedPictures& pictures) const {
  const std::string& subject = pictures.subjects[static_cast<size_t>(named[0].row)]->name;
  const auto stream = [&](const char* what, int64_t step) {
    return context.Rng(fmt::format("mace/{}/{}", what, subject), static_cast<uint64_t>(step));
  };
  const auto noise_of = [&](Philox* rng, int64_t rows) {
    return UnitNormal(rng, pictures.latents.narrow(0, 0, 1).expand({rows, -1, -1, -1}).sizes())
        .to(pictures.latents.options());
  };
  std::vector<at::Tensor> regions;
  for (const NamedCaption& one : named) {
    Philox rng = stream("regions", one.row);
    regions.push_back(RegionOf(base, one, pictures, noise_of(&rng, 1)));
  }
  context.CountUnetEvaluations(static_cast<int64_t>(named.size()));
  const LoraSpec spec{rank_, static_cast<double>(rank_), 0, {"attn2\\.to_[kv]\\."}};
  // As diffusers' LoRALinearLayer starts: A normal with deviation 1 / rank.
  StateDict lora;
  std::vector<std::string> moved;
  for (const auto& [name, tensor] : InitLora(refined, spec, 0)) {
    Philox rng = context.Rng(fmt::format("mace/lora/{}/{}", subject, name));
    lora.Set(
        name,
        EndsWith(name, ".lora_A.weight")
            ? (UnitNormal(&rng, tensor.sizes()) / static_cast<double>(rank_)).to(tensor.device())
            : tensor);
    moved.push_back(name);
  }
  const auto loss = [&](const StateDict& trained, int64_t step, int64_t) {
    Philox rng = stream("pictures", step);
    const size_t which = rng.Below(named.size());
    const NamedCaption& one = named[which];
    std::vector<int64_t> drawn;
    for (int64_t i = 0; i < batch_; ++i) {
      drawn.push_back(FocalTimestep(&rng, base.scheduler.num_train_timesteps));
    }
    const at::Tensor x0 = pictures.latents.narrow(0, one.row, 1).expand({batch_, -1, -1, -1});
    const at::Tensor timesteps = at::tensor(drawn, at::kLong).to(x0.device());
    AttentionMaps maps(one.positions);
    UNetForward(base.unet_config, ApplyLora(refined, trained, spec),
                AddNoise(base.scheduler, x0, noise_of(&rng, batch_), timesteps), timesteps,
                pictures.states.narrow(0, one.row, 1).expand({batch_, -1, -1}), &maps);
    return Attended(maps, regions[which], pictures.captions[static_cast<size_t>(one.row)]);
  };
  TrainSpec training;
  training.steps = iterations_;
  training.optimizer.lr = lr_;
  training.optimizer.weight_decay = 0.01;
  training.clip_norm = 1;
  training.checkpoint = context.CheckpointFile().string() + "." + subject;
  training.checkpoint_every = 50;
  training.label = "mace " + subject;
  training.some_without_gradient = true;  // values of the last layer act behind its probabilities
  const StateDict trained = Train(lora, moved, training, loss).weights;
  context.CountGradientSteps(iterations_);
  context.CountUnetEvaluations(iterations_ * batch_);
  return CrossAttentionMaps(MergeLora(refined, trained, spec));
}

Erased Mace::Erase(Context& context, const Backbone& base,
                   const std::vector<Concept>& concepts) const {
  const CaptionedPictures pictures = DrawCaptioned(context, base, concepts, "target", pictures_);
  const std::vector<NamedCaption> named = NamedCaptions(base, pictures, end_token_);
  std::vector<std::string> texts;
  for (const Concept& subject : concepts) {
    const std::vector<std::string> own = context.Prompts(subject, "preserve", pictures_);
    texts.insert(texts.end(), own.begin(), own.end());
  }
  at::Tensor kept;
  StateDict maps, refined = base.unet;
  {
    const NoGrad no_grad;
    kept = EncodeTexts(base, texts).flatten(0, 1).to(at::kCPU, at::kDouble);
    maps = Refine(base, named, pictures, kept);
    for (const auto& [name, map] : MapsAsWeights(maps, base.unet)) refined.Set(name, map);
  }
  std::vector<MapsAt> edits;
  for (const Concept& subject : concepts) {
    std::vector<NamedCaption> own;
    std::vector<at::Tensor> states;
    for (const NamedCaption& one : named) {
      if (pictures.subjects[static_cast<size_t>(one.row)] != &subject) continue;
      own.push_back(one);
      states.push_back(pictures.states[one.row].to(at::kCPU, at::kDouble));
    }
    if (iterations_ == 0 || own.empty()) continue;
    edits.push_back({WithLora(context, base, refined, own, pictures), at::cat(states)});
  }
  Erased erased;
  erased.unet = MapsAsWeights(FuseMaps(maps, edits, kept, preserve_, fuse_lambda_), base.unet);
  return erased;
}

const Registration<Method, Mace> registration;

}  // namespace
}  // namespace excise
