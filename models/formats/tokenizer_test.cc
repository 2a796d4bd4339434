#include "models/formats/tokenizer.h"

#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "core/error.h"
#include "core/json.h"
#include "models/formats/tokenizer_text.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteBytes(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// A tokenizer folder with vocab.json and merges.txt of the fixture, to be damaged.
fs::path CopyOfFixture(const std::string& name) {
  const fs::path folder = TestFolder("tokenizer_" + name), source = RepoFile("tests/fixtures/sd1");
  for (const char* file : {"vocab.json", "merges.txt"}) {
    WriteBytes(folder / file, ReadBytes(source / "tokenizer" / file));
  }
  return folder;
}

std::string MessageOfLoading(const fs::path& folder) {
  try {
    Tokenizer::Load(folder);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("ids, padding and decoded text equal CLIPTokenizerFast's") {
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const fs::path folder = RepoFile("tests/fixtures/" + name);
  const auto tokenizer = Tokenizer::Load(folder / "tokenizer");
  const Json cases = ReadJsonFile(folder / "tokenizer_expected.json");
  REQUIRE(cases.size() >= 20);
  for (const Json& c : cases) {
    const auto text = c["text"].get<std::string>();
    INFO(name << ": " << text);
    const auto ids = c["ids"].get<Ids>();
    CHECK(tokenizer->Encode(text) == ids);
    bool truncated = false;
    CHECK(tokenizer->EncodePadded(text, 16, &truncated) == c["padded"].get<Ids>());
    CHECK(truncated == (ids.size() > 14));
    CHECK(tokenizer->Decode(ids) == c["decoded"].get<std::string>());
  }
  CHECK(tokenizer->model_max_length() == 16);
  CHECK(tokenizer->bos_id() == tokenizer->vocab_size() - 2);
  CHECK(tokenizer->eos_id() == tokenizer->vocab_size() - 1);
  // Stable Diffusion 2 pads with "!", id 0.
  CHECK(tokenizer->pad_id() == (name == "sd2" ? 0 : tokenizer->eos_id()));
}

TEST_CASE("OpenAI's vocabulary gives the published ids") {
  const auto folder = SharedFile("clip_tokenizer");
  if (!folder) {
    WARN("clip_tokenizer is not on this machine: the 49,408-token vocabulary is not tested");
    return;
  }
  const auto tokenizer = Tokenizer::Load(*folder);
  CHECK(tokenizer->vocab_size() == 49408);
  CHECK(tokenizer->bos_id() == 49406);
  CHECK(tokenizer->eos_id() == 49407);
  CHECK(tokenizer->pad_id() == 49407);
  CHECK(tokenizer->model_max_length() == 77);
  const Json cases = ReadJsonFile(*folder / "tokenizer_vectors.json");
  REQUIRE(cases.size() == 45);
  for (const Json& c : cases) {
    INFO(c["text"]);
    Ids ids = tokenizer->Encode(c["text"].get<std::string>());
    ids.insert(ids.begin(), tokenizer->bos_id());
    ids.push_back(tokenizer->eos_id());
    CHECK(ids == c["ids"].get<Ids>());
  }
}

TEST_CASE("training equals the textbook loop and does not depend on the order of the texts") {
  const Json fixture = ReadJsonFile(RepoFile("tests/fixtures/tokenizer_texts.json"));
  auto texts = fixture["texts"].get<std::vector<std::string>>();
  const fs::path expected = RepoFile("tests/fixtures/sd1/tokenizer");
  const fs::path folder = TestFolder("trained");
  for (int order = 0; order < 2; ++order) {
    TrainTokenizer(texts, fixture["num_merges"].get<int64_t>(), 16, folder);
    CHECK(ReadBytes(folder / "merges.txt") == ReadBytes(expected / "merges.txt"));
    CHECK(ReadJsonFile(folder / "vocab.json") == ReadJsonFile(expected / "vocab.json"));
    std::reverse(texts.begin(), texts.end());
  }
  const auto trained = Tokenizer::Load(folder), reference = Tokenizer::Load(expected);
  CHECK(trained->model_max_length() == 16);
  CHECK(trained->pad_id() == trained->eos_id());
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(trained->Encode(text) == reference->Encode(text));
    CHECK_FALSE(trained->Encode(text).empty());
  }
}

TEST_CASE("training ends when no pair is left") {
  const fs::path folder = TestFolder("trained_short");
  TrainTokenizer({"ab", "ab"}, 1000, 8, folder);
  CHECK(ReadBytes(folder / "merges.txt") == "#version: 0.2\na b</w>\n");
  CHECK(Tokenizer::Load(folder)->vocab_size() == 512 + 1 + 2);
  CHECK_THROWS_AS(TrainTokenizer({"ab"}, -1, 8, folder), Error);
  CHECK_THROWS_AS(TrainTokenizer({"ab"}, 1, 1, folder), Error);
}

TEST_CASE("every byte has its own symbol, and the vocabulary starts in GPT-2's order") {
  std::vector<std::string> symbols(bpe::ByteSymbols().begin(), bpe::ByteSymbols().end());
  CHECK(symbols['!'] == "!");
  CHECK(symbols[' '] == "Ġ");
  CHECK(symbols[0] == "Ā");
  CHECK(symbols[0xff] == "ÿ");
  CHECK(bpe::ByteOrder()[0] == '!');
  CHECK(bpe::ByteOrder()[188] == 0);  // the first that is not printable
  std::sort(symbols.begin(), symbols.end());
  CHECK(std::unique(symbols.begin(), symbols.end()) == symbols.end());
}

TEST_CASE("ill-formed UTF-8 becomes U+FFFD, in and out") {
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/sd1/tokenizer"));
  CHECK(tokenizer->Encode("a\xff") == tokenizer->Encode("a\xef\xbf\xbd"));
  const Ids euro = tokenizer->Encode("€");
  REQUIRE(euro.size() >= 2);
  CHECK(tokenizer->Decode({euro.begin(), euro.end() - 1}) == "\xef\xbf\xbd");
}

TEST_CASE("a tokenizer.json alone is enough, in both forms of merges") {
  const fs::path source = RepoFile("tests/fixtures/sd1/tokenizer");
  const auto reference = Tokenizer::Load(source);
  Json model = {{"type", "BPE"}, {"vocab", ReadJsonFile(source / "vocab.json")}};
  const bool pairs = GENERATE(true, false);
  std::ifstream in(source / "merges.txt");
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    const size_t space = line.find(' ');
    model["merges"].push_back(pairs ? Json{line.substr(0, space), line.substr(space + 1)}
                                    : Json(line));
  }
  const fs::path folder = TestFolder("single");
  WriteBytes(folder / "tokenizer.json", Json{{"model", model}}.dump());
  const auto single = Tokenizer::Load(folder);
  const std::string text = "a picture of a poodle, Weihnachtsmann!";
  CHECK(single->Encode(text) == reference->Encode(text));
  WriteBytes(folder / "tokenizer.json", R"({"model": {"type": "Unigram"}})");
  CHECK_THAT(MessageOfLoading(folder), Catch::Contains("tokenizer.json: not a BPE tokenizer"));
}

