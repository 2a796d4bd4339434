// What: blocks a finished picture that any head of a classifier on CLIP embeddings takes for unsafe
// Paper: Qu, Shen, He, Backes, Zannettou, Zhang, "Unsafe Diffusion: On the Generation of Unsafe
//   Images and Hateful Memes From Text-To-Image Models", CCS 2023, arXiv 2305.13873
// Equation: max over heads of sigmoid(W2 BN(relu(W1 x))) > 0.5, x = CLIP's image embedding, not
//   normalised; a head is trained with binary cross entropy on pictures labelled by their prompt
// Reference: YitingQu/unsafe-diffusion @ 5caffc7, train.py, inference.py
// Deviations: one head a concept, trained on pictures of the unmodified model for erase-split
//   prompts instead of 800 annotated ones; the best epoch is chosen by loss on held-out training
//   pictures, not on the test set; pictures are not cropped at random. parameter heads reads
//   trained ones: Unsafe Diffusion's layout, or LAION's CLIP-based NSFW detectors (unit embeddings)
// Needs: known names, anchor and preserved names; up to 800 pictures of the unmodified model
// Caveats: labels are prompts, so what the unmodified model draws wrongly is learned wrongly
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "methods/clip_filter.h"
#include "methods/method.h"
#include "methods/multi_head_filter/multi_head.h"
#include "models/tensors/autograd.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr double kDropout = 0.5;
constexpr int64_t kMostPictures = 800;  // as many as the paper's annotated set

class HeadsFilter : public ClipFilter {
 public:
  HeadsFilter(ClipModel clip, double threshold, const std::string& replacement,
              std::map<std::string, StateDict> heads)
      : ClipFilter(std::move(clip), threshold, replacement), heads_(std::move(heads)) {}

  at::Tensor ScoreEmbeddings(const at::Tensor& embeds) const override {
    return HighestLogits(embeds).sigmoid();
  }
  at::Tensor MarginEmbeddings(const at::Tensor& embeds) const override {
    return HighestLogits(embeds) - Logit(Threshold());
  }

 private:
  at::Tensor HighestLogits(const at::Tensor& embeds) const {
    std::vector<at::Tensor> logits;
    for (const auto& [name, head] : heads_) logits.push_back(HeadLogits(head, embeds));
    return at::stack(logits).amax(0);
  }

  std::map<std::string, StateDict> heads_;
};

// Embeddings (n, width) of labelled pictures.
struct Labelled {
  at::Tensor positive, negative;
};

at::Tensor Labels(const Labelled& data) {
  return at::cat({at::ones({data.positive.size(0)}, data.positive.options()),
                  at::zeros({data.negative.size(0)}, data.negative.options())});
}

// Every fourth picture is held out to choose the epoch by.
Labelled Part(const Labelled& data, bool held_out) {
  const auto part = [&](const at::Tensor& rows) {
    std::vector<at::Tensor> chosen;
    for (int64_t i = 0; i < rows.size(0); ++i) {
      // Of fewer than four nothing can be held out: they serve as both.
      if (rows.size(0) < 4 || (i % 4 == 3) == held_out) chosen.push_back(rows[i]);
    }
    return at::stack(chosen);
  };
  return {part(data.positive), part(data.negative)};
}

StateDict HeadIn(const StateDict& joined, const std::string& name) {
  return PartHeads(joined).at(name);
}

