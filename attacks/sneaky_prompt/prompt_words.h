// What sneaky_prompt puts together: the words of a prompt in the order in which they are attacked,
// and the pieces of words that replace them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attacks/names_in_text.h"
#include "models/formats/tokenizer.h"

namespace excise {

// What may stand in a word's place: texts of `usable` tokens, their letters A to Z alone, fewer
// than `letters` of them; sorted, each once.
std::vector<std::string> PiecesOf(const Tokenizer& tokenizer, const std::vector<int64_t>& usable,
                                  int64_t letters);

using Picks = std::vector<int64_t>;  // pieces of the words under attack, word by word

class PromptWords {
 public:
  // `names`: of the concept, as they stand in `text`; they are attacked first, all at once.
  PromptWords(const std::string& text, const std::vector<std::string>& names, int64_t subwords);

  // Of the words that are no names: what is left of the text without each, in the order of the
  // text. OrderOthers attacks first whose text has the lowest of `scores`.
  std::vector<std::string> WithoutEach() const;
  void OrderOthers(const std::vector<double>& scores);

  int64_t stages() const { return static_cast<int64_t>(attacked_) * subwords_; }  // picks
  double Share() const;  // of the words, under attack
  bool AttackOneMore();  // false where there is none
  // The text with these pieces in the place of the words under attack; those that are missing are
  // empty.
  std::string With(const std::vector<std::string>& pieces, const Picks& picks) const;
  // Whether one of the names stands in `text`: what any list of them would stop.
  bool HoldsName(const std::string& text) const;

 private:
  const std::u32string text_;
  const std::vector<std::string> known_;
  const int64_t subwords_;
  std::vector<NamePlace> words_;  // in the order in which they are attacked
  size_t names_ = 0, attacked_ = 1;
};

// Words of letters and digits: how many `text` has.
size_t CountWords(const std::string& text);

}  // namespace excise
