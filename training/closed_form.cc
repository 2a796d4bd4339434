#include "training/closed_form.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <algorithm>

#include "core/error.h"

namespace excise {

at::Tensor SolveRight(const at::Tensor& b, const at::Tensor& a) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  if (a.dim() != 2 || b.dim() != 2 || a.size(0) != a.size(1) || a.size(0) != b.size(1) ||
      a.scalar_type() != at::kDouble || b.scalar_type() != at::kDouble) {
    throw Error("SolveRight wants float64 matrices (rows, width) and (width, width)");
  }
  const int64_t rows = b.size(0), width = b.size(1);
  const at::Tensor b_rows = b.contiguous(), a_rows = a.contiguous();
  const Eigen::Map<const Matrix> left(b_rows.data_ptr<double>(), rows, width);
  const Eigen::Map<const Matrix> right(a_rows.data_ptr<double>(), width, width);
  const auto factor = right.llt();
  at::Tensor solution = at::zeros({rows, width}, at::kDouble);
  Eigen::Map<Matrix> out(solution.data_ptr<double>(), rows, width);
  if (factor.info() == Eigen::Success) out = factor.solve(left.transpose()).transpose();
  // The factorisation lets NaN through.
  if (factor.info() != Eigen::Success || !out.allFinite()) {
    throw Error(
        fmt::format("A closed form has no single solution: its matrix ({} x {}) is not positive "
                    "definite. Probably a weight (lambda, regularisation) is too small for its "
                    "size, or the model's weights are not finite; raise the weight, or check the "
                    "model.",
                    width, width));
  }
  return solution;
}

at::Tensor NameStates(const Backbone& base, const std::string& name, NameTokens tokens) {
  const int64_t context = base.clip.text.max_position_embeddings;
  const int64_t words = base.tokenizer->Encode(name).size();
  const int64_t last = std::min(words, context - 2);  // after the start token
  const at::Tensor states = EncodeText(base, TokenizeBatch(*base.tokenizer, {name}, context))[0];
  const int64_t start = tokens == NameTokens::kAll ? 0 : last;
  const int64_t end = tokens == NameTokens::kLast ? last + 1 : context;
  return states.slice(0, start, end).to(at::kCPU, at::kDouble);
}

StateDict CrossAttentionMaps(const StateDict& unet) {
  StateDict maps;
  for (const auto& [name, weight] : unet) {
    if (name.find("attn2.to_k.weight") == std::string::npos &&
        name.find("attn2.to_v.weight") == std::string::npos) {
      continue;
    }
    maps.Set(name, weight.to(at::kCPU, at::kDouble));
  }
  return maps;
}

StateDict MapsAsWeights(const StateDict& maps, const StateDict& unet) {
  StateDict weights;
  for (const auto& [name, map] : maps) {
    weights.Set(name, map.to(unet.Get(name).device(), at::kFloat));
  }
  return weights;
}

RidgeEdit::RidgeEdit(int64_t width, double lambda)
    : a_(at::eye(width, at::kDouble).mul_(lambda)), d_(at::zeros({width, width}, at::kDouble)) {}

void RidgeEdit::Move(const at::Tensor& c, const at::Tensor& g, double weight) {
  const int64_t rows = std::min(c.size(0), g.size(0));
  const at::Tensor from = c.slice(0, 0, rows), to = g.slice(0, 0, rows);
  a_.add_(at::matmul(from.t(), from), weight);
  d_.add_(at::matmul(to.sub(from).t(), from), weight);
}

void RidgeEdit::Keep(const at::Tensor& p, double weight) { a_.add_(at::matmul(p.t(), p), weight); }

void RidgeEdit::Apply(StateDict* maps) const {
  const at::Tensor change = SolveRight(d_, a_);
  StateDict edited;
  for (const auto& [name, w0] : *maps) edited.Set(name, w0.add(at::matmul(w0, change)));
  *maps = edited;
}

StateDict FuseMaps(const StateDict& original, const std::vector<MapsAt>& edits,
                   const at::Tensor& kept, double weight, double lambda) {
  at::Tensor a = at::eye(kept.size(1), at::kDouble).mul_(lambda);
  a.add_(at::matmul(kept.t(), kept), weight);
  std::vector<at::Tensor> squares;
  for (const MapsAt& edit : edits) {
    squares.push_back(at::matmul(edit.states.t(), edit.states));
    a.add_(squares.back());
  }
  StateDict fused;
  for (const auto& [name, w0] : original) {
    at::Tensor moved = at::zeros_like(w0);
    for (size_t i = 0; i < edits.size(); ++i) {
      moved.add_(at::matmul(edits[i].maps.Get(name) - w0, squares[i]));
    }
    fused.Set(name, w0 + SolveRight(moved, a));
  }
  return fused;
}

at::Tensor RegenerationMap(const StateDict& original, const StateDict& edited, double lambda) {
  at::Tensor a, b;
  for (const auto& [name, map] : edited) {
    if (!a.defined()) {
      a = at::eye(map.size(1), at::kDouble).mul_(lambda);
      b = at::zeros({map.size(1), map.size(1)}, at::kDouble);
    }
    a.add_(at::matmul(map.t(), map));
    b.add_(at::matmul(original.Get(name).t(), map));
  }
  return SolveRight(b, a);
}

}  // namespace excise
