#include "methods/multi_head_filter/multi_head.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/text.h"
#include "methods/clip_filter.h"
#include "models/nets/nn.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr double kNormEps = 1e-5, kNormMomentum = 0.1;
constexpr uintmax_t kMostBytes = uintmax_t{256} << 20;
constexpr const char* kKerasMean = "normalization.mean";

bool IsKeras(const StateDict& head) { return head.Contains(kKerasMean); }

// "dense_<k>" by rising k.
std::vector<std::string> DenseLayers(const StateDict& head) {
  std::map<int64_t, std::string> layers;
  for (const auto& [name, tensor] : head) {
    if (!StartsWith(name, "dense_")) continue;
    const std::string layer = name.substr(0, name.find('.'));
    int64_t index = 0;
    const char *begin = layer.data() + 6, *end = layer.data() + layer.size();
    if (std::from_chars(begin, end, index).ptr == end && begin != end) layers[index] = layer;
  }
  std::vector<std::string> names;
  for (const auto& [index, layer] : layers) names.push_back(layer);
  return names;
}

at::Tensor KerasLogits(const StateDict& head, const at::Tensor& embeds) {
  const at::Tensor mean = head.Get(kKerasMean).to(embeds.options());
  const at::Tensor deviation =
      head.Get("normalization.variance").to(embeds.options()).sqrt().clamp_min(1e-7);
  at::Tensor x = nn::Normalised(embeds);
  x = at::where(mean.gt(1), at::ones({}, x.options()), x);  // categories
  x = (x - mean) / deviation;
  const std::vector<std::string> layers = DenseLayers(head);
  for (const std::string& layer : layers) {
    x = at::linear(x, head.Get(layer + ".kernel").t().to(x.options()),
                   head.Get(layer + ".bias").to(x.options()));
    if (layer != layers.back()) x = x.relu();
  }
  return x.squeeze(-1);
}

at::Tensor SequentialLogits(const StateDict& head, const at::Tensor& embeds,
                            const at::Tensor& mask) {
  const bool training = mask.defined();
  at::Tensor x = nn::Linear(head, "0", embeds.to(head.Get("0.weight").options())).relu();
  if (training) x = x * mask;
  x = at::batch_norm(x, head.Get("3.weight"), head.Get("3.bias"), head.Get("3.running_mean"),
                     head.Get("3.running_var"), training, kNormMomentum, kNormEps,
                     /*cudnn_enabled=*/false);
  return nn::Linear(head, "4", x).squeeze(-1);
}

void RequireShape(const StateDict& head, const std::string& name, at::IntArrayRef shape,
                  const std::string& origin) {
  const at::Tensor& tensor = head.Get(name);
  if (tensor.sizes() == shape) return;
  throw Error(fmt::format("{}: tensor '{}' has shape ({}), but ({}) is needed here.", origin, name,
                          fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", ")));
}

int64_t CheckKeras(const StateDict& head, const std::string& origin) {
  const int64_t width = head.Get(kKerasMean).numel();
  RequireShape(head, kKerasMean, {width}, origin);
  RequireShape(head, "normalization.variance", {width}, origin);
  const std::vector<std::string> layers = DenseLayers(head);
  if (layers.empty()) {
    throw Error(fmt::format("{}: has a normalisation but no layer dense_<k>.", origin));
  }
  int64_t in = width;
  for (const std::string& layer : layers) {
    const int64_t out = layer == layers.back() ? 1 : head.Get(layer + ".bias").numel();
    RequireShape(head, layer + ".kernel", {in, out}, origin);
    RequireShape(head, layer + ".bias", {out}, origin);
    in = out;
  }
  return width;
}

int64_t CheckSequential(const StateDict& head, const std::string& origin) {
  const at::Tensor& first = head.Get("0.weight");
  if (first.dim() != 2) RequireShape(head, "0.weight", {384, 768}, origin);
  const int64_t hidden = first.size(0);
  for (const char* name : {"0.bias", "3.weight", "3.bias", "3.running_mean", "3.running_var"}) {
    RequireShape(head, name, {hidden}, origin);
  }
  RequireShape(head, "4.weight", {1, hidden}, origin);
  RequireShape(head, "4.bias", {1}, origin);
  return first.size(1);
}

}  // namespace

