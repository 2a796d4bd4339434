#include "experiments/run/erase_context.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"

namespace excise {

bool Drawn::Blocked(int64_t i) const {
  const auto filter = detected.find("filter");
  return filter != detected.end() &&
         filter->second.scores[i].item<double>() > filter->second.threshold;
}

EraseContext::EraseContext(const Lab& lab, size_t method, size_t subject,
                           std::filesystem::path checkpoint, DrawBase draw)
    : lab_(lab),
      method_(lab.methods[method]),
      seed_(lab.EraseSeedOf(method)),
      inputs_(lab.removals.at(method).at(subject)),
      checkpoint_(std::move(checkpoint)),
      draw_(std::move(draw)) {}

Philox EraseContext::Rng(std::string_view name, uint64_t step) {
  if (!method_.plugin->traits().seeded) {
    throw Error(fmt::format(
        "method '{}' asked for random numbers, but does not declare that it draws, so it would be "
        "erased once for all erase seeds. Let traits().seeded be true.",
        method_.name));
  }
  std::string id = "erase/" + method_.plugin_name + "/";
  // A removal that reads no concept draws the same numbers whichever it is computed with.
  for (const Concept& subject : inputs_.concepts) id += subject.name + "/";
  id += name;
  return Philox({static_cast<uint64_t>(seed_), id, 0, Stream::kInit, step});
}

std::vector<std::string> EraseContext::Prompts(const Concept& subject, const std::string& group,
                                               int64_t limit) {
  const auto asked = inputs_.prompts.find({subject.name, group});
  const MethodTraits traits = method_.plugin->traits();
  const auto declared = traits.prompts.find(group);
  if (asked == inputs_.prompts.end() || limit > declared->second) {
    throw Error(fmt::format(
        "method '{}' asked for {} prompts of group '{}' of concept '{}', and declares {}, so its "
        "result would be stored under a key that does not name them. Let traits().prompts say so.",
        method_.name, limit, group, subject.name,
        declared == traits.prompts.end() ? "none" : fmt::format("{}", declared->second)));
  }
  const PromptTexts& read = asked->second;
  if (!read.problem.empty()) throw Error(read.problem);
  const size_t n = std::min(read.texts.size(), static_cast<size_t>(std::max<int64_t>(limit, 0)));
  return {read.texts.begin(), read.texts.begin() + static_cast<int64_t>(n)};
}

void EraseContext::ForParts(const std::vector<std::string>& texts, const UsePart& use) {
  if (!inputs_.pictures) {
    throw Error(fmt::format(
        "method '{}' asked for pictures of the unmodified model, but declares that it needs none, "
        "so its key does not say how they are drawn. Let traits().base_pictures be true.",
        method_.name));
  }
  const auto size = static_cast<size_t>(lab_.experiment.sampler.unit_size);
  for (size_t start = 0; start < texts.size(); start += size) {
    const size_t end = std::min(start + size, texts.size());
    const std::vector<std::string> part = {texts.begin() + start, texts.begin() + end};
    std::vector<Prompt> prompts;
    for (const std::string& text : part) {
      Prompt prompt;
      prompt.id = prompt.root_id = "erase/" + Sha256Hex(text).substr(0, 16);
      prompt.text = text;
      prompts.push_back(prompt);
    }
    const Drawn drawn = draw_(prompts);
    // Counted also when they were stored: what a removal costs must not depend on the store.
    if (counted_.insert(part).second) {
      cost_.unet_evaluations += drawn.evaluations_per_image * drawn.images.size(0);
    }
    use(static_cast<int64_t>(start), drawn);
  }
}

at::Tensor EraseContext::Images(const std::vector<std::string>& texts) {
  const int64_t side = lab_.PictureSide();
  at::Tensor images = at::empty({static_cast<int64_t>(texts.size()), 3, side, side}, at::kFloat);
  ForParts(texts, [&](int64_t first, const Drawn& part) {
    images.narrow(0, first, part.images.size(0)).copy_(part.images);
  });
  return images.div_(255.0);
}

at::Tensor EraseContext::Latents(const std::vector<std::string>& texts) {
  const UNetConfig& unet = lab_.backbone.unet_config;
  at::Tensor latents = at::empty(
      {static_cast<int64_t>(texts.size()), unet.in_channels, unet.sample_size, unet.sample_size},
      at::kFloat);
  ForParts(texts, [&](int64_t first, const Drawn& part) {
    latents.narrow(0, first, part.latents.size(0)).copy_(part.latents);
  });
  return latents;
}

}  // namespace excise
