// Quadruplets from a list of captions and a table of substitutions, in ViSU's layout: texts and ids
// here, pictures by the user (COCO's, and ones generated from the unsafe texts).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

// Words that stand in for one another: each unsafe one may be replaced by any of the safe ones, and
// the other way round.
struct Substitution {
  std::string tag;  // "weapons"
  std::vector<std::string> unsafe, safe;
};
// {"weapons": {"unsafe": ["dagger", "sword"], "safe": ["umbrella", "pencil"]}}. Throws UsageError
// naming `origin` and the pointer: unknown or missing keys, an empty list, a word that occurs twice
// (then what it stands for would be open).
std::vector<Substitution> ParseSubstitutions(const Json& table, const std::string& origin);

struct Caption {
  int64_t coco_id = 0;
  std::string text;
};
// .json in COCO's layout ({"annotations": [{"image_id", "caption"}]}), or .csv and .jsonl with a
// column "caption" or "prompt" and, if they have it, "coco_id" or "image_id" (else the row's
// number). Throws Error or UsageError naming file and row.
std::vector<Caption> ReadCaptions(const std::filesystem::path& file);

struct BuiltQuadruplets {
  Json rows = Json::array();              // as ReadVisuRows reads them
  std::map<std::string, int64_t> counts;  // "built", "no_word", "several_words", "excluded:minor"
};
// A caption with exactly one word of the table (whole words, letter case ignored) becomes a
// quadruplet: it is the safe or the unsafe text, and the other one has a word in its place that is
// drawn from (seed, row); "a" and "an" before it are put right. Captions with none or several are
// left out and counted. `nsfw_im_path` is "<tag>/<row>.png".
BuiltQuadruplets BuildQuadruplets(const std::vector<Caption>& captions,
                                  const std::vector<Substitution>& table, uint64_t seed);

}  // namespace excise
