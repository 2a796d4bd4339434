#include "attacks/hard_prompt.h"

#include <ATen/ops/matmul.h>

#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "training/soft_prompt.h"

namespace excise {

at::Tensor ImageTargets(Target& target, const Prompt& prompt, int64_t n, const PictureEdit& edit) {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  const at::Tensor pictures = target.ReferenceImages(prompt, n);
  return nn::Normalised(EmbedPictures(clip, edit ? edit(pictures) : pictures));
}

at::Tensor TextTarget(Target& target, const Prompt& prompt) {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  ++target.ledger().text_evaluations;
  return nn::Normalised(EmbedTexts(clip, {prompt.text}));
}

HardPromptScorer::HardPromptScorer(const ClipModel& clip, at::Tensor targets,
                                   std::vector<int64_t> usable, int64_t length)
    : clip_(clip), targets_(std::move(targets)), tokens_(clip.weights, std::move(usable)) {
  const NoGrad no_grad;
  const int64_t context = clip.config.text.max_position_embeddings;
  frame_ids_ = MakePromptGap(*clip.tokenizer, "", "", length, context).ids.narrow(1, 0, length + 2);
  frame_ = tokens_.Embed(frame_ids_);
}

at::Tensor HardPromptScorer::Similarities(const at::Tensor& embeddings) const {
  at::Tensor embeds = nn::Normalised(EmbedTokens(clip_.config.text, clip_.weights,
                                                 PlaceTokens(frame_, embeddings, 1),
                                                 frame_ids_.expand({embeddings.size(0), -1})));
  if (targets_.dim() == 3) embeds = embeds.view({targets_.size(0), -1, embeds.size(1)});
  return at::matmul(embeds, targets_.transpose(-1, -2));
}

Prompt PromptOfTokens(const Prompt& seed, std::string_view attack, int64_t index,
                      const Tokenizer& tokenizer, std::vector<int64_t> ids) {
  Prompt prompt = AdversarialPrompt(seed, attack, index, tokenizer.Decode(ids));
  prompt.round_trip = tokenizer.Encode(prompt.text) == ids;
  prompt.token_ids = std::move(ids);
  return prompt;
}

void KeepBest(std::string_view attack, const Tokenizer& tokenizer, const Prompt& seed,
              const at::Tensor& ids, const at::Tensor& scores, const Ledger& ledger,
              Trajectory* trajectory) {
  const at::Tensor here = scores.to(at::kCPU);
  const int64_t best = here.argmax().item<int64_t>();
  const double score = here[best].item<double>();
  if (!trajectory->empty() && !(score > trajectory->back().score)) return;
  const at::Tensor row = ids[best].contiguous();
  Candidate candidate;
  candidate.prompt =
      PromptOfTokens(seed, attack, static_cast<int64_t>(trajectory->size()), tokenizer,
                     {row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + row.numel()});
  candidate.ledger = ledger;
  candidate.score = score;
  trajectory->push_back(std::move(candidate));
}

}  // namespace excise
