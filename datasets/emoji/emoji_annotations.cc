#include "datasets/emoji/emoji_annotations.h"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr int kMostClassesAKeyword = 3;
constexpr int kMostForeignWords = 4;

std::vector<std::string> SplitKeywords(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t bar = text.find('|');
    std::string word(Trimmed(text.substr(0, bar)));
    if (!word.empty()) out.push_back(std::move(word));
    if (bar == std::string_view::npos) break;
    text.remove_prefix(bar + 1);
  }
  return out;
}

// CLDR keys have no variation selector and, in the main files, no skin tone.
std::string CldrKey(const std::string& glyph) {
  const size_t selector = glyph.find("\xEF\xB8\x8F");
  return selector == std::string::npos ? glyph : glyph.substr(0, selector);
}

// Typographic apostrophes are rare bytes that would each cost vocabulary.
std::string PlainApostrophes(std::string text) {
  for (size_t at; (at = text.find("\xE2\x80\x99")) != std::string::npos;) text.replace(at, 3, "'");
  return text;
}

bool IsStopWord(const std::string& keyword) {
  static const std::set<std::string> kStop = {"no",  "not", "mrs.", "4",
                                              "ear", "top", "soft", "red"};
  return kStop.count(LowerAscii(keyword)) != 0;
}

const Annotation& Find(const std::map<std::string, Annotation>& all, const std::string& glyph,
                       const std::filesystem::path& file) {
  const auto it = all.find(CldrKey(glyph));
  if (it == all.end() || it->second.name.empty()) {
    throw Error(
        fmt::format("{}: no annotation of '{}'. Another version of unicode-cldr-core is "
                    "installed, or datasets/emoji_classes.json names a wrong sequence.",
                    file.string(), glyph));
  }
  return it->second;
}

EmojiClass ReadClass(const Json& json, const std::filesystem::path& list) {
  static const std::set<std::string> kKeys = {"id",     "name",           "category", "article",
                                              "glyphs", "extra_keywords", "mirror"};
  for (const auto& [key, value] : json.items()) {
    if (kKeys.count(key) == 0) {
      throw Error(fmt::format("{}: unknown key '{}' in a class.", list.string(), key));
    }
  }
  try {
    EmojiClass out;
    json.at("id").get_to(out.id);
    json.at("name").get_to(out.name);
    json.at("category").get_to(out.category);
    json.at("article").get_to(out.article);
    json.at("glyphs").get_to(out.glyphs);
    json.at("extra_keywords").get_to(out.keywords);
    json.at("mirror").get_to(out.mirror);
    if (out.glyphs.empty())
      throw Error(fmt::format("{}: '{}' has no glyph.", list.string(), out.id));
    return out;
  } catch (const Json::exception& e) {
    throw Error(fmt::format("{}: a class lacks a field or has one of the wrong type: {}",
                            list.string(), e.what()));
  }
}

void FillKeywords(std::vector<EmojiClass>& classes, const std::map<std::string, Annotation>& en,
                  const std::filesystem::path& file) {
  std::set<std::string> names;
  for (const EmojiClass& one : classes) names.insert(LowerAscii(one.name));
  for (EmojiClass& one : classes) {
    const Annotation& annotation = Find(en, one.glyphs[0], file);
    if (one.name != annotation.name && !IsOneOf(one.name, annotation.keywords)) {
      throw Error(fmt::format("{}: '{}' is neither CLDR's name ('{}') nor a keyword of class '{}'.",
                              file.string(), one.name, annotation.name, one.id));
    }
    for (const std::string& keyword : annotation.keywords) {
      if (!IsOneOf(keyword, one.keywords)) one.keywords.push_back(keyword);
    }
    if (!IsOneOf(annotation.name, one.keywords)) one.keywords.push_back(annotation.name);
  }
  std::map<std::string, int> shared;
  for (const EmojiClass& one : classes) {
    for (const std::string& keyword : one.keywords) ++shared[LowerAscii(keyword)];
  }
  for (EmojiClass& one : classes) {
    auto drop = [&](const std::string& keyword) {
      const std::string lower = LowerAscii(keyword);
      return shared[lower] > kMostClassesAKeyword || names.count(lower) != 0 || IsStopWord(lower);
    };
    one.keywords.erase(std::remove_if(one.keywords.begin(), one.keywords.end(), drop),
                       one.keywords.end());
  }
}