class MultiHeadFilter : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("heads", &heads_,
           "trained heads: a .safetensors file, or a folder of them; none: heads are trained");
    v.Texts("use_heads", &use_heads_, "which of them, by file stem; none: all");
    v.Number("threshold", &threshold_, "a picture is blocked when a head's probability is above it",
             {.min = 1e-6, .max = 1 - 1e-6});
    v.Integer("pictures", &pictures_,
              "training pictures, at most: half of the concept, half of its anchor and of what is "
              "preserved",
              {.min = 4, .max = kMostPictures});
    v.Integer("epochs", &epochs_, "passes over the training pictures", {.min = 1});
    v.Integer("batch", &batch_, "pictures in a gradient step, half of them of the concept",
              {.min = 2});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    filter_.Fields(v);
  }
  int version() const override { return 2; }
  MethodTraits traits() const override {
    MethodTraits traits;
    if (heads_.empty()) {
      traits.uses = {"known_names", "anchor", "preserve", "target_images"};
      traits.prompts = {
          {"target", pictures_ / 2}, {"anchor", pictures_ / 4}, {"preserve", pictures_ / 2}};
      traits.base_pictures = true;
      traits.seeded = true;
    }
    traits.acts = Acts::kOnPictures;
    return traits;
  }
  Work work() const override {
    if (!heads_.empty()) return {};
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)}};
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"pictures", 800}, {"epochs", 31}, {"batch", 64}, {"lr", 2e-4}}},
            {"smoke", {{"pictures", 4}, {"epochs", 2}, {"batch", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"threshold", {0.3, 0.5, 0.7, 0.9}}, {"lr", {2e-4, 2e-3}}, {"epochs", {30, 60}}};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;
  std::shared_ptr<const Hooks> RestoreHooks(const Backbone& base, const std::vector<Concept>&,
                                            const StateDict& hook_state) const override {
    return MakeFilter(FilterClip(base, filter_.clip, "multi_head_filter"), hook_state);
  }

 private:
  Labelled Draw(Context& context, const ClipModel& clip, const Concept& subject) const;
  StateDict TrainHeads(Context& context, const ClipModel& clip,
                       const std::vector<Concept>& concepts) const;
  at::Tensor BatchLoss(Context& context, const StateDict& head, const std::string& name,
                       const Labelled& data, int64_t step) const;
  std::shared_ptr<const Hooks> MakeFilter(ClipModel clip, const StateDict& heads) const {
    return std::make_shared<HeadsFilter>(std::move(clip), threshold_, filter_.replacement,
                                         PartHeads(heads));
  }

  std::string heads_;
  std::vector<std::string> use_heads_;
  double threshold_ = 0.7, lr_ = 2e-3;
  int64_t pictures_ = 48, epochs_ = 30, batch_ = 32;
  ClipFilterParams filter_;
};

Labelled MultiHeadFilter::Draw(Context& context, const ClipModel& clip,
                               const Concept& subject) const {
  const NoGrad no_grad;
  const std::vector<std::string> positive = context.Prompts(subject, "target", pictures_ / 2);
  std::vector<std::string> negative = context.Prompts(subject, "anchor", pictures_ / 4);
  const std::vector<std::string> preserve =
      context.Prompts(subject, "preserve", pictures_ / 2 - static_cast<int64_t>(negative.size()));
  negative.insert(negative.end(), preserve.begin(), preserve.end());
  if (positive.empty() || negative.empty()) {
    throw Error(fmt::format(
        "multi_head_filter: concept '{}' has {} prompts of its own and {} of its anchor and what "
        "is preserved to train on (erase split). Give some, or trained heads with --set "
        "methods.multi_head_filter.heads=FILE.",
        subject.name, positive.size(), negative.size()));
  }
  return {FilterPictures(clip, context.Images(positive)),
          FilterPictures(clip, context.Images(negative))};
}

at::Tensor MultiHeadFilter::BatchLoss(Context& context, const StateDict& head,
                                      const std::string& name, const Labelled& data,
                                      int64_t step) const {
  Philox rng = context.Rng("multi_head/batch/" + name, static_cast<uint64_t>(step));
  const auto draw = [&](const at::Tensor& rows, int64_t n) {
    std::vector<int64_t> chosen(static_cast<size_t>(n));
    for (int64_t& row : chosen) {
      row = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(rows.size(0))));
    }
    return rows.index_select(0, at::tensor(chosen, at::kLong).to(rows.device()));
  };
  const int64_t half = batch_ / 2;
  const Labelled batch{draw(data.positive, half), draw(data.negative, batch_ - half)};
  const at::Tensor mask = at::empty({batch_, head.Get("0.bias").size(0)}, at::kFloat);
  for (int64_t i = 0; i < mask.numel(); ++i) {
    mask.data_ptr<float>()[i] =
        rng.Uniform() < kDropout ? 0 : static_cast<float>(1 / (1 - kDropout));
  }
  const at::Tensor embeds = at::cat({batch.positive, batch.negative});
  return at::binary_cross_entropy_with_logits(
      TrainingLogits(head, embeds, mask.to(embeds.device())), Labels(batch));
}

