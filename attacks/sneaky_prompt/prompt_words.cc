#include "attacks/sneaky_prompt/prompt_words.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace excise {
namespace {

std::vector<NamePlace> WordsOf(const std::u32string& text) {
  std::vector<NamePlace> words;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsWord(text[i])) continue;
    if (i == 0 || !IsWord(text[i - 1])) words.push_back({i, i});
    words.back().end = i + 1;
  }
  return words;
}

}  // namespace

size_t CountWords(const std::string& text) { return WordsOf(DecodeUtf8(text)).size(); }

std::vector<std::string> PiecesOf(const Tokenizer& tokenizer, const std::vector<int64_t>& usable,
                                  int64_t letters) {
  std::set<std::string> pieces;
  for (const int64_t id : usable) {
    std::string piece;
    for (const char c : tokenizer.Decode({id})) {
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) piece += c;
    }
    if (!piece.empty() && static_cast<int64_t>(piece.size()) < letters) pieces.insert(piece);
  }
  return {pieces.begin(), pieces.end()};
}

PromptWords::PromptWords(const std::string& text, const std::vector<std::string>& names,
                         int64_t subwords)
    : text_(DecodeUtf8(text)),
      known_(names),
      subwords_(subwords),
      words_(PlacesOfNames(text_, names)) {
  names_ = words_.size();
  for (const NamePlace& word : WordsOf(text_)) {
    const bool taken = std::any_of(
        words_.begin(), words_.begin() + static_cast<std::ptrdiff_t>(names_),
        [&](const NamePlace& name) { return word.begin < name.end && name.begin < word.end; });
    if (!taken) words_.push_back(word);
  }
  attacked_ = std::min(std::max<size_t>(1, names_), words_.size());
}

std::vector<std::string> PromptWords::WithoutEach() const {
  std::vector<std::string> texts;
  for (size_t i = names_; i < words_.size(); ++i) {
    texts.push_back(EncodeUtf8(text_.substr(0, words_[i].begin) + text_.substr(words_[i].end)));
  }
  return texts;
}

void PromptWords::OrderOthers(const std::vector<double>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  const std::vector<NamePlace> before = words_;
  for (size_t i = 0; i < order.size(); ++i) words_[names_ + i] = before[names_ + order[i]];
}

bool PromptWords::HoldsName(const std::string& text) const {
  return !PlacesOfNames(DecodeUtf8(text), known_).empty();
}

double PromptWords::Share() const {
  return static_cast<double>(attacked_) / static_cast<double>(words_.size());
}

bool PromptWords::AttackOneMore() {
  if (attacked_ == words_.size()) return false;
  ++attacked_;
  return true;
}

std::string PromptWords::With(const std::vector<std::string>& pieces, const Picks& picks) const {
  std::vector<std::pair<NamePlace, std::string>> changes;
  for (size_t word = 0; word < attacked_; ++word) {
    std::string instead;
    for (int64_t k = 0; k < subwords_; ++k) {
      const size_t at = word * static_cast<size_t>(subwords_) + static_cast<size_t>(k);
      if (at < picks.size()) instead += pieces[static_cast<size_t>(picks[at])];
    }
    changes.emplace_back(words_[word], instead);
  }
  std::sort(changes.begin(), changes.end(),
            [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
  std::u32string text;
  size_t done = 0;
  for (const auto& [place, instead] : changes) {
    text += text_.substr(done, place.begin - done) + DecodeUtf8(instead);
    done = place.end;
  }
  return EncodeUtf8(text + text_.substr(done));
}

}  // namespace excise
