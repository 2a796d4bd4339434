#include "methods/concept_points.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <vector>

#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

constexpr int64_t kChunk = 16;  // trajectories drawn together

}  // namespace

ConceptPoints ConceptPoints::Some(Philox rng, int64_t batch) const {
  std::vector<int64_t> chosen(static_cast<size_t>(batch));
  for (int64_t& index : chosen) {
    index = static_cast<int64_t>(rng.Below(static_cast<uint64_t>(latents.size(0))));
  }
  const at::Tensor rows = at::tensor(chosen, at::kLong).to(latents.device());
  const auto of = [&](const at::Tensor& all) { return all.index_select(0, rows); };
  return {of(latents), of(timesteps), of(states), of(text), of(empty), of(which)};
}

void PointPool::Fields(ParamVisitor& v) {
  v.Integer("trajectories", &trajectories, "size of the original's pool", {.min = 1});
  v.Integer("sampling_steps", &sampling_steps, "steps of a whole sampling run", {.min = 1});
  v.Number("start_guidance", &start_guidance, "guidance scale of that run", {.min = 0});
}

Passes PointPool::work() const {
  const double chunks = static_cast<double>(trajectories) / kChunk;
  return {Pass::kUNet, static_cast<double>(sampling_steps) * chunks, 2.0 * kChunk};
}

ConceptPoints PointPool::Draw(Context& context, const Backbone& base,
                              const GuidedTrajectory& trajectory, const at::Tensor& texts,
                              const at::Tensor& empty, const std::string& plugin) const {
  const NoGrad no_grad;
  std::vector<at::Tensor> latents, times, states, with_text, without, which;
  for (int64_t begin = 0; begin < trajectories; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, trajectories);
    std::vector<at::Tensor> noise, rows;
    std::vector<int64_t> indices;
    for (int64_t j = begin; j < end; ++j) {
      noise.push_back(UnitNormal(context, base, plugin + "/latents", static_cast<uint64_t>(j)));
      indices.push_back(j % texts.size(0));
      rows.push_back(texts[indices.back()]);
    }
    const at::Tensor chunk_states = at::stack(rows);
    const at::Tensor chunk_which = at::tensor(indices, at::kLong).to(texts.device());
    trajectory.Walk(
        base.unet, at::stack(noise), trajectory.steps(), {chunk_states, empty},
        [&](int64_t step, const at::Tensor& x, const std::vector<at::Tensor>& predictions) {
          latents.push_back(x);
          times.push_back(
              at::tensor(trajectory.timestep(step)).to(x.device()).expand({end - begin}));
          states.push_back(chunk_states);
          which.push_back(chunk_which);
          with_text.push_back(predictions[0]);
          without.push_back(predictions[1]);
          return GuidedPrediction(predictions[1], predictions[0], start_guidance);
        });
  }
  context.CountUnetEvaluations(2 * trajectory.steps() * trajectories);
  return {at::cat(latents),   at::cat(times),   at::cat(states),
          at::cat(with_text), at::cat(without), at::cat(which)};
}

at::Tensor UnitNormal(Context& context, const Backbone& base, std::string_view stream,
                      uint64_t step) {
  const int64_t size = base.unet_config.sample_size;
  Philox rng = context.Rng(stream, step);
  return UnitNormal(&rng, {base.unet_config.in_channels, size, size});
}

}  // namespace excise