void FillForeignNames(std::vector<EmojiClass>& classes, const std::set<std::string>& english,
                      const std::filesystem::path& annotations) {
  std::map<std::string, std::set<std::string>> owners;  // lower-case name -> class ids
  for (const std::string& language : ForeignLanguages()) {
    const std::filesystem::path file = annotations / (language + ".xml");
    const std::map<std::string, Annotation> all = ReadAnnotations(file);
    for (EmojiClass& one : classes) {
      const std::string name = PlainApostrophes(Find(all, one.glyphs[0], file).name);
      const std::string lower = LowerAscii(name);
      const bool unusable = name.find('(') != std::string::npos ||
                            std::count(name.begin(), name.end(), ' ') >= kMostForeignWords ||
                            english.count(lower) != 0;
      if (unusable) continue;
      // "Auto" and "auto" are one name; they may not be two classes'.
      if (owners[lower].insert(one.id).second) one.foreign_names.push_back(name);
    }
  }
  for (EmojiClass& one : classes) {
    auto shared = [&](const std::string& name) { return owners[LowerAscii(name)].size() > 1; };
    one.foreign_names.erase(
        std::remove_if(one.foreign_names.begin(), one.foreign_names.end(), shared),
        one.foreign_names.end());
  }
}

}  // namespace

const std::vector<std::string>& ForeignLanguages() {
  static const std::vector<std::string> kLanguages = {"de", "es", "fr", "it", "nl", "pt"};
  return kLanguages;
}

std::map<std::string, Annotation> ReadAnnotations(const std::filesystem::path& file) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_file(file.c_str());
  if (!parsed) {
    throw Error(fmt::format("{}: cannot be read as XML ({}). Install unicode-cldr-core.",
                            file.string(), parsed.description()));
  }
  std::map<std::string, Annotation> out;
  for (pugi::xml_node node : document.child("ldml").child("annotations").children("annotation")) {
    Annotation& entry = out[node.attribute("cp").value()];
    if (std::string_view(node.attribute("type").value()) == "tts") {
      entry.name = Trimmed(node.text().get());
    } else {
      entry.keywords = SplitKeywords(node.text().get());
    }
  }
  return out;
}

std::vector<EmojiClass> LoadEmojiClasses(const std::filesystem::path& list,
                                         const std::filesystem::path& annotations) {
  const Json json = ReadJsonFile(list);
  if (!json.is_object() || !json.contains("classes") || !json["classes"].is_array()) {
    throw Error(fmt::format("{}: expected {{\"classes\": [...]}}.", list.string()));
  }
  std::vector<EmojiClass> classes;
  std::set<std::string> ids, names;
  for (const Json& entry : json["classes"]) {
    classes.push_back(ReadClass(entry, list));
    if (!ids.insert(classes.back().id).second || !names.insert(classes.back().name).second) {
      throw Error(fmt::format("{}: '{}' occurs twice.", list.string(), classes.back().id));
    }
  }
  const std::filesystem::path file = annotations / "en.xml";
  const std::map<std::string, Annotation> english = ReadAnnotations(file);
  FillKeywords(classes, english, file);
  std::set<std::string> english_words;
  for (const auto& [glyph, annotation] : english) {
    english_words.insert(LowerAscii(annotation.name));
    for (const std::string& keyword : annotation.keywords)
      english_words.insert(LowerAscii(keyword));
  }
  FillForeignNames(classes, english_words, annotations);
  return classes;
}

}  // namespace excise
