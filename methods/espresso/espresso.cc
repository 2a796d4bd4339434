// What: blocks a finished picture that CLIP finds closer to the concept's name than to its anchor
// Paper: Das, Duddu, Zhang, Asokan, "Espresso: Robust Concept Filtering in Text-to-Image Models",
//   CODASPY 2025, arXiv 2404.19227
// Equation: p_u = softmax over {u, a} of s cos(x, c) / temperature; blocked iff p_u > threshold
//   (ties pass), s = CLIP's own logit scale. Text encoder fine-tuned by variant "paper", which is
//   our reading: for opposites (unsafe) alpha [Lc(xu, pu) - Lc(xa, pu) + Lc(xa, pa) - Lc(xu, pa) -
//   sum |tu - ta|^2] / B, for other categories -|Tu - Ta|; see methods/espresso/espresso_loss.h
// Reference: ssg-research/concept-filtering @ fb368b8, src/finetune_custom.py,
//   src/certified_robust.py, stable-diffusion/scripts/txt2img.py
// Deviations: the default compares with the anchor and the empty text (against; or with preserved
//   names, too), of which the best match counts. It has a temperature, for p_u rounds to 0 or 1
//   else, a threshold of its own, and no fine-tuning. Objective "pictures" is the filter's cross
//   entropy on pictures of the unmodified model, without weight decay; misses sets the threshold by
//   such pictures. Preset "paper" has none of these. "released" has the released losses, whose
//   contrastive terms cancel (opposites) and which are constant (others), so that weight decay
//   alone moves the weights; it trains the text projection too and drops it, as that code saves the
//   text model alone. Of several names the best match counts ("mean": their mean direction). A
//   blocked picture is replaced by black, not by a photograph; pictures are 8-bit rounded, not
//   truncated
// Needs: known names, anchor; preserved names for against "preserve" and "all" and for objective
//   "pictures"; pictures of the unmodified model for fine-tuning and misses; a CLIP with an image
//   tower (parameter clip where the backbone has none)
// Caveats: only the filter's copy of the text encoder moves, the generator's stays. Against
//   "anchor" a picture of a third thing is compared with two texts that are both wrong: much of it
//   is blocked
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "methods/clip_filter.h"
#include "methods/espresso/espresso_filter.h"
#include "methods/espresso/espresso_loss.h"
#include "methods/method.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "training/trainer.h"

