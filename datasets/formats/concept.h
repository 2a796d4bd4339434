// What is to be removed: a plain description in datasets/concepts/<name>.json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

struct Concept {
  std::string name;                   // file stem: "poodle"
  std::string title;                  // in tables: "poodle -> dog"
  std::string category;               // object | style | identity | unsafe
  std::string sensitivity;            // benign_proxy | sensitive
  std::vector<std::string> known;     // names a method may use
  std::vector<std::string> held_out;  // aliases for evaluation only
  // Descriptions that ask for it without any of these names ("a curly animal"; of a style, an
  // adjective); for evaluation only.
  std::vector<std::string> implied;
  std::string anchor;                 // what the target should turn into, as text
  std::vector<std::string> preserve;  // names a method may use to keep
  struct Neighbours {
    std::vector<std::string> near, far, lexical;  // prompts' subjects, evaluation only
  } neighbours;
  // The judge's view: its classes (or styles) that count as target and as anchor.
  struct JudgeSpec {
    std::string kind;  // "class" | "style"
    std::vector<std::string> target, anchor;
    // The judge whose classes they are, and its parameters; "": the concept names none.
    std::string plugin = {};
    Json params = Json::object();
  } judge;
};

// Strict: unknown keys, missing fields and wrong types are errors naming the file.
Concept LoadConcept(const std::filesystem::path& file);
Json ConceptToJson(const Concept& subject);
std::vector<std::string> ListConcepts(const std::filesystem::path& folder);

}  // namespace excise
