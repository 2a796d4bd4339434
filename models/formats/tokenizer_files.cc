#include "models/formats/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "core/read_file.h"
#include "core/text.h"
#include "models/formats/tokenizer_text.h"

namespace excise::bpe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTokens = 4'000'000;  // far above any CLIP vocabulary; bounds the allocation

// The line on which the key `token` stands in `text`, for messages.
int64_t LineOfKey(const std::string& text, const std::string& token) {
  const size_t at = text.find(Json(token).dump());
  if (at == std::string::npos) return 1;
  return 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
}

// {"token": id, ...} to tokens by id.
std::vector<std::string> ParseVocab(const Json& vocab, const std::string& text,
                                    const fs::path& path) {
  const auto where = [&](const std::string& token) {
    return fmt::format("{}:{}: token {}", path.string(), LineOfKey(text, token),
                       Json(token).dump());
  };
  if (!vocab.is_object() || vocab.empty()) {
    throw Error(fmt::format("{}:1: the vocabulary must be a JSON object of token to id, not empty.",
                            path.string()));
  }
  const auto size = static_cast<int64_t>(vocab.size());
  if (size > kMaxTokens) {
    throw Error(
        fmt::format("{}: {} tokens; at most {} are accepted.", path.string(), size, kMaxTokens));
  }
  std::vector<std::string> tokens(static_cast<size_t>(size));
  std::vector<bool> taken(tokens.size(), false);
  for (const auto& [token, value] : vocab.items()) {
    if (!value.is_number_integer()) {
      throw Error(fmt::format("{} has the id {}, which is not an integer.", where(token),
                              value.dump().substr(0, 40)));
    }
    const bool too_big = value.is_number_unsigned() && value.get<uint64_t>() >= tokens.size();
    const int64_t id = too_big ? size : value.get<int64_t>();
    if (id < 0 || id >= size) {
      throw Error(
          fmt::format("{} has the id {}; {} tokens need the ids 0 to {}, each once. Is the "
                      "file cut or edited?",
                      where(token), value.dump(), size, size - 1));
    }
    const auto i = static_cast<size_t>(id);
    if (taken[i]) {
      throw Error(fmt::format("{} has the id {}, which token {} has as well.", where(token), id,
                              Json(tokens[i]).dump()));
    }
    if (token.empty()) throw Error(where(token) + " is empty.");
    taken[i] = true;
    tokens[i] = token;
  }
  return tokens;
}

void ParseMerges(const fs::path& path, TokenizerFiles* files) {
  const std::string text = ReadFile(path);
  int64_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || StartsWith(line, "#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos) {
      throw Error(fmt::format(
          "{}:{}: a merge is two symbols with one space between; found {}.", path.string(),
          line_number,
          Json(line.substr(0, 60)).dump(-1, ' ', false, Json::error_handler_t::replace)));
    }
    files->merges.emplace_back(line.substr(0, space), line.substr(space + 1));
    files->merge_origins.push_back(fmt::format("{}:{}", path.string(), line_number));
  }
}

// tokenizer.json of the `tokenizers` library: merges are "a b" or ["a", "b"].
void ParseTokenizerJson(const fs::path& path, TokenizerFiles* files) {
  const std::string text = ReadFile(path);
  const Json root = ParseJson(text, path.string());
  if (!root.is_object() || !root.contains("model") || !root["model"].is_object() ||
      root["model"].value("type", Json("BPE")) != "BPE" || !root["model"].contains("vocab") ||
      !root["model"].contains("merges") || !root["model"]["merges"].is_array()) {
    throw Error(fmt::format("{}: not a BPE tokenizer (model.type \"BPE\" with vocab and merges).",
                            path.string()));
  }
  files->tokens = ParseVocab(root["model"]["vocab"], text, path);
  for (const Json& merge : root["model"]["merges"]) {
    const std::string origin =
        fmt::format("{} /model/merges/{}", path.string(), files->merges.size());
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const auto pair = merge.get<std::string>();
      const size_t space = pair.find(' ');
      left = pair.substr(0, space);
      if (space != std::string::npos) right = pair.substr(space + 1);
    }
    if (left.empty() || right.empty()) {
      throw Error(fmt::format("{}: a merge is two symbols; found {}.", origin, merge.dump()));
    }
    files->merges.emplace_back(std::move(left), std::move(right));
    files->merge_origins.push_back(origin);
  }
}

// One entry of a special tokens map: "content" or {"content": ..., "normalized": ...}.
std::optional<AddedToken> ParseToken(const Json& value, const std::string& origin) {
  if (value.is_null()) return std::nullopt;
  AddedToken token;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    token.content = value["content"].get<std::string>();
    token.normalized = value.value("normalized", Json(false)) == true;
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      if (value.value(flag, Json(false)) == true) {
        throw Error(fmt::format("{}: token {} sets {}, which is not supported.", origin,
                                Json(token.content).dump(), flag));
      }
    }
  } else {
    throw Error(
        fmt::format("{}: expected a token (a string, or an object with \"content\").", origin));
  }
  if (token.content.empty()) throw Error(fmt::format("{}: the token is empty.", origin));
  return token;
}

