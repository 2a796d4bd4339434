#include "models/snapshots/snapshot_writer.h"

#include <fmt/format.h>

#include "core/error.h"
#include "models/tensors/packed.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Whether a file holds weights, or says which files do.
bool IsWeights(const fs::path& file) {
  const std::string extension = file.extension().string(), name = file.filename().string();
  for (const char* one : {".safetensors", ".bin", ".ckpt", ".pt", ".msgpack", ".onnx", ".h5"}) {
    if (extension == one) return true;
  }
  return name.find(".index.") != std::string::npos;
}

void CopyFile(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, error);
  if (!error) return;
  throw Error(
      fmt::format("{} cannot be copied to {}: {}.", from.string(), to.string(), error.message()));
}

// Everything of a part but its weights.
void CopyPart(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_directories(to, error);
  if (!error) {
    for (const auto& entry : fs::directory_iterator(from, error)) {
      if (entry.is_regular_file() && !IsWeights(entry.path())) {
        CopyFile(entry.path(), to / entry.path().filename());
      }
    }
  }
  if (!error) return;
  throw Error(
      fmt::format("{} cannot be copied to {}: {}. An edited model is written beside the "
                  "configs of the snapshot that it was made of.",
                  from.string(), to.string(), error.message()));
}

StateDict Plain(const StateDict& weights) {
  StateDict out;
  for (const auto& [name, tensor] : weights) {
    at::Tensor dense = IsPacked(tensor) ? PackedDense(tensor) : tensor;
    if (dense.is_floating_point()) dense = dense.to(at::kFloat);
    out.Set(name, dense.detach().to(at::kCPU).contiguous());
  }
  return out;
}

}  // namespace

void SaveSnapshot(const Backbone& edited, const fs::path& folder) {
  if (fs::exists(folder) && !fs::is_empty(folder)) {
    throw Error(
        fmt::format("{} is not empty. Name a new folder for the edited model.", folder.string()));
  }
  for (const char* part : {"tokenizer", "text_encoder", "unet", "vae", "scheduler"}) {
    CopyPart(edited.folder / part, folder / part);
  }
  SaveSafetensors(folder / "text_encoder" / "model.safetensors", Plain(edited.text_encoder));
  const std::string stem = "diffusion_pytorch_model.safetensors";
  SaveSafetensors(folder / "unet" / stem, Plain(edited.unet));
  SaveSafetensors(folder / "vae" / stem, Plain(edited.vae));
  const fs::path index = edited.folder / "model_index.json";
  if (fs::exists(index)) CopyFile(index, folder / "model_index.json");
}

}  // namespace excise
