#include "datasets/quadruplets/quadruplet_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/escape.h"
#include "core/json.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/formats/user_prompts.h"

namespace excise {
namespace {

constexpr int64_t kMostCocoId = 999'999'999'999;

// Bytes above ASCII belong to letters.
bool IsLetter(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || std::isalnum(byte) != 0;
}

struct Match {
  size_t at = 0, length = 0;
  const Substitution* of = nullptr;
  bool unsafe = false;
};

// Where whole words of the table stand; of overlapping ones the longest ("kitchen knife").
std::vector<Match> Matches(const std::string& text, const std::vector<Substitution>& table) {
  const std::string lower = LowerAscii(text);
  std::vector<Match> all;
  for (const Substitution& one : table) {
    for (const bool unsafe : {false, true}) {
      for (const std::string& word : unsafe ? one.unsafe : one.safe) {
        const std::string wanted = LowerAscii(word);
        for (size_t at = lower.find(wanted); at != lower.npos; at = lower.find(wanted, at + 1)) {
          const size_t end = at + wanted.size();
          const bool whole = (at == 0 || !IsLetter(lower[at - 1])) &&
                             (end == lower.size() || !IsLetter(lower[end]));
          if (whole) all.push_back({at, wanted.size(), &one, unsafe});
        }
      }
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Match& a, const Match& b) { return a.length > b.length; });
  std::vector<Match> kept;
  for (const Match& match : all) {
    const auto overlaps = [&](const Match& other) {
      return match.at < other.at + other.length && other.at < match.at + match.length;
    };
    if (std::none_of(kept.begin(), kept.end(), overlaps)) kept.push_back(match);
  }
  return kept;
}

// `word` in the place of the match.
std::string Replaced(const std::string& text, const Match& match, std::string word) {
  std::string before = text.substr(0, match.at);
  if (std::isupper(static_cast<unsigned char>(text[match.at])) != 0) {
    word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
  }
  for (const std::string& article : {std::string("a "), std::string("an ")}) {
    if (before.size() < article.size()) continue;
    const size_t at = before.size() - article.size();
    if (LowerAscii(before.substr(at)) != article || (at > 0 && IsLetter(before[at - 1]))) continue;
    std::string right = WithArticle("auto", word);
    right[0] = before[at];  // "An" stays at the beginning
    return before.substr(0, at) + right + text.substr(match.at + match.length);
  }
  return before + word + text.substr(match.at + match.length);
}

std::vector<std::string> WordsOf(const Json& object, const char* key, const std::string& where) {
  const bool list =
      object.is_object() && object.contains(key) && object[key].is_array() && !object[key].empty();
  std::vector<std::string> words;
  for (const Json& word : list ? object[key] : Json::array()) {
    if (!word.is_string() || !ReasonToExclude(word.get<std::string>()).empty()) {
      throw UsageError(
          fmt::format("{}/{}: words are expected, and none that mentions a minor.", where, key));
    }
    words.push_back(word.get<std::string>());
  }
  if (words.empty()) {
    throw UsageError(fmt::format("{}: a list '{}' of words is missing.", where, key));
  }
  return words;
}

std::vector<Caption> CocoCaptions(const std::filesystem::path& file) {
  const Json data = ReadJsonFile(file);
  const auto fail = [&](const std::string& what) {
    throw Error(
        fmt::format("{}: {}; COCO's layout is expected: an object with \"annotations\", a "
                    "list of objects with \"image_id\" and \"caption\".",
                    file.string(), what));
  };
  if (!data.is_object() || !data.contains("annotations") || !data["annotations"].is_array()) {
    fail("no list \"annotations\"");
  }
  std::vector<Caption> captions;
  for (const Json& one : data["annotations"]) {
    const bool good = one.is_object() && one.contains("image_id") && one.contains("caption") &&
                      one["image_id"].is_number_unsigned() && one["caption"].is_string() &&
                      one["image_id"].get<uint64_t>() <= uint64_t{kMostCocoId};
    if (!good) fail(fmt::format("annotation {} has other fields", captions.size()));
    captions.push_back({one["image_id"].get<int64_t>(), one["caption"].get<std::string>()});
  }
  return captions;
}

int64_t CocoIdOf(const std::string& text, const std::string& where) {
  int64_t id = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (problem == std::errc() && end == text.data() + text.size() && id >= 0 && id <= kMostCocoId) {
    return id;
  }
  throw Error(fmt::format("{}: '{}' is no COCO picture's number, 0 to {}.", where,
                          Escape(text, Format::kTerminal), kMostCocoId));
}

}  // namespace

std::vector<Substitution> ParseSubstitutions(const Json& table, const std::string& origin) {
  if (!table.is_object() || table.empty()) {
    throw UsageError(fmt::format(
        "{}: an object is expected, as {{\"weapons\": {{\"unsafe\": [\"dagger\"], \"safe\": "
        "[\"umbrella\", \"pencil\"]}}}}.",
        origin));
  }
  std::vector<Substitution> substitutions;
  std::set<std::string> seen;
  for (const auto& [tag, lists] : table.items()) {
    const std::string where = fmt::format("{}/{}", origin, Escape(tag, Format::kTerminal));
    for (const auto& [key, value] : lists.items()) {
      if (key == "unsafe" || key == "safe") continue;
      throw UsageError(fmt::format("{}: unknown key '{}'.{}", where, Escape(key, Format::kTerminal),
                                   DidYouMeanOrKnown(key, {"unsafe", "safe"})));
    }
    // Tags name folders.
    if (tag.empty() || ConceptKey(tag).find_first_of("/\\") != tag.npos || tag[0] == '.') {
      throw UsageError(fmt::format("{}: a tag is a word; folders are called by it.", where));
    }
    Substitution one{ConceptKey(tag), WordsOf(lists, "unsafe", where),
                     WordsOf(lists, "safe", where)};
    for (const auto* words : {&one.unsafe, &one.safe}) {
      for (const std::string& word : *words) {
        if (seen.insert(LowerAscii(word)).second) continue;
        throw UsageError(fmt::format("{}: '{}' occurs twice in the table.", where,
                                     Escape(word, Format::kTerminal)));
      }
    }
    substitutions.push_back(std::move(one));
  }
  return substitutions;
}

std::vector<Caption> ReadCaptions(const std::filesystem::path& file) {
  if (file.extension() == ".json") return CocoCaptions(file);
  UserFile user;
  user.path = file.string();
  const UserTable table(
      user, {{"caption", {"caption", "prompt", "text"}}, {"coco_id", {"coco_id", "image_id"}}},
      "caption", "build_quadruplets");
  std::vector<Caption> captions;
  for (const FileRow& row : table.rows()) {
    Caption caption;
    const std::optional<std::string> id = table.Get(row, "coco_id");
    if (table.Has("coco_id") && !id) {
      throw Error(fmt::format("{}: no coco_id.", table.Where(row)));
    }
    caption.coco_id = id ? CocoIdOf(*id, table.Where(row)) : static_cast<int64_t>(captions.size());
    caption.text = table.Get(row, "caption").value_or("");
    captions.push_back(std::move(caption));
  }
  return captions;
}

BuiltQuadruplets BuildQuadruplets(const std::vector<Caption>& captions,
                                  const std::vector<Substitution>& table, uint64_t seed) {
  BuiltQuadruplets out;
  out.counts = {{"built", 0}};
  for (size_t row = 0; row < captions.size(); ++row) {
    const Caption& caption = captions[row];
    const auto leave_out = [&](const std::string& reason) { ++out.counts[reason]; };
    if (const std::string reason = ReasonToExclude(caption.text); !reason.empty()) {
      leave_out(reason);
      continue;
    }
    const std::vector<Match> matches = Matches(caption.text, table);
    if (matches.size() != 1) {
      leave_out(matches.empty() ? "no_word" : "several_words");
      continue;
    }
    const Match& match = matches[0];
    const std::vector<std::string>& words = match.unsafe ? match.of->safe : match.of->unsafe;
    const std::string id = fmt::format("quadruplet_builder/{}", row);
    Philox rng({.seed = seed, .id = id, .stream = Stream::kData});
    const std::string other = Replaced(caption.text, match, words[rng.Below(words.size())]);
    if (const std::string reason = ReasonToExclude(other); !reason.empty()) {
      leave_out(reason);
      continue;
    }
    ++out.counts["built"];
    out.rows.push_back({{"coco_id", caption.coco_id},
                        {"safe", match.unsafe ? other : caption.text},
                        {"nsfw", match.unsafe ? caption.text : other},
                        {"nsfw_im_path", fmt::format("{}/{:08d}.png", match.of->tag, row)},
                        {"tag", match.of->tag}});
  }
  return out;
}

}  // namespace excise
