// Learns byte-pair merges (Sennrich et al., ACL 2016, arXiv 1508.07909) over the words that
// Tokenizer::Encode would cut.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/json.h"
#include "core/store.h"
#include "models/formats/tokenizer.h"
#include "models/formats/tokenizer_text.h"

namespace excise {
namespace {

using Pair = std::pair<int64_t, int64_t>;

struct PairHash {
  size_t operator()(const Pair& pair) const {
    return std::hash<uint64_t>()(static_cast<uint64_t>(pair.first) * 0x9e3779b97f4a7c15u ^
                                 static_cast<uint64_t>(pair.second));
  }
};

class Trainer {
 public:
  explicit Trainer(const std::vector<std::string>& texts) {
    for (const bool end : {false, true}) {
      for (const unsigned char byte : bpe::ByteOrder()) {
        AddToken(bpe::ByteSymbols()[byte] + (end ? std::string(bpe::kEndOfWord) : ""));
      }
    }
    std::map<std::string, int64_t> counts;
    for (const std::string& text : texts) {
      for (std::string& word : bpe::SplitWords(bpe::Normalize(text))) ++counts[std::move(word)];
    }
    for (const auto& [text, count] : counts) {
      Word word{{}, count};
      for (size_t i = 0; i < text.size(); ++i) {
        const std::string& symbol = bpe::ByteSymbols()[static_cast<unsigned char>(text[i])];
        word.symbols.push_back(
            ids_.at(symbol + (i + 1 == text.size() ? std::string(bpe::kEndOfWord) : "")));
      }
      words_.push_back(std::move(word));
    }
    for (size_t i = 0; i < words_.size(); ++i) CountPairs(i, +1);
    for (const auto& [pair, count] : pair_counts_) Offer(pair);
    changed_.clear();
  }

  // The most frequent pair becomes one symbol. False when no pair is left.
  bool Step() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const auto count = pair_counts_.find(best.pair);
      if (count == pair_counts_.end() || count->second != best.count) continue;  // outdated
      Merge(best.pair);
      return true;
    }
    return false;
  }

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<Pair>& merges() const { return merges_; }

 private:
  struct Word {
    std::vector<int64_t> symbols;
    int64_t count;
  };
  struct Candidate {
    int64_t count;
    std::string left, right;
    Pair pair;
    // The top of the queue: most frequent, then lexicographically smallest.
    bool operator<(const Candidate& other) const {
      if (count != other.count) return count < other.count;
      return std::tie(left, right) > std::tie(other.left, other.right);
    }
  };

  int64_t AddToken(const std::string& token) {
    const auto [found, inserted] = ids_.emplace(token, static_cast<int64_t>(tokens_.size()));
    if (inserted) tokens_.push_back(token);
    return found->second;
  }

  void CountPairs(size_t index, int64_t sign) {
    const Word& word = words_[index];
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      const Pair pair{word.symbols[i], word.symbols[i + 1]};
      const int64_t count = pair_counts_[pair] += sign * word.count;
      if (count == 0) pair_counts_.erase(pair);
      if (sign > 0) pair_words_[pair].insert(index);
      changed_.insert(pair);
    }
  }

  void Offer(const Pair& pair) {
    const auto count = pair_counts_.find(pair);
    if (count == pair_counts_.end()) return;
    queue_.push({count->second, tokens_[static_cast<size_t>(pair.first)],
                 tokens_[static_cast<size_t>(pair.second)], pair});
  }

  void Merge(const Pair& pair) {
    // Two ways to one token (ab+c, a+bc) share its id.
    const int64_t merged = AddToken(tokens_[static_cast<size_t>(pair.first)] +
                                    tokens_[static_cast<size_t>(pair.second)]);
    merges_.push_back(pair);
    const std::set<size_t> indices = std::move(pair_words_[pair]);
    pair_words_.erase(pair);
    changed_.clear();
    for (const size_t index : indices) {
      CountPairs(index, -1);
      std::vector<int64_t>& symbols = words_[index].symbols;
      std::vector<int64_t> joined;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here =
            symbols[i] == pair.first && i + 1 < symbols.size() && symbols[i + 1] == pair.second;
        joined.push_back(here ? merged : symbols[i]);
        i += here;
      }
      symbols = std::move(joined);
      CountPairs(index, +1);
    }
    for (const Pair& changed : changed_) Offer(changed);
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int64_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> pair_counts_;
  std::unordered_map<Pair, std::set<size_t>, PairHash> pair_words_;
  std::set<Pair> changed_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> merges_;
};

// {"token": id} in the order of ids, one a line: nlohmann would sort the keys, and a reader wants
// to see the ids rise.
std::string VocabJson(const std::vector<std::string>& tokens) {
  std::string out = "{\n";
  for (size_t i = 0; i < tokens.size(); ++i) {
    out += fmt::format("{}: {}{}\n", Json(tokens[i]).dump(), i, i + 1 < tokens.size() ? "," : "");
  }
  return out + "}\n";
}

}  // namespace

void TrainTokenizer(const std::vector<std::string>& texts, int64_t num_merges, int64_t max_length,
                    const std::filesystem::path& folder) {
  if (num_merges < 0 || max_length < 2) {
    throw Error(
        fmt::format("TrainTokenizer needs num_merges >= 0 and max_length >= 2, not {} and "
                    "{}.",
                    num_merges, max_length));
  }
  Trainer trainer(texts);
  for (int64_t i = 0; i < num_merges && trainer.Step(); ++i) {
  }
  std::vector<std::string> tokens = trainer.tokens();
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : trainer.merges()) {
    merges += fmt::format("{} {}\n", tokens[static_cast<size_t>(left)],
                          tokens[static_cast<size_t>(right)]);
  }
  tokens.emplace_back(bpe::kStartOfText);
  tokens.emplace_back(bpe::kEndOfText);
  const Json special = {{"bos_token", bpe::kStartOfText},
                        {"eos_token", bpe::kEndOfText},
                        {"unk_token", bpe::kEndOfText},
                        {"pad_token", bpe::kEndOfText}};
  Json config = special;
  config["tokenizer_class"] = "CLIPTokenizer";
  config["model_max_length"] = max_length;
  config["do_lower_case"] = true;
  config["add_prefix_space"] = false;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw Error(
        fmt::format("{}: the folder cannot be made: {}.", folder.string(), error.message()));
  }
  WriteFileAtomically(folder / "merges.txt", merges);
  WriteFileAtomically(folder / "special_tokens_map.json", special.dump(2) + "\n");
  WriteFileAtomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
  WriteFileAtomically(folder / "vocab.json", VocabJson(tokens));
}

}  // namespace excise