namespace excise {
namespace {

class Espresso : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("variant", &variant_,
             "fine-tuning of the filter's text encoder: the paper's objectives as we read them, "
             "the released terms, or none",
             {"paper", "released", "none"});
    v.Choice("rule", &rule_, "softmax of two cosines, or distances of the projected picture",
             {"softmax", "projection"});
    v.Choice("against", &against_,
             "acceptable texts: the anchor; with it the empty text, the preserved names, or both",
             {"anchor", "empty", "preserve", "all"});
    v.Number("temperature", &temperature_, "divides the logit scale of rule softmax",
             {.min = 1e-3});
    v.Number("threshold", &threshold_, "a picture is blocked when p_u is above it",
             {.min = 1e-6, .max = 1 - 1e-6});
    v.Number("misses", &misses_,
             "above 0 the threshold is set instead: this share of the unmodified model's pictures "
             "for the concept's prompts passes",
             {.min = 0, .max = 0.9});
    v.Choice("names", &names_, "of several names: the best match, or their mean direction",
             {"best", "mean"});
    v.Choice("objective", &objective_,
             "what is fine-tuned for: opposites (contrastive), distance, by the concept's category "
             "(unsafe: opposites), or the filter's own answers on pictures",
             {"by_category", "opposites", "distance", "pictures"});
    v.Integer("pairs", &pairs_, "pairs of prompts, with a picture each", {.min = 1, .max = 1000});
    v.Integer("batch", &batch_, "pairs in a gradient step", {.min = 1});
    v.Integer("epochs", &epochs_, "passes over the pairs", {.min = 1});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    v.Number("weight_decay", &weight_decay_, "added to the gradient", {.min = 0});
    v.Number("alpha", &alpha_, "weight of the terms for opposites", {.min = 0});
    v.Path("text_encoder", &text_encoder_,
           "folder of a CLIPTextModel in whose place the filter's text encoder starts; its widths "
           "must be those of the filter's CLIP");
    filter_.Fields(v);
  }
  int version() const override { return 3; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "anchor"}, true, ""};
    if (ReadsPreserved() || SeesPreserved()) traits.uses.push_back("preserve");
    if (variant_ != "none" || misses_ > 0) {
      traits.uses.push_back("target_images");
      traits.prompts = {{"target", Targets()}};
      traits.base_pictures = true;
    }
    if (variant_ != "none") {
      traits.prompts["anchor"] = pairs_;
      if (SeesPreserved()) traits.prompts["preserve"] = pairs_;
      traits.seeded = true;
    }
    traits.acts = Acts::kOnPictures;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    Json paper = {{"variant", "paper"},  {"rule", "softmax"},
                  {"against", "anchor"}, {"temperature", 1},
                  {"threshold", 0.5},    {"misses", 0},
                  {"names", "best"},     {"pairs", 10},
                  {"batch", 10},         {"epochs", 100},
                  {"lr", 5e-5},          {"weight_decay", 0.2},
                  {"alpha", 1},          {"objective", "by_category"}};
    Json released = paper;
    released["variant"] = "released";
    return {{"paper", paper},
            {"released", released},
            {"smoke", {{"variant", "paper"}, {"pairs", 2}, {"batch", 2}, {"epochs", 2}}}};
  }
  SearchSpace search_space() const override {
    // Fields with one value: so that the first trial has the paper's own.
    return {{"variant", {"paper", "none"}}, {"against", {"anchor", "empty", "preserve", "all"}},
            {"threshold", {0.5, 0.6}},      {"temperature", {4}},
            {"objective", {"pictures"}},    {"epochs", {20}},
            {"weight_decay", {0}}};
  }
  Work work() const override {
    double pictures = 0;
    for (const auto& [group, most] : traits().prompts) pictures += static_cast<double>(most);
    Work work;
    if (pictures > 0) work = {{Pass::kPicture, 1, pictures}, {Pass::kVision, 1, pictures}};
    const auto steps = static_cast<double>(epochs_ * ((pairs_ + batch_ - 1) / batch_));
    if (variant_ != "none") {
      work.push_back({Pass::kTextGradient, steps, 2.0 * static_cast<double>(batch_)});
    }
    return work;
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base, const std::vector<Concept>&,
                                            const StateDict& hook_state) const override {
    return MakeEspressoFilter(FilterClip(base, filter_.clip, "espresso"), Settings(), hook_state);
  }

 private:
  // What one concept is fine-tuned on; pictures as unit embeddings.
  struct Pairs {
    std::vector<std::string> unacceptable, acceptable;
    at::Tensor unacceptable_images, acceptable_images;
    at::Tensor preserved_images;  // or undefined
  };

  bool ReadsPreserved() const { return against_ == "preserve" || against_ == "all"; }
  bool SeesPreserved() const { return variant_ != "none" && objective_ == "pictures"; }
  // Prompts of the target: those that it is fine-tuned on, then those that set the threshold.
  int64_t Targets() const { return (variant_ != "none" && misses_ > 0 ? 2 : 1) * pairs_; }
  EspressoSettings Settings() const {
    return {rule_, threshold_, temperature_, filter_.replacement, filter_.clip.empty()};
  }
  double Scale(const ClipModel& clip) const { return FilterLogitScale(clip) / temperature_; }
  StateDict TextEncoder(const ClipModel& clip) const;
  std::vector<std::string> Acceptable(const Concept& subject) const;
  StateDict TextState(const ClipModel& clip, const StateDict& weights,
                      const std::vector<Concept>& concepts) const;
  Pairs DrawPairs(Context& context, const ClipModel& clip, const Concept& subject) const;
  at::Tensor PicturesLoss(const ClipModel& clip, const StateDict& weights, const Concept& subject,
                          const Pairs& pairs, const std::vector<int64_t>& rows) const;
  at::Tensor Loss(const ClipModel& clip, const StateDict& weights, const Concept& subject,
                  const Pairs& pairs, const std::vector<int64_t>& rows) const;
  StateDict FineTune(Context& context, const ClipModel& clip, const StateDict& initial,
                     const std::vector<Concept>& concepts) const;

  std::string variant_ = "none", rule_ = "softmax", against_ = "empty", names_ = "best";
  std::string objective_ = "pictures", text_encoder_;
  double temperature_ = 4, threshold_ = 0.6, misses_ = 0, lr_ = 5e-5, weight_decay_ = 0, alpha_ = 1;
  int64_t pairs_ = 10, batch_ = 10, epochs_ = 20;
  ClipFilterParams filter_;
};

