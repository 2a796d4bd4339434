// Names and keywords of emoji from Unicode CLDR, and the class list that uses them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "datasets/emoji/emoji_world.h"

namespace excise {

struct Annotation {
  std::string name;                   // the type="tts" entry
  std::vector<std::string> keywords;  // "a | b | c"
};

// code points (UTF-8) -> annotation. Throws Error naming the file.
std::map<std::string, Annotation> ReadAnnotations(const std::filesystem::path& file);

// The languages whose names are used beside English.
const std::vector<std::string>& ForeignLanguages();

// Reads the class list and fills names, keywords and foreign names from `annotations`, a folder
// with en.xml and one file for each foreign language. Kept are: English keywords that at most three
// classes share and that name no class; foreign names of one class alone that are no English
// name or keyword of any emoji. A class whose name CLDR does not know is an Error.
std::vector<EmojiClass> LoadEmojiClasses(const std::filesystem::path& list,
                                         const std::filesystem::path& annotations);

}  // namespace excise
