// Arbitrary bytes through a sound tokenizer whose vocabulary has every byte: merging may lose and
// add nothing, so that what is decoded is the normalised text, its words apart by one space.
#include "core/json.h"
#include "models/formats/tokenizer.h"
#include "models/formats/tokenizer_text.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace excise;
using fuzz::Require;

const Tokenizer& Learned() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    const std::filesystem::path folder = fuzz::EmptyFolder();
    TrainTokenizer({"the quick brown fox's jumps", "over a lazy dog, isn't it", "aaaa abab 1234",
                    "naïve café Weihnachtsmann Papá Noel", "...!!! <|> -- '' 're 've"},
                   150, 77, folder);
    return Tokenizer::Load(folder);
  }();
  return *tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Longer texts say nothing new and cost a hundredfold under the sanitizers.
  const std::string_view text = fuzz::Text(data, size).substr(0, 400);
  const std::vector<int64_t> ids = Learned().Encode(text);
  for (const int64_t id : ids) Require(id >= 0 && id < Learned().vocab_size(), "ids in range");
  Require(ids == Learned().Encode(text), "the same every time");
  const std::string decoded = Learned().Decode(ids);
  Require(Json::accept(Json(decoded).dump()), "decoded text is UTF-8");
  if (text.find("<|") != std::string_view::npos) return 0;  // special tokens are left out
  std::string words;
  for (const std::string& word : bpe::SplitWords(bpe::Normalize(text))) words += word + " ";
  // "</w>" marks the end of a word, and a text may spell it.
  if (words.find("</w>") != std::string::npos) return 0;
  Require(decoded == bpe::CleanUtf8(words), "merging loses and adds nothing");
  return 0;
}