// The weights that texts are read with: the filter's CLIP, or the user's text encoder in it.
StateDict Espresso::TextEncoder(const ClipModel& clip) const {
  if (text_encoder_.empty()) return clip.weights;
  ClipConfig config;
  StateDict given;
  LoadTextEncoder(text_encoder_, &config, &given);
  const ClipTextConfig &ours = clip.config.text, &theirs = config.text;
  const auto same = [&](const char* what, int64_t mine, int64_t its) {
    if (mine == its) return;
    throw Error(fmt::format(
        "espresso: {}: the text encoder's {} is {}, but the filter's CLIP has {}. It must be a "
        "fine-tuned copy of that CLIP's text encoder; name its CLIP with --set "
        "methods.espresso.clip=DIR.",
        text_encoder_, what, its, mine));
  };
  same("width (hidden_size)", ours.hidden_size, theirs.hidden_size);
  same("number of layers", ours.num_hidden_layers, theirs.num_hidden_layers);
  same("number of heads", ours.num_attention_heads, theirs.num_attention_heads);
  same("vocabulary", ours.vocab_size, theirs.vocab_size);
  same("context", ours.max_position_embeddings, theirs.max_position_embeddings);
  StateDict weights = clip.weights;
  for (const auto& [name, tensor] : given) {
    if (StartsWith(name, "text_model.")) weights.Set(name, tensor);
  }
  return weights;
}

std::vector<std::string> Espresso::Acceptable(const Concept& subject) const {
  std::vector<std::string> texts = {subject.anchor};
  if (against_ == "empty" || against_ == "all") texts.emplace_back();
  if (ReadsPreserved()) {
    texts.insert(texts.end(), subject.preserve.begin(), subject.preserve.end());
  }
  return texts;
}

StateDict Espresso::TextState(const ClipModel& clip, const StateDict& weights,
                              const std::vector<Concept>& concepts) const {
  std::vector<at::Tensor> unacceptable, acceptable;
  for (const Concept& subject : concepts) {
    at::Tensor names = FilterTexts(clip, weights, subject.known);
    if (names_ == "mean") names = nn::Normalised(names.mean({0}, /*keepdim=*/true));
    unacceptable.push_back(names);
    acceptable.push_back(FilterTexts(clip, weights, Acceptable(subject)));
  }
  return EspressoState(unacceptable, acceptable);
}

// Unit embeddings of the unmodified model's pictures.
at::Tensor DrawPictures(Context& context, const ClipModel& clip,
                        const std::vector<std::string>& prompts) {
  const NoGrad no_grad;
  return nn::Normalised(FilterPictures(clip, context.Images(prompts)));
}

Espresso::Pairs Espresso::DrawPairs(Context& context, const ClipModel& clip,
                                    const Concept& subject) const {
  Pairs pairs;
  pairs.unacceptable = context.Prompts(subject, "target", pairs_);
  pairs.acceptable = context.Prompts(subject, "anchor", pairs_);
  std::vector<std::string> preserved;
  if (SeesPreserved() && !subject.preserve.empty()) {
    preserved = context.Prompts(subject, "preserve", pairs_);
  }
  const size_t n = std::min(pairs.unacceptable.size(), pairs.acceptable.size());
  if (n == 0) {
    throw Error(fmt::format(
        "espresso: concept '{}' has {} prompts of its own and {} of its anchor to fine-tune on "
        "(groups target and anchor of the erase split). Give some, or set variant none.",
        subject.name, pairs.unacceptable.size(), pairs.acceptable.size()));
  }
  pairs.unacceptable.resize(n);
  pairs.acceptable.resize(n);
  pairs.unacceptable_images = DrawPictures(context, clip, pairs.unacceptable);
  pairs.acceptable_images = DrawPictures(context, clip, pairs.acceptable);
  if (!preserved.empty()) pairs.preserved_images = DrawPictures(context, clip, preserved);
  return pairs;
}

std::vector<std::string> Rows(const std::vector<std::string>& all,
                              const std::vector<int64_t>& rows) {
  std::vector<std::string> some;
  for (const int64_t row : rows) some.push_back(all[static_cast<size_t>(row)]);
  return some;
}

at::Tensor Espresso::PicturesLoss(const ClipModel& clip, const StateDict& weights,
                                  const Concept& subject, const Pairs& pairs,
                                  const std::vector<int64_t>& rows) const {
  const at::Tensor index = at::tensor(rows, at::kLong).to(pairs.unacceptable_images.device());
  at::Tensor acceptable = pairs.acceptable_images.index_select(0, index);
  if (pairs.preserved_images.defined()) {
    acceptable = at::cat({acceptable, pairs.preserved_images});
  }
  return EspressoPicturesLoss(rule_, pairs.unacceptable_images.index_select(0, index), acceptable,
                              TextsOf(TextState(clip, weights, {subject})), Scale(clip));
}

