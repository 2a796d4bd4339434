#include "attacks/hard_prompt.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Valid UTF-8 of printable characters, with at least one that is no space.
bool IsPrintable(const std::string& text) {
  bool visible = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = CodePointAt(text, i);
    const char32_t c = point.value;
    if (point.length == 0 || c < 0x20 || (c >= 0x7F && c <= 0xA0)) return false;  // C1, no-break
    if (c == 0xFFFD) return false;                                                // not decodable
    if (c != ' ') visible = true;
    i += point.length;
  }
  return visible;
}

// Words of the known names as the tokenizer sees them: lower case, at white space.
std::vector<std::string> ListedWords(const Tokenizer& tokenizer, const Concept& subject) {
  std::vector<std::string> words;
  for (const std::string& name : subject.known) {
    std::istringstream text(tokenizer.Decode(tokenizer.Encode(name)));
    for (std::string word; text >> word;) words.push_back(word);
  }
  return words;
}

bool IsListed(std::string token, const std::vector<std::string>& words) {
  token.erase(std::remove(token.begin(), token.end(), ' '), token.end());
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    return (token.size() >= 3 && word.find(token) != std::string::npos) ||
           token.find(word) != std::string::npos;
  });
}

}  // namespace

std::vector<int64_t> UsableTokens(const Tokenizer& tokenizer, const std::string& choice,
                                  const Concept& subject) {
  const std::vector<std::string> words =
      choice == "unlisted" ? ListedWords(tokenizer, subject) : std::vector<std::string>{};
  std::vector<int64_t> usable;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (id == tokenizer.bos_id() || id == tokenizer.eos_id() || id == tokenizer.pad_id()) continue;
    const std::string text = tokenizer.Decode({id});
    if (choice == "all" || (IsPrintable(text) && !IsListed(text, words))) usable.push_back(id);
  }
  if (usable.empty()) {
    throw Error("The surrogate's tokenizer has no token that a prompt could use.");
  }
  return usable;
}

at::Tensor ImageTargets(TransferTarget& target, const Prompt& prompt, int64_t n) {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  return nn::Normalised(EmbedPictures(clip, target.ReferenceImages(prompt, n)));
}

at::Tensor TextTarget(TransferTarget& target, const Prompt& prompt) {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  ++target.ledger().text_evaluations;
  return nn::Normalised(EmbedTexts(clip, {prompt.text}));
}

HardPromptScorer::HardPromptScorer(const ClipModel& clip, at::Tensor targets,
                                   std::vector<int64_t> usable, int64_t length)
    : clip_(clip), targets_(std::move(targets)), usable_(std::move(usable)), length_(length) {
  const NoGrad no_grad;
  const int64_t context = clip.config.text.max_position_embeddings;
  if (length + 2 > context) {
    throw UsageError(fmt::format(
        "prompt_len {} does not fit the surrogate's context of {} tokens with start and end token; "
        "at most {} can be used.",
        length, context, context - 2));
  }
  usable_ids_ = at::tensor(usable_, at::kLong);
  directions_ = nn::Normalised(Embed(usable_ids_.unsqueeze(0))[0]);
  const at::Tensor start = at::tensor({clip.tokenizer->bos_id()}, at::kLong).unsqueeze(0);
  const at::Tensor end = at::tensor({clip.tokenizer->eos_id()}, at::kLong).unsqueeze(0);
  start_ = Embed(start);
  end_ = Embed(end);
  frame_ids_ = at::cat({start, at::full({1, length}, usable_[0], at::kLong), end}, 1);
}

at::Tensor HardPromptScorer::RandomIds(int64_t restarts, Philox* rng) const {
  std::vector<int64_t> ids(restarts * length_);
  for (int64_t& id : ids) id = usable_[rng->Below(usable_.size())];
  return at::tensor(ids, at::kLong).view({restarts, length_});
}

at::Tensor HardPromptScorer::Embed(const at::Tensor& ids) const {
  return ClipTokenEmbeddings(clip_.weights, ids);
}

at::Tensor HardPromptScorer::Nearest(const at::Tensor& embeddings) const {
  const NoGrad no_grad;
  // Lengths of the queries do not change the order.
  const at::Tensor best = at::matmul(embeddings, directions_.t()).argmax(-1);
  return usable_ids_.index_select(0, best.flatten()).view(best.sizes());
}

at::Tensor HardPromptScorer::Similarities(const at::Tensor& embeddings) const {
  const int64_t restarts = embeddings.size(0);
  const at::Tensor framed =
      at::cat({start_.expand({restarts, 1, -1}), embeddings, end_.expand({restarts, 1, -1})}, 1);
  const at::Tensor embeds = EmbedTokens(clip_.config.text, clip_.weights, framed,
                                        frame_ids_.expand({restarts, length_ + 2}));
  return at::matmul(nn::Normalised(embeds), targets_.t());
}

void KeepBest(std::string_view attack, const Tokenizer& tokenizer, const Prompt& seed,
              const at::Tensor& ids, const at::Tensor& scores, const Ledger& ledger,
              Trajectory* trajectory) {
  const int64_t best = scores.argmax().item<int64_t>();
  const double score = scores[best].item<double>();
  if (!trajectory->empty() && !(score > trajectory->back().score)) return;
  const at::Tensor row = ids[best].contiguous();
  const std::vector<int64_t> tokens(row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + row.numel());
  Candidate candidate;
  candidate.prompt = AdversarialPrompt(seed, attack, static_cast<int64_t>(trajectory->size()),
                                       tokenizer.Decode(tokens));
  candidate.prompt.token_ids = tokens;
  candidate.prompt.round_trip = tokenizer.Encode(candidate.prompt.text) == tokens;
  candidate.ledger = ledger;
  candidate.score = score;
  trajectory->push_back(std::move(candidate));
}

}  // namespace excise
