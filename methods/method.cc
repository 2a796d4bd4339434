#include "methods/method.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "core/error.h"
#include "models/tensors/compute.h"

namespace excise {
namespace {

// `original` with the tensors of `replacement` in their places.
StateDict Replace(const StateDict& original, const StateDict& replacement, const char* module) {
  StateDict result = original;
  for (const auto& [name, tensor] : replacement) {
    if (!original.Contains(name)) {
      throw Error(fmt::format(
          "The method replaces {} tensor '{}', which the model does not have: methods may replace "
          "tensors, not add them. Use hooks for what is new.",
          module, name));
    }
    const at::Tensor& old = original.Get(name);
    if (tensor.scalar_type() != at::kFloat || tensor.sizes() != old.sizes()) {
      throw Error(fmt::format(
          "The method's {} tensor '{}' is {} with {} elements; float32 with {} elements in the "
          "original's shape is expected.",
          module, name, toString(tensor.scalar_type()), tensor.numel(), old.numel()));
    }
    if (!at::isfinite(tensor).all().item<bool>()) {
      throw Error(fmt::format(
          "The method's {} tensor '{}' is not finite. Its step or its regulariser is probably too "
          "extreme: lower the learning rate or raise lambda.",
          module, name));
    }
    result.Set(name, PlaceLike(tensor, old));
  }
  return result;
}

}  // namespace

Backbone ApplyErased(const Backbone& base, const Erased& erased) {
  Backbone edited = base;
  edited.text_encoder = Replace(base.text_encoder, erased.text_encoder, "text encoder");
  edited.unet = Replace(base.unet, erased.unet, "U-Net");
  edited.vae = Replace(base.vae, erased.vae, "VAE");
  return edited;
}

}  // namespace excise