at::Tensor HeadLogits(const StateDict& head, const at::Tensor& embeds) {
  return IsKeras(head) ? KerasLogits(head, embeds) : SequentialLogits(head, embeds, {});
}

at::Tensor TrainingLogits(const StateDict& head, const at::Tensor& embeds, const at::Tensor& mask) {
  return SequentialLogits(head, embeds, mask);
}

int64_t CheckHead(const StateDict& head, const std::string& origin) {
  if (!IsKeras(head) && !head.Contains("0.weight")) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : head) names.push_back(name);
    if (names.size() > 4) names.resize(4);
    throw Error(fmt::format(
        "{}: is no head that is known: it has neither '{}' (LAION's NSFW detectors) nor '0.weight' "
        "(Unsafe Diffusion's heads). It has {}.",
        origin, kKerasMean, names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, ", "))));
  }
  try {
    return IsKeras(head) ? CheckKeras(head, origin) : CheckSequential(head, origin);
  } catch (const Error& error) {
    const std::string text = error.what();  // a missing tensor: say in which file
    throw Error(StartsWith(text, origin) ? text : origin + ": " + text);
  }
}

std::map<std::string, StateDict> ReadHeads(const fs::path& path,
                                           const std::vector<std::string>& only) {
  std::map<std::string, fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() != ".safetensors") continue;
      files[entry.path().stem().string()] = entry.path();
    }
    if (files.empty()) {
      throw Error(
          fmt::format("{}: holds no .safetensors file. Heads in .pt files are converted "
                      "offline: pickles are never read.",
                      path.string()));
    }
  } else {
    files[path.stem().string()] = path;
  }
  std::vector<std::string> known;
  for (const auto& [name, file] : files) known.push_back(name);
  for (const std::string& name : only) {
    if (files.count(name) != 0) continue;
    throw UsageError(fmt::format("{}: there is no head '{}'.{}", path.string(), name,
                                 DidYouMeanOrKnown(name, known)));
  }
  std::map<std::string, StateDict> heads;
  for (const auto& [name, file] : files) {
    if (!only.empty() && !IsOneOf(name, only)) continue;
    std::error_code ignored;
    if (const uintmax_t bytes = fs::file_size(file, ignored); !ignored && bytes > kMostBytes) {
      throw Error(fmt::format("{}: {} MB is too large for a head.", file.string(), bytes >> 20));
    }
    StateDict head = LoadSafetensors(file);
    CheckHead(head, file.string());
    heads[name] = std::move(head);
  }
  return heads;
}

StateDict InitHead(int64_t width, uint64_t seed) {
  const int64_t hidden = std::max<int64_t>(1, width / 2);
  StateDict head;
  nn::InitLayer(&head, "0", {hidden, width}, /*bias=*/true, seed);
  nn::InitNorm(&head, "3", hidden);
  head.Set("3.running_mean", at::zeros({hidden}, at::kFloat));
  head.Set("3.running_var", at::ones({hidden}, at::kFloat));
  nn::InitLayer(&head, "4", {1, hidden}, /*bias=*/true, seed);
  return head;
}

StateDict JoinHeads(const std::map<std::string, StateDict>& heads) {
  StateDict joined;
  for (const auto& [name, head] : heads) {
    for (const auto& [tensor_name, tensor] : head) {
      joined.Set(name + "/" + tensor_name, tensor.contiguous());
    }
  }
  return joined;
}

std::map<std::string, StateDict> PartHeads(const StateDict& joined) {
  std::map<std::string, StateDict> heads;
  for (const auto& [name, tensor] : joined) {
    const size_t slash = name.rfind('/');
    heads[name.substr(0, slash)].Set(name.substr(slash + 1), tensor);
  }
  return heads;
}

}  // namespace excise
