// CLIP's byte-level BPE tokenizer (openai/CLIP clip/simple_tokenizer.py; transformers'
// CLIPTokenizerFast: NFC, white space collapsed, lower case), on ICU.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

class Tokenizer {
 public:
  // Reads vocab.json, merges.txt, tokenizer_config.json (and special_tokens_map.json) of `folder`.
  // Throws Error naming the file.
  static std::shared_ptr<const Tokenizer> Load(const std::filesystem::path& folder);

  // Ids of `text` without start, end or padding.
  std::vector<int64_t> Encode(std::string_view text) const;
  // start, ids (cut to max_length - 2), end, padding to max_length. `truncated` says if cut.
  std::vector<int64_t> EncodePadded(std::string_view text, int64_t max_length,
                                    bool* truncated = nullptr) const;
  // Text of ids; special tokens are skipped; "</w>" becomes a space.
  std::string Decode(const std::vector<int64_t>& ids) const;

  int64_t vocab_size() const;
  int64_t bos_id() const;
  int64_t eos_id() const;
  int64_t pad_id() const;
  int64_t model_max_length() const;  // 77 unless tokenizer_config.json says otherwise

  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  ~Tokenizer();

 private:
  std::shared_ptr<const Impl> impl_;
};

// Learns `num_merges` byte-pair merges from `texts` (each with a count) and writes vocab.json,
// merges.txt, tokenizer_config.json and special_tokens_map.json to `folder`. Ties go to the
// lexicographically smaller pair, so the result does not depend on order.
void TrainTokenizer(const std::vector<std::string>& texts, int64_t num_merges, int64_t max_length,
                    const std::filesystem::path& folder);

}  // namespace excise
