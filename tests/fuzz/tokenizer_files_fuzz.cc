// A tokenizer from hostile files. Input: sections "@vocab.json", "@merges.txt", "@tokenizer.json",
// "@tokenizer_config.json", "@special_tokens_map.json", each with the lines that follow, and
// "@text" with what is encoded. A tokenizer that loads gives ids within its vocabulary and padded
// rows of the length asked for, and decodes them to UTF-8.
#include "core/json.h"
#include "models/formats/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace excise;
using fuzz::Require;

void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int64_t> ids = tokenizer.Encode(text);
  for (const int64_t id : ids) {
    Require(id >= 0 && id < tokenizer.vocab_size(), "ids lie within the vocabulary");
  }
  const std::string decoded = tokenizer.Decode(ids);
  Require(Json::accept(Json(decoded).dump()), "decoded text is UTF-8");
  bool truncated = false;
  const std::vector<int64_t> padded = tokenizer.EncodePadded(text, 9, &truncated);
  Require(padded.size() == 9 && padded[0] == tokenizer.bos_id(), "a padded row");
  Require(truncated == (ids.size() > 7), "what was cut is said");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input = fuzz::Text(data, size);
  const std::filesystem::path folder = fuzz::EmptyFolder();
  std::string text;
  while (!input.empty()) {
    const std::string_view name = fuzz::TakeLine(&input);
    const size_t end = input.find("\n@");
    const std::string_view body = input.substr(0, end);
    input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
    for (const char* file : {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                             "special_tokens_map.json"}) {
      if (name.substr(0, 1) == "@" && name.substr(1) == file) {
        fuzz::WriteFile(folder / file, body);
      }
    }
    if (name == "@text") text = body;
  }
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!fuzz::Accepts([&] { tokenizer = Tokenizer::Load(folder); })) return 0;
  Require(tokenizer->vocab_size() > 0 && tokenizer->model_max_length() >= 2, "sizes in range");
  for (const int64_t id : {tokenizer->bos_id(), tokenizer->eos_id(), tokenizer->pad_id()}) {
    Require(id >= 0 && id < tokenizer->vocab_size(), "special tokens lie within the vocabulary");
  }
  CheckText(*tokenizer, text);
  return 0;
}
