#include "models/tensors/compute.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"
#include "models/tensors/packed.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

const Compute kBf16{at::kCPU, at::kBFloat16};

// Tests run with instruction sets pinned; these are about ones beyond. Before the first operation.
const bool kUnpinned = unsetenv("ONEDNN_MAX_CPU_ISA") == 0 && unsetenv("ATEN_CPU_CAPABILITY") == 0;

bool CanBf16() {
  if (kUnpinned && (CpuHas(CpuFeature::kAvx512Bf16) || CpuHas(CpuFeature::kAmxBf16))) return true;
  WARN("SKIPPED: this CPU computes no bfloat16.");
  return false;
}

double RelativeDifference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kDouble);
  return (at::linalg_vector_norm(a.to(at::kDouble) - wide) / at::linalg_vector_norm(wide))
      .item<double>();
}

TEST_CASE("devices and dtypes that cannot be had are refused with a way out") {
  const Compute plain = ParseCompute("cpu", "fp32");
  CHECK(plain.device.is_cpu());
  CHECK(plain.dtype == at::kFloat);
  CHECK_THROWS_AS(ParseCompute("cpu", "fp16"), UsageError);
  CHECK_THROWS_WITH(ParseCompute("cpu", "fp16"), Contains("CUDA") && Contains("bf16"));
  CHECK_THROWS_WITH(ParseCompute("cpu", "float32"), Contains("Known: fp32, bf16"));
  for (const char* device :
       {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CUDA", "cuda:999", ""}) {
    INFO(device);
    CHECK_THROWS_AS(ParseCompute(device, "fp32"), UsageError);
  }
  CHECK_THROWS_WITH(ParseCompute("cdua", "fp32"), Contains("Did you mean 'cuda'?"));
}

TEST_CASE("bfloat16 is refused where the CPU or its environment would emulate it") {
  const char* given = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string before = given == nullptr ? "" : given;
  setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
  CHECK_THROWS_WITH(ParseCompute("cpu", "bf16"), Contains("1 GF/s"));
  unsetenv("ONEDNN_MAX_CPU_ISA");
  const bool able = CpuHas(CpuFeature::kAvx512Bf16) || CpuHas(CpuFeature::kAmxBf16);
  if (able) {
    CHECK(ParseCompute("cpu", "bf16").dtype == at::kBFloat16);
  } else {
    CHECK_THROWS_WITH(ParseCompute("cpu", "bf16"), Contains("AVX512-BF16"));
  }
  if (given != nullptr) setenv("ONEDNN_MAX_CPU_ISA", before.c_str(), 1);
}

TEST_CASE("device and dtype are part of the numerics, so results of two never meet") {
  const Json plain = Numerics(), half = Numerics(kBf16);
  CHECK(plain["device"] == "cpu");
  CHECK(plain["dtype"] == "float32");
  CHECK(half["dtype"] == "bfloat16");
  CHECK(plain["fingerprint"] == half["fingerprint"]);
}

TEST_CASE("float32 on the CPU shares every tensor") {
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  const Backbone placed = Place(base, Compute{});
  for (const auto& [name, tensor] : base.unet) {
    INFO(name);
    CHECK(placed.unet.Get(name).is_same(tensor));
  }
}

TEST_CASE("packed weights keep their sizes, values and results") {
  if (!CanBf16()) return;
  const at::Tensor conv = nn::InitNormal({24, 16, 3, 3}, 0.1, 1, "conv").to(at::kBFloat16);
  const at::Tensor linear = nn::InitNormal({24, 16}, 0.2, 1, "linear").to(at::kBFloat16);
  const at::Tensor bias = nn::InitNormal({24}, 1, 1, "bias").to(at::kBFloat16);
  for (const at::Tensor& weight : {conv, linear}) {
    const at::Tensor packed = Pack(weight);
    REQUIRE(IsPacked(packed));
    CHECK(packed.sizes() == weight.sizes());
    CHECK(PackedDense(packed).equal(weight));
    CHECK(Pack(packed).is_same(packed));
  }
  StateDict dense, packed;
  dense.Set("c.weight", conv);
  dense.Set("c.bias", bias);
  dense.Set("l.weight", linear);
  packed = Place(dense, kBf16);
  CHECK(IsPacked(packed.Get("c.weight")));
  CHECK_FALSE(IsPacked(packed.Get("c.bias")));
  const at::Tensor image = nn::InitNormal({2, 16, 9, 7}, 1, 1, "image").to(at::kBFloat16);
  const at::Tensor rows = nn::InitNormal({2, 5, 16}, 1, 1, "rows").to(at::kBFloat16);
  for (const int64_t stride : {1, 2}) {
    CHECK(RelativeDifference(nn::Conv2d(packed, "c", image, stride, 1),
                             nn::Conv2d(dense, "c", image, stride, 1)) < 4e-3);
  }
  CHECK(RelativeDifference(nn::Linear(packed, "l", rows), nn::Linear(dense, "l", rows)) < 4e-3);
}

TEST_CASE("gradients pass through packed weights") {
  if (!CanBf16()) return;
  StateDict dense;
  dense.Set("c.weight", nn::InitNormal({8, 8, 3, 3}, 0.1, 1, "conv").to(at::kBFloat16));
  dense.Set("l.weight", nn::InitNormal({8, 6}, 0.2, 1, "linear").to(at::kBFloat16));
  const StateDict packed = Place(dense, kBf16);
  const at::Tensor seed = nn::InitNormal({1, 8, 5, 6}, 1, 1, "x").to(at::kBFloat16);
  const auto gradient = [&](const StateDict& weights) {
    const at::Tensor x = seed.clone().requires_grad_();
    const at::Tensor y = nn::Linear(weights, "l", nn::Conv2d(weights, "c", x, 1, 1));
    return Gradients(y.to(at::kFloat).square().sum(), {x}).front();
  };
  CHECK(RelativeDifference(gradient(packed), gradient(dense)) < 1e-2);
}

TEST_CASE("bfloat16 models follow float32 ones, with float32 latents and pictures") {
  if (!CanBf16()) return;
  const NoGrad no_grad;
  for (const char* folder : {"tests/fixtures/sd1", "tests/fixtures/sd2"}) {
    INFO(folder);
    const Backbone base = LoadBackbone(RepoFile(folder)), half = Place(base, kBf16);
    CHECK(LoadBackbone(RepoFile(folder), kBf16).digest == base.digest);
    const int64_t tokens = base.clip.text.max_position_embeddings;
    const at::Tensor ids = TokenizeBatch(*base.tokenizer, {"a cat", "a dog"}, tokens);
    const at::Tensor states = EncodeText(base, ids);
    CHECK(EncodeText(half, ids).scalar_type() == at::kBFloat16);
    CHECK(RelativeDifference(EncodeText(half, ids), states) < 0.03);
    const at::Tensor latents =
        nn::InitNormal({2, base.unet_config.in_channels, 8, 8}, 1, 1, "latents");
    const at::Tensor time = at::full({}, 500, at::kLong);
    const at::Tensor expected = UNetForward(base.unet_config, base.unet, latents, time, states);
    const at::Tensor actual = UNetForward(half.unet_config, half.unet, latents, time, states);
    CHECK(actual.scalar_type() == at::kFloat);
    CHECK(RelativeDifference(actual, expected) < 0.05);
    const at::Tensor picture = DecodeImages(half, latents);
    CHECK(picture.scalar_type() == at::kFloat);
    CHECK(picture.is_contiguous());
    CHECK(RelativeDifference(picture, DecodeImages(base, latents)) < 0.05);
  }
}

TEST_CASE("a replacement takes the form of what it replaces") {
  if (!CanBf16()) return;
  const at::Tensor old = nn::InitNormal({8, 8}, 1, 1, "old").to(at::kBFloat16);
  const at::Tensor replacement = nn::InitNormal({8, 8}, 1, 1, "new");
  const at::Tensor placed = PlaceLike(replacement, Pack(old));
  CHECK(IsPacked(placed));
  CHECK(PackedDense(placed).equal(replacement.to(at::kBFloat16)));
  CHECK(PlaceLike(replacement, at::zeros({8, 8})).is_same(replacement));
}

}  // namespace
}  // namespace excise
