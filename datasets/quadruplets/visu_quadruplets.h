// ViSU in its published layout: annotations as JSON, safe pictures in COCO's folders, unsafe ones
// in a folder of the user's own (they were never released).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "datasets/quadruplets/quadruplets.h"

namespace excise {

// One element of an annotations file, checked.
struct VisuRow {
  std::string name;   // for messages: "row 3" of a list, "key 3" of an object
  int64_t index = 0;  // in the file
  int64_t coco_id = 0;
  std::string safe, nsfw, nsfw_im_path, tag;
};

// A list of elements, an object keyed by integers ("0", "1", ...: read in the order of the
// numbers), or {"info", "data"} around either. An element has coco_id (0 to 999999999999, a number
// or its digits), safe, nsfw, nsfw_im_path and tag (texts); other fields are ignored. Throws Error
// naming file and row: malformed JSON, a missing or wrong field, a key that is no number, a picture
// outside the folder, no row at all.
std::vector<VisuRow> ReadVisuRows(const std::filesystem::path& file);

std::unique_ptr<QuadrupletSet> MakeVisuQuadruplets();

}  // namespace excise