at::Tensor Espresso::Loss(const ClipModel& clip, const StateDict& weights, const Concept& subject,
                          const Pairs& pairs, const std::vector<int64_t>& rows) const {
  if (objective_ == "pictures") return PicturesLoss(clip, weights, subject, pairs, rows);
  const std::vector<std::string> unacceptable = Rows(pairs.unacceptable, rows);
  const std::vector<std::string> acceptable = Rows(pairs.acceptable, rows);
  std::vector<std::string> both = unacceptable;
  both.insert(both.end(), acceptable.begin(), acceptable.end());
  const at::Tensor texts = FilterTexts(clip, weights, both);
  const auto n = static_cast<int64_t>(rows.size());
  const at::Tensor index = at::tensor(rows, at::kLong).to(texts.device());
  const EspressoPairs batch{pairs.unacceptable_images.index_select(0, index),
                            pairs.acceptable_images.index_select(0, index), texts.narrow(0, 0, n),
                            texts.narrow(0, n, n)};
  const bool opposites =
      objective_ == "opposites" || (objective_ == "by_category" && subject.category == "unsafe");
  const double scale = FilterLogitScale(clip);
  if (variant_ == "paper") {
    return opposites ? EspressoOppositesLoss(batch, scale, alpha_)
                     : EspressoDistanceLoss(batch.unacceptable_texts, batch.acceptable_texts);
  }
  return opposites ? ReleasedOppositesLoss(batch, scale, alpha_)
                   : ReleasedDistanceLoss(batch.unacceptable_texts, batch.acceptable_texts);
}

StateDict Espresso::FineTune(Context& context, const ClipModel& clip, const StateDict& initial,
                             const std::vector<Concept>& concepts) const {
  std::vector<Pairs> data;
  int64_t most = 0;
  for (const Concept& subject : concepts) {
    data.push_back(DrawPairs(context, clip, subject));
    most = std::max(most, static_cast<int64_t>(data.back().unacceptable.size()));
  }
  std::vector<std::string> names;
  for (const auto& [name, tensor] : initial) {
    const bool projection = variant_ == "released" && name == "text_projection.weight";
    if (StartsWith(name, "text_model.") && tensor.is_floating_point()) names.push_back(name);
    if (projection) names.push_back(name);
  }
  const int64_t batches = (most + batch_ - 1) / batch_;
  TrainSpec spec;
  spec.steps = epochs_ * batches;
  spec.optimizer = {"adam", lr_, 0.9, 0.98, 1e-6, weight_decay_};
  spec.checkpoint = context.CheckpointFile();
  spec.checkpoint_every = 50;
  spec.label = "espresso";
  for (const Concept& subject : concepts) spec.label += " " + subject.name;

  const TrainResult result =
      Train(initial, names, spec, [&](const StateDict& weights, int64_t step, int64_t) {
        at::Tensor total;
        for (size_t i = 0; i < concepts.size(); ++i) {
          const auto n = static_cast<int64_t>(data[i].unacceptable.size());
          const std::string stream = fmt::format("espresso/order/{}", concepts[i].name);
          const std::vector<int64_t> order =
              context.Rng(stream, static_cast<uint64_t>(step / batches)).Permutation(n);
          const int64_t begin = std::min((step % batches) * batch_, n - 1);
          const int64_t end = std::min(begin + batch_, n);
          const at::Tensor loss = Loss(clip, weights, concepts[i], data[i],
                                       {order.begin() + begin, order.begin() + end});
          total = total.defined() ? total + loss : loss;
        }
        return total;
      });
  context.CountGradientSteps(spec.steps);
  StateDict tuned = result.weights;
  tuned.Set("text_projection.weight", initial.Get("text_projection.weight"));
  return tuned;
}

Erased Espresso::Erase(Context& context, const Backbone& base,
                       const std::vector<Concept>& concepts) const {
  RequireTexts(concepts, /*anchor=*/true, "espresso");
  const ClipModel clip = FilterClip(base, filter_.clip, "espresso");
  StateDict weights = TextEncoder(clip);
  if (variant_ != "none") weights = FineTune(context, clip, weights, concepts);

  const NoGrad no_grad;
  Erased erased;
  erased.hook_state = TextState(clip, weights, concepts);
  if (misses_ > 0) {
    std::vector<at::Tensor> pictures;
    for (const Concept& subject : concepts) {
      // Pictures that it was fine-tuned on are no measure, unless there are no others.
      std::vector<std::string> prompts = context.Prompts(subject, "target", Targets());
      const auto seen = static_cast<size_t>(Targets() - pairs_);
      if (prompts.size() > seen) prompts.erase(prompts.begin(), prompts.begin() + seen);
      if (!prompts.empty()) pictures.push_back(DrawPictures(context, clip, prompts));
    }
    if (pictures.empty()) {
      throw Error(
          "espresso: there is no prompt to set the threshold by (group target of the erase split). "
          "Give some, or set misses 0 and a threshold.");
    }
    SetThreshold(EspressoMargin(rule_, at::cat(pictures), TextsOf(erased.hook_state), Scale(clip)),
                 misses_, &erased.hook_state);
  }
  erased.hooks = MakeEspressoFilter(clip, Settings(), erased.hook_state);
  return erased;
}

const Registration<Method, Espresso> registration;

}  // namespace
}  // namespace excise
