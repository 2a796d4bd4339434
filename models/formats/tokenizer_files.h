// A tokenizer's files as plain data, checked: vocab.json and merges.txt, or tokenizer.json alone
// (what transformers 5 writes), with tokenizer_config.json and special_tokens_map.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace excise::bpe {

// A token that is recognised in the text before words are cut.
struct AddedToken {
  std::string content;
  int64_t id = -1;
  bool special = true;      // left out by Decode
  bool normalized = false;  // looked for after normalisation
};

struct TokenizerFiles {
  std::vector<std::string> tokens;                          // by id
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
  std::vector<std::string> merge_origins;                   // "file:line" of each merge
  std::vector<AddedToken> added;
  std::string bos, eos, pad, unk;  // contents
  int64_t model_max_length = 77;
};

// Throws Error naming the file, and the line where there is one.
TokenizerFiles ReadTokenizerFiles(const std::filesystem::path& folder);

}  // namespace excise::bpe