TEST_CASE("tokens added after the vocabulary are recognised in the text") {
  const fs::path folder = CopyOfFixture("added");
  const int64_t next = Tokenizer::Load(folder)->vocab_size();
  const std::string id = std::to_string(next);
  WriteBytes(folder / "tokenizer_config.json",
             R"({"added_tokens_decoder": {")" + id + R"(": {"content": "<my-dog>"}}})");
  const auto tokenizer = Tokenizer::Load(folder);
  CHECK(tokenizer->vocab_size() == next + 1);
  Ids expected = tokenizer->Encode("a");
  expected.push_back(next);
  expected.push_back(tokenizer->Encode("!")[0]);
  CHECK(tokenizer->Encode("a<my-dog>!") == expected);
  CHECK(tokenizer->Decode({next}) == "<my-dog>");
}

TEST_CASE("malformed files are named, with the line") {
  const fs::path folder = CopyOfFixture("bad");
  const std::string vocab = ReadBytes(folder / "vocab.json");
  const std::string merges = ReadBytes(folder / "merges.txt");
  const auto with = [&](const std::string& file, const std::string& bytes) {
    WriteBytes(folder / "vocab.json", file == "vocab.json" ? bytes : vocab);
    WriteBytes(folder / "merges.txt", file == "merges.txt" ? bytes : merges);
    return MessageOfLoading(folder);
  };
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    REQUIRE(text.find(from) != std::string::npos);
    return text.replace(text.find(from), from.size(), to);
  };
  using Catch::Contains;
  CHECK(with("none", "") == "no error");
  CHECK_THAT(with("merges.txt", replaced(merges, "\n", "\nabc\n")),
             Contains("merges.txt:2:") && Contains("two symbols"));
  CHECK_THAT(with("merges.txt", replaced(merges, "\n", "\na b c\n")), Contains("merges.txt:2:"));
  CHECK_THAT(with("merges.txt", merges + "q zz\n"),
             Contains("merges.txt:92:") && Contains("'zz'") && Contains("lacks"));
  const std::string first = merges.substr(merges.find('\n') + 1);
  CHECK_THAT(with("merges.txt", merges + first.substr(0, first.find('\n') + 1)),
             Contains("merges.txt:92:") && Contains("second time"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "\"#\": 2,", "\"#\": 3,")),
             Contains("vocab.json:") && Contains("has as well"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "\"#\": 2,", "\"#\": -2,")),
             Contains("vocab.json:4:") && Contains("-2"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "\"#\": 2,", "\"#\": 2.5,")),
             Contains("vocab.json:4:") && Contains("not an integer"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "\"#\": 2,", "\"#\": 18446744073709551615,")),
             Contains("vocab.json:4:") && Contains("18446744073709551615"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "\"#\": 2,", "\"#\" 2,")),
             Contains("vocab.json") && Contains("4"));
  CHECK_THAT(with("vocab.json", "[1]"), Contains("vocab.json:1:"));
  CHECK_THAT(with("vocab.json", replaced(vocab, "<|endoftext|>", "<|theend|>")),
             Contains("<|endoftext|>") && Contains("not in the vocabulary"));
  CHECK_THAT(MessageOfLoading(TestFolder("nothing")), Contains("vocab.json is missing"));
}

