#include "models/formats/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "core/error.h"
#include "models/formats/tokenizer_files.h"
#include "models/formats/tokenizer_text.h"

namespace excise {

// Immutable after Load; no cache of words, so that threads share it without a lock.
struct Tokenizer::Impl {
  struct Merge {
    int64_t rank, id;
  };
  std::vector<std::string> tokens;
  std::unordered_map<uint64_t, Merge> merges;  // by (left id << 32 | right id)
  std::array<int64_t, 256> byte_ids{}, end_byte_ids{};
  std::vector<bpe::AddedToken> raw_tokens, normalized_tokens;
  std::vector<bool> special;                                    // by id
  std::unordered_map<std::string, unsigned char> symbol_bytes;  // byte symbol -> byte
  int64_t bos = 0, eos = 0, pad = 0, unk = 0, max_length = 77;

  void AppendWord(std::string_view word, std::vector<int64_t>* ids) const;
  void AppendPlain(std::string_view normalized, std::vector<int64_t>* ids) const;
  void AppendNormalized(std::string_view normalized, std::vector<int64_t>* ids) const;
};

namespace {

uint64_t PairKey(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

// Calls `plain` for the stretches between added tokens and `token` for the added tokens of `text`;
// the leftmost wins, then the longest.
template <typename Plain, typename Token>
void SplitAtTokens(std::string_view text, const std::vector<bpe::AddedToken>& tokens, Plain plain,
                   Token token) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size() && !tokens.empty();) {
    const bpe::AddedToken* best = nullptr;
    for (const bpe::AddedToken& candidate : tokens) {
      if (text.compare(i, candidate.content.size(), candidate.content) == 0 &&
          (best == nullptr || candidate.content.size() > best->content.size())) {
        best = &candidate;
      }
    }
    if (best == nullptr) {
      ++i;
      continue;
    }
    if (i > begin) plain(text.substr(begin, i - begin));
    token(best->id);
    i += best->content.size();
    begin = i;
  }
  if (begin < text.size()) plain(text.substr(begin));
}

}  // namespace

// Merges the pair of lowest rank first, the leftmost of equals: a heap over a linked list, so that
// a long word costs n log n.
void Tokenizer::Impl::AppendWord(std::string_view word, std::vector<int64_t>* ids) const {
  struct Node {
    int64_t id;
    int previous, next;
    bool alive;
  };
  std::vector<Node> nodes;
  const int n = static_cast<int>(word.size());
  nodes.reserve(word.size());
  for (int i = 0; i < n; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
    nodes.push_back(
        {i + 1 == n ? end_byte_ids[byte] : byte_ids[byte], i - 1, i + 1 == n ? -1 : i + 1, true});
  }
  using Candidate = std::tuple<int64_t, int, int64_t, int64_t>;  // rank, position, left, right
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int position) {
    if (position < 0 || nodes[static_cast<size_t>(position)].next < 0) return;
    const Node& left = nodes[static_cast<size_t>(position)];
    const int64_t right = nodes[static_cast<size_t>(left.next)].id;
    const auto merge = merges.find(PairKey(left.id, right));
    if (merge != merges.end()) queue.emplace(merge->second.rank, position, left.id, right);
  };
  for (int i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const auto [rank, position, left_id, right_id] = queue.top();
    queue.pop();
    Node& left = nodes[static_cast<size_t>(position)];
    if (!left.alive || left.id != left_id || left.next < 0) continue;
    Node& right = nodes[static_cast<size_t>(left.next)];
    if (right.id != right_id) continue;
    left.id = merges.at(PairKey(left_id, right_id)).id;
    left.next = right.next;
    right.alive = false;
    if (left.next >= 0) nodes[static_cast<size_t>(left.next)].previous = position;
    offer(left.previous);
    offer(position);
  }
  for (const Node& node : nodes) {
    if (node.alive) ids->push_back(node.id);
  }
}

void Tokenizer::Impl::AppendPlain(std::string_view normalized, std::vector<int64_t>* ids) const {
  for (const std::string& word : bpe::SplitWords(normalized)) AppendWord(word, ids);
}

