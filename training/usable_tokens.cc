#include "training/usable_tokens.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/text.h"
#include "models/nets/clip.h"
#include "models/nets/nn.h"
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

// Words of the listed names as the tokenizer sees them: lower case, at white space.
std::vector<std::string> ListedWords(const Tokenizer& tokenizer,
                                     const std::vector<std::string>& listed) {
  std::vector<std::string> words;
  for (const std::string& name : listed) {
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
                                  const std::vector<std::string>& listed) {
  const std::vector<std::string> words =
      choice == "unlisted" ? ListedWords(tokenizer, listed) : std::vector<std::string>{};
  std::vector<int64_t> usable;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (id == tokenizer.bos_id() || id == tokenizer.eos_id() || id == tokenizer.pad_id()) continue;
    const std::string text = tokenizer.Decode({id});
    if (choice == "all" || (IsPrintable(text) && !IsListed(text, words))) usable.push_back(id);
  }
  if (usable.empty()) {
    throw Error(
        "The tokenizer has no token that a prompt could use: none decodes alone to text that "
        "passes the "
        "choice of tokens. Allow 'all' of them.");
  }
  return usable;
}

TokenTable::TokenTable(const StateDict& text_encoder, std::vector<int64_t> usable)
    : text_encoder_(text_encoder), usable_(std::move(usable)) {
  const NoGrad no_grad;
  usable_ids_ = at::tensor(usable_, at::kLong);
  directions_ = nn::Normalised(Embed(usable_ids_.unsqueeze(0))[0]);
}

at::Tensor TokenTable::RandomIds(int64_t rows, int64_t length, Philox* rng) const {
  std::vector<int64_t> ids(static_cast<size_t>(rows * length));
  for (int64_t& id : ids) id = usable_[rng->Below(usable_.size())];
  return at::tensor(ids, at::kLong).view({rows, length});
}

at::Tensor TokenTable::Embed(const at::Tensor& ids) const {
  return ClipTokenEmbeddings(text_encoder_, ids);
}

at::Tensor TokenTable::Nearest(const at::Tensor& embeddings) const {
  const NoGrad no_grad;
  // Lengths of the queries do not change the order.
  const at::Tensor best = at::matmul(embeddings, directions_.t()).argmax(-1).to(at::kCPU);
  return usable_ids_.index_select(0, best.flatten()).view(best.sizes());
}

at::Tensor TokenTable::Furthest(const at::Tensor& directions, int64_t k) const {
  const NoGrad no_grad;
  const at::Tensor reach = at::matmul(directions, Embed(usable_ids_.unsqueeze(0))[0].t());
  const at::Tensor best =
      std::get<1>(reach.topk(std::min<int64_t>(k, usable_ids_.size(0)), 1)).to(at::kCPU);
  return usable_ids_.index_select(0, best.flatten()).view(best.sizes());
}

}  // namespace excise