TEST_CASE("ids and lengths out of range are refused") {
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/sd1/tokenizer"));
  CHECK_THROWS_WITH(tokenizer->Decode({tokenizer->vocab_size()}), Catch::Contains("outside"));
  CHECK_THROWS_WITH(tokenizer->Decode({-1}), Catch::Contains("outside"));
  CHECK_THROWS_AS(tokenizer->EncodePadded("a", 1), Error);
  CHECK(tokenizer->EncodePadded("a b c", 2) == Ids{tokenizer->bos_id(), tokenizer->eos_id()});
}

TEST_CASE("threads may share a tokenizer") {
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/sd1/tokenizer"));
  const std::string text = "a picture of a tropical fish on a white background, банан 🐠";
  const Ids expected = tokenizer->Encode(text);
  std::vector<int> wrong(2, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += tokenizer->Encode(text) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>{0, 0});
}

TEST_CASE("one hostile word of a megabyte takes no quadratic time") {
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/sd1/tokenizer"));
  const auto begin = std::chrono::steady_clock::now();
  const Ids ids = tokenizer->Encode(std::string(1'000'000, 'a'));
  CHECK(ids.size() >= 1'000'000 / 16);
  // A quadratic loop needs minutes here.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("a pipe among a tokenizer's files is refused, not waited for") {
  for (const char* name : {"vocab.json", "merges.txt"}) {
    const fs::path folder = TestFolder(std::string("pipe_") + name);
    fs::copy(RepoFile("tests/fixtures/sd1/tokenizer"), folder, fs::copy_options::recursive);
    fs::remove(folder / name);
    REQUIRE(mkfifo((folder / name).c_str(), 0600) == 0);
    CHECK_THROWS_WITH(Tokenizer::Load(folder), Catch::Contains("is a pipe"));
  }
}

}  // namespace excise