StateDict MultiHeadFilter::TrainHeads(Context& context, const ClipModel& clip,
                                      const std::vector<Concept>& concepts) const {
  std::map<std::string, Labelled> train, held_out;
  std::map<std::string, StateDict> heads;
  int64_t most = 0;
  for (const Concept& subject : concepts) {
    const Labelled all = Draw(context, clip, subject);
    train[subject.name] = Part(all, false);
    held_out[subject.name] = Part(all, true);
    most = std::max(most, all.positive.size(0) + all.negative.size(0));
    Philox rng = context.Rng("multi_head/init/" + subject.name);
    heads[subject.name] = InitHead(all.positive.size(1), rng.NextU64());
    for (const auto& [name, tensor] : StateDict(heads[subject.name])) {
      heads[subject.name].Set(name, tensor.to(all.positive.device()));
    }
  }
  const StateDict initial = JoinHeads(heads);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : initial) {
    if (!IsStatistic(name)) names.push_back(name);
  }
  TrainSpec spec;
  const int64_t steps_per_epoch = std::max<int64_t>(1, most * 3 / 4 / batch_);
  spec.steps = epochs_ * steps_per_epoch;
  spec.optimizer = {"adam", lr_};
  spec.validate_every = steps_per_epoch;
  spec.patience = epochs_;  // all are run, and the best is taken
  spec.checkpoint = context.CheckpointFile();
  spec.checkpoint_every = 200;
  spec.label = "multi_head_filter";
  // Heads share no weight, so one optimiser on the sum trains each as if it were alone.
  const TrainResult result = Train(
      initial, names, spec,
      [&](const StateDict& weights, int64_t step, int64_t) {
        at::Tensor total;
        for (const auto& [name, data] : train) {
          const at::Tensor loss = BatchLoss(context, HeadIn(weights, name), name, data, step);
          total = total.defined() ? total + loss : loss;
        }
        return total;
      },
      [&](const StateDict& weights) {
        double total = 0;
        for (const auto& [name, data] : held_out) {
          const at::Tensor logits =
              HeadLogits(HeadIn(weights, name), at::cat({data.positive, data.negative}));
          total += at::binary_cross_entropy_with_logits(logits, Labels(data)).item<double>();
        }
        return total;
      });
  context.CountGradientSteps(spec.steps);
  return result.weights;
}

Erased MultiHeadFilter::Erase(Context& context, const Backbone& base,
                              const std::vector<Concept>& concepts) const {
  const ClipModel clip = FilterClip(base, filter_.clip, "multi_head_filter");
  Erased erased;
  if (heads_.empty()) {
    RequireTexts(concepts, /*anchor=*/true, "multi_head_filter");
    erased.hook_state = TrainHeads(context, clip, concepts);
  } else {
    const std::map<std::string, StateDict> heads = ReadHeads(heads_, use_heads_);
    for (const auto& [name, head] : heads) {
      const int64_t width = CheckHead(head, name);
      if (width == clip.config.projection_dim) continue;
      throw Error(fmt::format(
          "multi_head_filter: head '{}' reads embeddings of width {}, but the CLIP makes {}. Heads "
          "belong to one CLIP; name its folder with --set methods.multi_head_filter.clip=DIR.",
          name, width, clip.config.projection_dim));
    }
    erased.hook_state = JoinHeads(heads);
  }
  erased.hooks = MakeFilter(clip, erased.hook_state);
  return erased;
}

const Registration<Method, MultiHeadFilter> registration;

}  // namespace
}  // namespace excise