int64_t ParseMaxLength(const Json& value, const std::string& origin) {
  if (!value.is_number() || value.get<double>() < 2) {
    throw Error(fmt::format("{}: model_max_length must be a number of at least 2; found {}.",
                            origin, value.dump().substr(0, 40)));
  }
  // transformers writes 1e30 for "not set".
  return value.get<double>() > 1e6 ? 77 : value.get<int64_t>();
}

void AddToken(const AddedToken& token, TokenizerFiles* files) {
  for (AddedToken& known : files->added) {
    if (known.content == token.content) return;
  }
  files->added.push_back(token);
}

// The named tokens of tokenizer_config.json, then of special_tokens_map.json, which wins (as in
// transformers; Stable Diffusion 2 sets its pad token "!" only there).
void ReadSpecialTokens(const fs::path& folder, TokenizerFiles* files) {
  std::map<std::string, AddedToken> named;
  named["bos_token"].content = kStartOfText;
  for (const char* name : {"eos_token", "pad_token", "unk_token"}) named[name].content = kEndOfText;
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path path = folder / file;
    if (!fs::exists(path)) continue;
    const Json config = ReadJsonFile(path);
    if (!config.is_object()) throw Error(path.string() + ": expected a JSON object.");
    for (auto& [name, token] : named) {
      if (!config.contains(name)) continue;
      if (auto parsed = ParseToken(config[name], path.string() + " /" + name)) token = *parsed;
    }
    if (config.contains("model_max_length")) {
      files->model_max_length = ParseMaxLength(config["model_max_length"], path.string());
    }
    if (!config.contains("added_tokens_decoder")) continue;
    for (const auto& [id, value] : config["added_tokens_decoder"].items()) {
      const std::string origin = path.string() + " /added_tokens_decoder/" + id;
      auto token = ParseToken(value, origin);
      if (!token || id.empty() || id.size() > 9 ||
          id.find_first_not_of("0123456789") != std::string::npos) {
        throw Error(origin + ": expected \"<id>\": {\"content\": ...}.");
      }
      token->id = std::stoll(id);
      token->special = value.is_string() || value.value("special", Json(false)) == true;
      AddToken(*token, files);
    }
  }
  for (const auto& [name, token] : named) AddToken(token, files);
  files->bos = named["bos_token"].content;
  files->eos = named["eos_token"].content;
  files->pad = named["pad_token"].content;
  files->unk = named["unk_token"].content;
}

// Gives every added token its id: the vocabulary's, or one that directly follows it.
void ResolveAddedTokens(const fs::path& folder, TokenizerFiles* files) {
  std::map<std::string, int64_t, std::less<>> ids;
  for (size_t i = 0; i < files->tokens.size(); ++i) {
    ids[files->tokens[i]] = static_cast<int64_t>(i);
  }
  std::sort(files->added.begin(), files->added.end(), [](const AddedToken& a, const AddedToken& b) {
    return std::tie(a.id, a.content) < std::tie(b.id, b.content);
  });
  for (AddedToken& token : files->added) {
    const auto known = ids.find(token.content);
    const auto next = static_cast<int64_t>(files->tokens.size());
    if (known != ids.end() && (token.id < 0 || token.id == known->second)) {
      token.id = known->second;
    } else if (known == ids.end() && token.id == next) {
      ids[token.content] = next;
      files->tokens.push_back(token.content);
    } else if (token.id < 0) {
      throw Error(
          fmt::format("{}: the special token {} is not in the vocabulary. Is this the "
                      "folder of a CLIP tokenizer?",
                      folder.string(), Json(token.content).dump()));
    } else {
      throw Error(
          fmt::format("{}: the added token {} has the id {}, which contradicts the "
                      "vocabulary of {} tokens.",
                      folder.string(), Json(token.content).dump(), token.id, next));
    }
  }
}

}  // namespace

TokenizerFiles ReadTokenizerFiles(const fs::path& folder) {
  TokenizerFiles files;
  const fs::path vocab = folder / "vocab.json", merges = folder / "merges.txt";
  const fs::path single = folder / "tokenizer.json";
  if (fs::exists(vocab) && fs::exists(merges)) {
    const std::string text = ReadFile(vocab);
    files.tokens = ParseVocab(ParseJson(text, vocab.string()), text, vocab);
    ParseMerges(merges, &files);
  } else if (fs::exists(single)) {
    ParseTokenizerJson(single, &files);
  } else {
    throw Error(
        fmt::format("{}: no CLIP tokenizer here: it needs vocab.json and merges.txt ({} is "
                    "missing), or tokenizer.json. Give a snapshot's tokenizer folder.",
                    folder.string(), fs::exists(vocab) ? "merges.txt" : "vocab.json"));
  }
  ReadSpecialTokens(folder, &files);
  ResolveAddedTokens(folder, &files);
  return files;
}

}  // namespace excise::bpe
