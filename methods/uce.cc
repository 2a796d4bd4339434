// What: closed-form edit of all cross-attention keys and values: names get their anchor's output
// Paper: Gandikota, Orgad, Belinkov, Materzynska, Bau, "Unified Concept Editing in Diffusion
//   Models", WACV 2024, arXiv 2308.14761
// Equation: W = (l W0 + a sum_e W0 g_e c_e' + b sum_p W0 p p') A^-1,
//   A = l I + a sum_e c_e c_e' + b sum_p p p' (eq. 7). The first factor is W0 (A + D) with
//   D = a sum_e (g_e - c_e) c_e', so W = W0 + W0 D A^-1: one solve serves all maps.
// Reference: rohitgandikota/unified-concept-editing @ 28c81ed, trainscripts/uce_sd_erase.py
// Deviations: float64 Cholesky instead of a float32 inverse (A is symmetric positive definite);
//   "all_tokens" keeps the empty prompt too, as that repository's first release did
// Needs: known names, anchor and preserved names; no picture, no U-Net evaluation
// Caveats: edits what the bare names encode; a name that was not listed may still reach the concept
#include <ATen/core/Tensor.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <Eigen/Cholesky>

#include "methods/method.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// B A^-1 for a symmetric positive definite A; both (width, width), float64.
at::Tensor SolveRight(const at::Tensor& b, const at::Tensor& a) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const int64_t width = a.size(0);
  const at::Tensor b_rows = b.contiguous(), a_rows = a.contiguous();
  const Eigen::Map<const Matrix> left(b_rows.data_ptr<double>(), width, width);
  const Eigen::Map<const Matrix> right(a_rows.data_ptr<double>(), width, width);
  at::Tensor solution = at::zeros({width, width}, at::kDouble);
  Eigen::Map<Matrix> out(solution.data_ptr<double>(), width, width);
  out = right.llt().solve(left.transpose()).transpose();
  return solution;
}

class Uce : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("lambda", &lambda_, "weight of the original map (l)", {.min = 1e-9});
    v.Number("erase_scale", &erase_scale_, "weight of erased names (a)", {.min = 0});
    v.Number("preserve_scale", &preserve_scale_, "weight of preserved names (b)", {.min = 0});
    v.Choice("variant", &variant_,
             "text states of a name that are edited: its last token's, or those from its last "
             "token to the end of the padding",
             {"last_token", "all_tokens"});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override { return {{"known_names", "anchor", "preserve"}, true, ""}; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"lambda", 0.5}, {"preserve_scale", 1}, {"variant", "last_token"}}}};
  }
  SearchSpace search_space() const override {
    return {{"lambda", {0.01, 0.03, 0.1, 0.3, 1, 3}},
            {"preserve_scale", {0.3, 1, 3, 10}},
            {"variant", {"last_token", "all_tokens"}}};
  }

  Erased Erase(Context&, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const NoGrad no_grad;
    const int64_t width = base.unet_config.cross_attention_dim;
    at::Tensor a = at::eye(width, at::kDouble).mul_(lambda_);
    at::Tensor d = at::zeros({width, width}, at::kDouble);
    const auto keep = [&](const at::Tensor& p) { a.add_(at::matmul(p.t(), p), preserve_scale_); };
    for (const Concept& subject : concepts) {
      const at::Tensor anchor = States(base, subject.anchor);
      for (const std::string& name : subject.known) {
        const at::Tensor states = States(base, name);
        // Rows are tokens; the two texts are aligned at their last tokens.
        const int64_t rows = std::min(states.size(0), anchor.size(0));
        const at::Tensor c = states.slice(0, 0, rows), g = anchor.slice(0, 0, rows);
        a.add_(at::matmul(c.t(), c), erase_scale_);
        d.add_(at::matmul(g.sub(c).t(), c), erase_scale_);
      }
      for (const std::string& name : subject.preserve) keep(States(base, name));
    }
    if (variant_ == "all_tokens") keep(States(base, ""));

    const at::Tensor change = SolveRight(d, a);
    Erased erased;
    for (const auto& [name, weight] : base.unet) {
      if (name.find("attn2.to_k.weight") == std::string::npos &&
          name.find("attn2.to_v.weight") == std::string::npos) {
        continue;
      }
      const at::Tensor w0 = weight.to(at::kCPU, at::kDouble);
      erased.unet.Set(name, w0.add(at::matmul(w0, change)).to(weight.device(), at::kFloat));
    }
    return erased;
  }

 private:
  // Text states that stand for `name`, float64 (rows, width), the last token's first.
  at::Tensor States(const Backbone& base, const std::string& name) const {
    const int64_t context = base.clip.text.max_position_embeddings;
    const int64_t words = base.tokenizer->Encode(name).size();
    const int64_t last = std::min(words, context - 2);  // after the start token; "" = start token
    const at::Tensor states = EncodeText(base, TokenizeBatch(*base.tokenizer, {name}, context))[0];
    const int64_t end = variant_ == "all_tokens" ? context : last + 1;
    return states.slice(0, last, end).to(at::kCPU, at::kDouble);
  }

  double lambda_ = 0.3, erase_scale_ = 1, preserve_scale_ = 3;
  std::string variant_ = "last_token";
};

const Registration<Method, Uce> registration;

}  // namespace
}  // namespace excise
