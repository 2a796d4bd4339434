// The manifest of --images=DIR. No accepted picture lies outside the folder, however its path is
// written, and every row has a plain name.
#include <algorithm>
#include <cctype>

#include "core/json.h"
#include "core/text.h"
#include "experiments/formats/picture_manifest.h"
#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;

// A folder with a picture, a folder below, and links that lead out.
const fs::path& Folder() {
  static const fs::path folder = [] {
    const fs::path made = fs::canonical(excise::fuzz::EmptyFolder()) / "pictures";
    fs::create_directories(made / "below");
    excise::fuzz::WriteFile(made / "a.png", "x");
    fs::create_directory_symlink("/etc", made / "out");
    fs::create_symlink("../../outside.png", made / "below" / "link.png");
    return made;
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  using fuzz::Require;
  Json json;
  if (!fuzz::Accepts([&] { json = ParseJson(fuzz::Text(data, size), "input"); })) return 0;
  PictureManifest manifest;
  if (!fuzz::Accepts([&] { manifest = ParsePictureManifest(json, Folder(), "input"); })) return 0;
  Require(manifest.pictures.size() == json["pictures"].size(), "every entry is read");
  const std::string inside = Folder().string() + "/";
  for (const PictureEntry& entry : manifest.pictures) {
    const std::string path = entry.path.string();
    Require(StartsWith(path, inside) || path + "/" == inside, "in the folder: " + path);
    Require(path.find("/../") == std::string::npos, "no way up: " + path);
    Require(entry.replicate >= 0, "replicates count from 0");
    Require(
        !entry.row.empty() && std::all_of(entry.row.begin(), entry.row.end(),
                                          [](char c) {
                                            return std::isalnum(static_cast<unsigned char>(c)) ||
                                                   c == '_' || c == '-';
                                          }),
        "a plain name");
  }
  return 0;
}
