// What: takes words that mean the concept out of its subspace, for as many steps as a prompt needs
// Paper: Yoon, Yu, Patil, Yao, Bansal, "SAFREE: Training-Free and Adaptive Guard for Safe
//   Text-to-Image And Video Generation", ICLR 2025, arXiv 2410.12761
// Equation: P = E (E'E)^+ E' of the pooled texts of the names (C) and of the prompt with one token
//   masked (I: p_i); token i is a trigger iff d_i = |(1 - P_C) p_i| >= (1 + a) mean_{j != i} d_j;
//   its state e becomes (1 - P_C) P_I e; so in steps up to u s(2 k (10 b - t)), s the logistic
//   function, b = 1 - the mean cosine of states and projected ones
// Reference: jaehong31/SAFREE @ b8b2c3f, models/modified_stable_diffusion_pipeline.py,
//   free_lunch_utils.py, generate_safree.py
// Deviations: u is a share of the steps (10 of 50 there); re-attention multiplies low frequencies
//   by s, as the paper says, where free_lunch_utils.py puts s in their place, and it acts: as
//   released, generate_safree.py registers it with `safree` None, which changes nothing; the
//   negative prompt of 17 phrases that its scripts add is the method `negative_prompt`
// Needs: known names; no picture, no training
// Caveats: a prompt that brings text states of its own is judged by its label's words; a single
//   word is always a trigger; `re_attention` costs a third row of the U-Net a step
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/fft_fft2.h>
#include <ATen/ops/fft_ifft2.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/real.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

struct Settings {
  double alpha = 0.01, share = 0.2, steepness = 2.5, middle = 5.333;
  bool re_attention = false;
  double first_scale = 0.9, second_scale = 0.2;
};

// Onto the span of the rows of `rows` (n, width): (width, width).
at::Tensor Projection(const at::Tensor& rows) {
  const at::Tensor e = rows.to(at::kDouble);
  return e.t().matmul(at::linalg_pinv(e.matmul(e.t()))).matmul(e).to(rows.scalar_type());
}

// Pooled texts (n, width) of token embeddings (n, tokens, width).
at::Tensor Pooled(const Backbone& base, const at::Tensor& embeddings, const at::Tensor& ids) {
  return ClipTextPooled(base.clip.text, base.text_encoder, embeddings, ids);
}

// What becomes of a prompt.
struct Guarded {
  at::Tensor states;  // (tokens, width)
  double change = 0;  // b
};

Guarded Guard(const Backbone& base, const at::Tensor& concept_span, double alpha,
              const at::Tensor& ids, const at::Tensor& embeddings, const at::Tensor& states) {
  const at::Tensor ends = ids.narrow(0, 1, ids.size(0) - 1).eq(base.tokenizer->eos_id());
  const int64_t words = ends.to(at::kLong).argmax().item<int64_t>();
  if (words == 0) return {states, 0};
  // One token after another masked by the vocabulary's first.
  const at::Tensor masked_ids = ids.expand({words, -1}).clone();
  const at::Tensor mask =
      ClipTokenEmbeddings(base.text_encoder, at::zeros({1, 1}, ids.options()))[0];
  std::vector<at::Tensor> masked;
  for (int64_t i = 0; i < words; ++i) {
    masked_ids[i][i + 1] = 0;
    masked.push_back(at::cat({embeddings.narrow(0, 0, i + 1), mask,
                              embeddings.narrow(0, i + 2, embeddings.size(0) - i - 2)}));
  }
  const at::Tensor pooled = Pooled(base, at::stack(masked), masked_ids);
  const at::Tensor away = at::eye(pooled.size(1), pooled.options()) - concept_span;
  const at::Tensor distance = pooled.matmul(away).norm(2, {1});
  const at::Tensor others =
      (distance.sum() - distance) / static_cast<double>(std::max<int64_t>(words - 1, 1));
  const at::Tensor trigger =
      words == 1 ? at::ones_like(distance).to(at::kBool) : distance.ge((1 + alpha) * others);
  // (1 - P_C) P_I e, of rows.
  const at::Tensor projected = states.matmul(Projection(pooled)).matmul(away);
  const at::Tensor safe =
      at::where(trigger.unsqueeze(1), projected.narrow(0, 1, words), states.narrow(0, 1, words));
  const int64_t used = words + 2;  // start and end token as well
  const at::Tensor cosines =
      at::cosine_similarity(projected.narrow(0, 0, used), states.narrow(0, 0, used));
  return {at::cat({states.narrow(0, 0, 1), safe,
                   states.narrow(0, words + 1, states.size(0) - words - 1)}),
          1 - cosines.mean().item<double>()};
}

// Low frequencies of skip features of the guarded stream where they exceed the prompt's own.
class ReAttention : public LayerHooks {
 public:
  ReAttention(const Settings& settings, const Backbone& base)
      : settings_(settings), channels_(base.unet_config.block_out_channels) {}
  void Begin(const RowLayout& rows) override { rows_ = rows; }
  bool WantsSkips() const override { return rows_.streams == 3; }
  void OnSkip(int64_t, at::Tensor* hidden, at::Tensor* skip) override {
    const size_t levels = channels_.size();
    double scale = 0;
    if (hidden->size(1) == channels_[levels - 1]) {
      scale = settings_.first_scale;
    } else if (levels > 1 && hidden->size(1) == channels_[levels - 2]) {
      scale = settings_.second_scale;
    } else {
      return;
    }
    const int64_t n = rows_.pictures;
    const at::Tensor guarded = at::fft_fft2(skip->narrow(0, n, n).to(at::kFloat));
    const at::Tensor own = at::fft_fft2(skip->narrow(0, 2 * n, n).to(at::kFloat));
    // The frequencies -1 and 0 of both dimensions.
    at::Tensor low =
        at::zeros({guarded.size(2), guarded.size(3)}, skip->options().dtype(at::kBool));
    for (const int64_t y : {int64_t{0}, low.size(0) - 1}) {
      for (const int64_t x : {int64_t{0}, low.size(1) - 1}) low[y][x] = true;
    }
    const at::Tensor exceeds = at::real(own).le(at::real(guarded)).logical_and(low);
    const at::Tensor filtered =
        at::real(at::fft_ifft2(at::where(exceeds, guarded * scale, guarded)))
            .to(skip->scalar_type());
    *skip = at::cat({skip->narrow(0, 0, n), filtered, skip->narrow(0, 2 * n, n)});
  }

