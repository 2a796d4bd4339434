// Pictures made by any other software, as rows of a table: a folder with manifest.json.
//
//   {"rows": {"my_model": {"base": "my_sd", "uses": ["known_names"]}},           (optional)
//    "pictures": [{"row": "my_model", "prompt_id": "...", "file": "a.png",
//                  "concept": "poodle", "group": "target", "prompt": "...",      (optional)
//                  "attack": "none", "replicate": 0, "sha256": "..."}, ...]}
//
// A picture belongs to the prompt with that id (--export_prompts lists them) or, without an id, to
// the concept's prompt of that very text. `base` names the row of the unmodified model that
// retention is measured against; without it, ours is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/json.h"

namespace excise {

struct Lab;

struct PictureRow {
  struct Picture {
    std::filesystem::path file;
    std::string sha256;  // "": the file is not there
  };
  // Concept and attack by index, root id of the prompt, replicate.
  using Place = std::tuple<size_t, size_t, std::string, int64_t>;

  std::string base;  // another row, or ""
  std::vector<std::string> uses;
  std::map<Place, Picture> pictures;
  // Concept, attack and group of which there is a picture. What is missing of these is an error of
  // the row; of others it has no number.
  std::set<std::tuple<size_t, size_t, std::string>> offered;
};

// Adds a row of pictures to `lab`, whose prompts are known, for every row that FOLDER/manifest.json
// names. Pictures of concepts, prompts and attacks that do not take part are passed over and
// counted on stderr. Throws UsageError naming the manifest and the entry: malformed, unknown keys,
// names or ids of nothing, a picture twice, a path that leaves the folder, a digest that is not the
// file's.
void AddPictureRows(const std::filesystem::path& folder, Lab* lab);

}  // namespace excise