void Tokenizer::Impl::AppendNormalized(std::string_view normalized,
                                       std::vector<int64_t>* ids) const {
  SplitAtTokens(
      normalized, normalized_tokens, [&](std::string_view text) { AppendPlain(text, ids); },
      [&](int64_t id) { ids->push_back(id); });
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::Load(const std::filesystem::path& folder) {
  bpe::TokenizerFiles files = bpe::ReadTokenizerFiles(folder);
  auto impl = std::make_shared<Impl>();
  std::unordered_map<std::string, int64_t> ids;
  for (size_t i = 0; i < files.tokens.size(); ++i) ids[files.tokens[i]] = static_cast<int64_t>(i);
  for (size_t rank = 0; rank < files.merges.size(); ++rank) {
    const auto& [left, right] = files.merges[rank];
    for (const std::string& token : {left, right, left + right}) {
      if (ids.count(token) == 0) {
        throw Error(
            fmt::format("{}: the merge '{} {}' needs the token '{}', which the vocabulary "
                        "lacks. Do the two files belong together?",
                        files.merge_origins[rank], left, right, token));
      }
    }
    const Impl::Merge merge{static_cast<int64_t>(rank), ids[left + right]};
    if (!impl->merges.emplace(PairKey(ids[left], ids[right]), merge).second) {
      throw Error(fmt::format("{}: the merge '{} {}' stands here a second time.",
                              files.merge_origins[rank], left, right));
    }
  }
  impl->bos = ids.at(files.bos);
  impl->eos = ids.at(files.eos);
  impl->pad = ids.at(files.pad);
  impl->unk = ids.at(files.unk);
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string& symbol = bpe::ByteSymbols()[byte];
    const auto id_of = [&](const std::string& token) {
      const auto found = ids.find(token);
      return found == ids.end() ? impl->unk : found->second;
    };
    impl->byte_ids[byte] = id_of(symbol);
    impl->end_byte_ids[byte] = id_of(symbol + std::string(bpe::kEndOfWord));
    impl->symbol_bytes[symbol] = static_cast<unsigned char>(byte);
  }
  impl->special.resize(files.tokens.size(), false);
  for (bpe::AddedToken& token : files.added) {
    impl->special[static_cast<size_t>(token.id)] = token.special;
    if (token.normalized) token.content = bpe::Normalize(token.content);
    (token.normalized ? impl->normalized_tokens : impl->raw_tokens).push_back(token);
  }
  impl->tokens = std::move(files.tokens);
  impl->max_length = files.model_max_length;
  return std::make_shared<const Tokenizer>(std::move(impl));
}

std::vector<int64_t> Tokenizer::Encode(std::string_view text) const {
  std::vector<int64_t> ids;
  SplitAtTokens(
      text, impl_->raw_tokens,
      [&](std::string_view part) { impl_->AppendNormalized(bpe::Normalize(part), &ids); },
      [&](int64_t id) { ids.push_back(id); });
  return ids;
}

std::vector<int64_t> Tokenizer::EncodePadded(std::string_view text, int64_t max_length,
                                             bool* truncated) const {
  if (max_length < 2) {
    throw Error(fmt::format("A text needs room for its start and end token, but max_length is {}.",
                            max_length));
  }
  const std::vector<int64_t> ids = Encode(text);
  const auto size = static_cast<size_t>(max_length);
  const size_t kept = std::min(ids.size(), size - 2);
  if (truncated != nullptr) *truncated = kept < ids.size();
  std::vector<int64_t> padded;
  padded.reserve(size);
  padded.push_back(bos_id());
  padded.insert(padded.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept));
  padded.push_back(eos_id());
  padded.resize(size, pad_id());
  return padded;
}

std::string Tokenizer::Decode(const std::vector<int64_t>& ids) const {
  std::string symbols;
  for (const int64_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw Error(
          fmt::format("Token id {} is outside the vocabulary of {} tokens. Do the ids come "
                      "from another tokenizer?",
                      id, vocab_size()));
    }
    if (!impl_->special[static_cast<size_t>(id)]) symbols += impl_->tokens[static_cast<size_t>(id)];
  }
  std::string bytes;
  for (const std::string& character : bpe::Characters(symbols)) {
    const auto byte = impl_->symbol_bytes.find(character);
    if (byte == impl_->symbol_bytes.end()) {
      bytes += character;  // an added token may hold any character
    } else {
      bytes += static_cast<char>(byte->second);
    }
  }
  std::string text;
  for (size_t begin = 0;;) {
    const size_t end = bytes.find(bpe::kEndOfWord, begin);
    text += bytes.substr(begin, end - begin);
    if (end == std::string::npos) break;
    text += ' ';
    begin = end + bpe::kEndOfWord.size();
  }
  return bpe::CleanUtf8(text);
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->tokens.size()); }
int64_t Tokenizer::bos_id() const { return impl_->bos; }
int64_t Tokenizer::eos_id() const { return impl_->eos; }
int64_t Tokenizer::pad_id() const { return impl_->pad; }
int64_t Tokenizer::model_max_length() const { return impl_->max_length; }

}  // namespace excise