 private:
  const Settings settings_;
  const std::vector<int64_t> channels_;
  RowLayout rows_;
};

class SafreeRun : public HookRun {
 public:
  SafreeRun(const Settings& settings, const Backbone& base, const at::Tensor& concept_span,
            const GuidanceBatch& batch)
      : settings_(settings), re_attention_(settings, base) {
    if (!batch.prompt_ids.defined()) return;
    const at::Tensor embeddings = batch.prompt_embeddings.defined()
                                      ? batch.prompt_embeddings
                                      : ClipTokenEmbeddings(base.text_encoder, batch.prompt_ids);
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < batch.prompt_states.size(0); ++i) {
      const Guarded one = Guard(base, concept_span, settings.alpha, batch.prompt_ids[i],
                                embeddings[i], batch.prompt_states[i]);
      rows.push_back(one.states);
      const double slope = 2 * settings.steepness * (10 * one.change - settings.middle);
      last_.push_back(std::llround(settings.share * static_cast<double>(batch.num_steps) /
                                   (1 + std::exp(-slope))));
    }
    guarded_ = at::stack(rows);
  }

  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t step) override {
    if (!guarded_.defined()) return HookRun::Rows(batch, step);
    std::vector<at::Tensor> rows;
    for (size_t i = 0; i < last_.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      rows.push_back(step <= last_[i] ? guarded_[row] : batch.prompt_states[row]);
    }
    GuidanceBatch now = batch;
    now.prompt_states = at::stack(rows);
    std::vector<at::Tensor> streams = HookRun::Rows(now, step);
    if (settings_.re_attention && streams.size() == 2) streams.push_back(batch.prompt_states);
    return streams;
  }
  at::Tensor Combine(const GuidanceBatch& batch, int64_t step,
                     const std::vector<at::Tensor>& predictions) override {
    if (predictions.size() < 3) return HookRun::Combine(batch, step, predictions);
    return HookRun::Combine(batch, step, {predictions[0], predictions[1]});
  }
  LayerHooks* Layers() override { return settings_.re_attention ? &re_attention_ : nullptr; }

 private:
  const Settings settings_;
  at::Tensor guarded_;         // (batch, tokens, width)
  std::vector<int64_t> last_;  // the last step of each picture that reads them
  ReAttention re_attention_;
};

class SafreeHooks : public Hooks {
 public:
  SafreeHooks(const Settings& settings, Backbone base, at::Tensor concept_span)
      : settings_(settings), base_(std::move(base)), concept_span_(std::move(concept_span)) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    return std::make_unique<SafreeRun>(settings_, base_, concept_span_, batch);
  }
  at::Tensor TextView(const TextBatch& text) const override {
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < text.states.size(0); ++i) {
      rows.push_back(Guard(base_, concept_span_, settings_.alpha, text.ids[i], text.embeddings[i],
                           text.states[i])
                         .states);
    }
    return at::stack(rows);
  }

 private:
  const Settings settings_;
  const Backbone base_;
  const at::Tensor concept_span_;  // (width, width)
};

class Safree : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("alpha", &settings_.alpha, "how much further than the others a trigger lies (a)");
    v.Number("share", &settings_.share, "share of the steps that are guarded at most (u)",
             {.min = 0, .max = 1});
    v.Number("steepness", &settings_.steepness, "of that number of steps in the change (k)",
             {.min = 0});
    v.Number("middle", &settings_.middle, "ten times the change at which half of them are (t)");
    v.Flag(
        "re_attention", &settings_.re_attention,
        "whether low frequencies of skip features are damped where they exceed the prompt's own");
    v.Number("first_scale", &settings_.first_scale, "of the U-Net's widest up blocks", {.min = 0});
    v.Number("second_scale", &settings_.second_scale, "of the next widest ones", {.min = 0});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names"}, true, ""};
    traits.acts = Acts::kWhileDrawing;
    traits.streams = settings_.re_attention ? 3 : 2;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"alpha", 0.01},
              {"share", 0.2},
              {"steepness", 2.5},
              {"middle", 5.333},
              {"re_attention", true}}},
            {"smoke", {{"alpha", -1}, {"share", 1}, {"middle", -10}}}};
  }
  SearchSpace search_space() const override {
    return {{"alpha", {-0.1, 0, 0.01, 0.1}},
            {"share", {0.2, 0.5, 1}},
            {"middle", {1, 3, 5.333}},
            {"re_attention", {false, true}}};
  }
  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    std::vector<std::string> names;
    for (const Concept& subject : concepts) {
      names.insert(names.end(), subject.known.begin(), subject.known.end());
    }
    const at::Tensor ids =
        TokenizeBatch(*base.tokenizer, names, base.clip.text.max_position_embeddings);
    const at::Tensor pooled = Pooled(base, ClipTokenEmbeddings(base.text_encoder, ids), ids);
    Erased erased;
    erased.hooks = std::make_shared<SafreeHooks>(settings_, base, Projection(pooled));
    return erased;
  }

 private:
  Settings settings_;
};

const Registration<Method, Safree> registration;

}  // namespace
}  // namespace excise
