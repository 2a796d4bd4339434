#include "experiments/formats/picture_manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "core/error.h"
#include "core/escape.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/text.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::string Shown(const std::string& text) { return Escape(text, Format::kTerminal); }

[[noreturn]] void Fail(const std::string& where, const std::string& what) {
  throw UsageError(fmt::format("{}: {}.", where, what));
}

void CheckKeys(const Json& manifest, const std::string& origin) {
  const std::vector<std::string> known = {"rows", "pictures"};
  if (!manifest.is_object() || !manifest.contains("pictures") || !manifest["pictures"].is_array()) {
    Fail(origin, "an object with a list \"pictures\" is expected");
  }
  for (const auto& [key, value] : manifest.items()) {
    if (IsOneOf(key, known)) continue;
    throw UsageError(
        fmt::format("{}: unknown key '{}'.{}", origin, Shown(key), DidYouMeanOrKnown(key, known)));
  }
}

void CheckRowName(const std::string& name, const std::string& where) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
  if (!name.empty() && plain) return;
  Fail(where, fmt::format("row '{}': a name of letters, digits, _ and - is needed", Shown(name)));
}

// `folder` is canonical. Links are followed: where one leads out, so does the path.
fs::path PathInside(const fs::path& folder, const std::string& file, const std::string& where) {
  const fs::path given = file;
  if (file.empty() || given.is_absolute() || file.find('\0') != std::string::npos) {
    Fail(where, fmt::format("file '{}': a path below the folder is expected", Shown(file)));
  }
  std::error_code problem;
  fs::path path = fs::weakly_canonical(folder / given, problem);
  const fs::path inside = path.lexically_relative(folder);
  if (problem || inside.empty() || *inside.begin() == "..") {
    Fail(where, fmt::format("file '{}' leaves the folder; copy the picture into it", Shown(file)));
  }
  return path;
}

}  // namespace

void PictureEntry::Fields(ParamVisitor& v) {
  v.Text("row", &row, "the table's row");
  v.Text("prompt_id", &prompt_id, "the prompt's id, as --export_prompts lists it");
  v.Text("prompt", &prompt, "the prompt's text, where there is no id");
  v.Text("concept", &subject, "the concept");
  v.Text("group", &group, "target, near, far or lexical");
  v.Text("attack", &attack, "the attack");
  v.Text("file", &file, "PNG or JPEG, below the folder");
  v.Text("sha256", &sha256, "of the file");
  v.Integer("replicate", &replicate, "which picture of the prompt", {0, 1000000});
}

void PictureRowInfo::Fields(ParamVisitor& v) {
  v.Text("base", &base, "the row of the unmodified model's pictures");
  v.Texts("uses", &uses, "what the method knows: known_names, anchor, preserve, ...");
}

PictureManifest ParsePictureManifest(const Json& manifest, const fs::path& folder,
                                     const std::string& origin) {
  CheckKeys(manifest, origin);
  PictureManifest result;
  Progress progress("read " + origin, static_cast<int64_t>(manifest["pictures"].size()),
                    "pictures");
  for (const Json& json : manifest["pictures"]) {
    if (InterruptRequested()) throw Interrupted{};
    progress.Advance();
    const std::string where = fmt::format("{}#/pictures/{}", origin, result.pictures.size());
    PictureEntry entry;
    DecodeParams(json, entry, where);
    CheckRowName(entry.row, where);
    entry.path = PathInside(folder, entry.file, where);
    result.pictures.push_back(std::move(entry));
  }
  if (!manifest.contains("rows")) return result;
  if (!manifest["rows"].is_object()) Fail(origin + "#/rows", "an object by row is expected");
  for (const auto& [name, json] : manifest["rows"].items()) {
    DecodeParams(json, result.rows[name], fmt::format("{}#/rows/{}", origin, Shown(name)));
  }
  return result;
}

PictureManifest ReadPictureManifest(const fs::path& folder) {
  const fs::path file = folder / "manifest.json";
  std::error_code problem;
  const fs::path canonical = fs::canonical(folder, problem);
  if (problem || !fs::is_directory(canonical, problem) || !fs::is_regular_file(file, problem)) {
    throw UsageError(fmt::format(
        "--images={}: a folder with manifest.json is expected. results/SCHEMA.md describes it; "
        "--export_prompts=FILE.csv lists what to draw.",
        Shown(folder.string())));
  }
  return ParsePictureManifest(ReadJsonFile(file), canonical, file.string());
}

}  // namespace excise
