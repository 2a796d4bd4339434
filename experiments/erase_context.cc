#include "experiments/erase_context.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include "core/hash.h"

namespace excise {

EraseContext::EraseContext(const Lab& lab, size_t method, std::string subject,
                           std::filesystem::path checkpoint, DrawBase draw)
    : lab_(lab),
      stream_(lab.methods[method].name + "/" + subject),
      checkpoint_(std::move(checkpoint)),
      draw_(std::move(draw)) {}

Philox EraseContext::Rng(std::string_view name, uint64_t step) {
  const std::string id = "erase/" + stream_ + "/" + std::string(name);
  return Philox({static_cast<uint64_t>(lab_.experiment.seeds.erase), id, 0, Stream::kInit, step});
}

std::vector<std::string> EraseContext::Prompts(const Concept& subject, const std::string& group,
                                               int64_t limit) {
  std::vector<std::string> texts;
  for (const Prompt& prompt : lab_.dataset->Prompts(subject, group, Split::kErase, limit).prompts) {
    texts.push_back(prompt.text);
  }
  return texts;
}

at::Tensor EraseContext::Images(const std::vector<std::string>& texts) {
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    Prompt prompt;
    prompt.id = prompt.root_id = "erase/" + Sha256Hex(text).substr(0, 16);
    prompt.text = text;
    prompts.push_back(prompt);
  }
  return draw_(prompts, lab_.experiment.seeds.erase, 0).to(at::kFloat).div_(255.0);
}

MeteredTarget::MeteredTarget(const Lab& lab, std::string attack, const ClipModel& surrogate,
                             DrawBase draw)
    : lab_(lab), attack_(std::move(attack)), surrogate_(surrogate), draw_(std::move(draw)) {}

at::Tensor MeteredTarget::ReferenceImages(const Prompt& prompt, int64_t n) {
  // Noise of its own: an attack must not know the noise that it is judged on.
  std::vector<at::Tensor> images;
  for (int64_t replicate = 0; replicate < n; ++replicate) {
    images.push_back(draw_({prompt}, lab_.experiment.seeds.attack + 1000003, replicate));
  }
  return at::cat(images).to(at::kFloat).div_(255.0);
}

Philox MeteredTarget::Rng(const Prompt& prompt, uint64_t step) {
  const std::string id = "attack/" + attack_ + "/" + prompt.root_id;
  return Philox(
      {static_cast<uint64_t>(lab_.experiment.seeds.attack), id, 0, Stream::kAttack, step});
}

}  // namespace excise
