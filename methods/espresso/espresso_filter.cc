#include "methods/espresso/espresso_filter.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>

#include <algorithm>

#include "models/nets/nn.h"

namespace excise {
namespace {

constexpr const char* kUnacceptable = "unacceptable";
constexpr const char* kAcceptable = "acceptable";
constexpr const char* kThreshold = "threshold";
constexpr double kLeast = 1e-6;  // as for the parameter: float32 has no p_u much nearer to 1

class EspressoFilter : public ClipFilter {
 public:
  EspressoFilter(ClipModel clip, const EspressoSettings& settings, ConceptTexts texts)
      : ClipFilter(std::move(clip), settings.threshold, settings.replacement),
        settings_(settings),
        texts_(std::move(texts)),
        scale_(FilterLogitScale(this->clip()) / settings.temperature) {}

  at::Tensor ScoreEmbeddings(const at::Tensor& embeds) const override {
    return Logits(embeds).sigmoid();
  }
  at::Tensor MarginEmbeddings(const at::Tensor& embeds) const override {
    return Logits(embeds) - Logit(Threshold());
  }

  // The released certificate and the distance that it bounds; for the softmax rule alone.
  std::map<std::string, at::Tensor> Measures(const at::Tensor& images) const override {
    if (settings_.rule != "softmax") return {};
    const at::Tensor embeds = FilterPictures(clip(), images);
    const at::Tensor norms = embeds.norm(2, {-1});
    return {
        {"certified_radius", PublishedRadius(MarginEmbeddings(embeds).sigmoid(), norms, scale_)},
        {"certified_most", norms / (scale_ + 1)},
        {"boundary_distance", BoundaryDistance(embeds, texts_, scale_, Threshold())}};
  }

  // A prompt stands where a picture of it should lie.
  at::Tensor TextMargin(const TextBatch& text) const override {
    if (!settings_.reads_prompts || !text.pooled.defined()) return {};
    return MarginEmbeddings(text.pooled);
  }

 private:
  at::Tensor Logits(const at::Tensor& embeds) const {
    return EspressoMargin(settings_.rule, nn::Normalised(embeds), texts_, scale_);
  }

  EspressoSettings settings_;
  ConceptTexts texts_;
  double scale_;
};

}  // namespace

StateDict EspressoState(const std::vector<at::Tensor>& unacceptable,
                        const std::vector<at::Tensor>& acceptable) {
  int64_t most = 0;
  for (const at::Tensor& texts : acceptable) most = std::max(most, texts.size(0));
  std::vector<at::Tensor> lists;
  for (size_t i = 0; i < unacceptable.size(); ++i) {
    const at::Tensor& own = acceptable[i];
    const at::Tensor again = own.narrow(0, 0, 1).expand({most - own.size(0), -1});
    lists.push_back(at::cat({own, again}).unsqueeze(0).expand({unacceptable[i].size(0), -1, -1}));
  }
  StateDict state;
  state.Set(kUnacceptable, at::cat(unacceptable).contiguous());
  state.Set(kAcceptable, at::cat(lists).contiguous());
  return state;
}

ConceptTexts TextsOf(const StateDict& state) {
  return {state.Get(kUnacceptable), state.Get(kAcceptable)};
}

void SetThreshold(const at::Tensor& margins, double misses, StateDict* state) {
  const at::Tensor threshold = at::quantile(margins.to(at::kDouble), misses).sigmoid();
  state->Set(kThreshold, threshold.clamp(kLeast, 1 - kLeast).to(at::kFloat));
}

std::shared_ptr<const Hooks> MakeEspressoFilter(ClipModel clip, EspressoSettings settings,
                                                const StateDict& state) {
  if (state.Contains(kThreshold)) settings.threshold = state.Get(kThreshold).item<double>();
  return std::make_shared<EspressoFilter>(std::move(clip), settings, TextsOf(state));
}

}  // namespace excise
