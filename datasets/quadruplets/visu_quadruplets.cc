#include "datasets/quadruplets/visu_quadruplets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/text.h"
#include "datasets/formats/user_prompts.h"
#include "models/pictures/picture_file.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr size_t kParts = 4;
constexpr int64_t kMostCocoId = 999'999'999'999;  // file names have 12 digits
constexpr const char* kCocoFolders[] = {"train2017", "val2017", "test2017"};
constexpr const char* kFields = "coco_id, safe, nsfw, nsfw_im_path and tag";

std::string Shown(const std::string& text) { return Escape(text, Format::kTerminal); }

// The number that `text` writes down, if it is one and nothing else.
std::optional<int64_t> NumberOf(const std::string& text) {
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return value;
}

class RowReader {
 public:
  RowReader(const fs::path& file, const Json& element, VisuRow row)
      : file_(file), element_(element), row_(std::move(row)) {}

  VisuRow Read() {
    if (!element_.is_object()) Fail(fmt::format("an object with {} is expected", kFields));
    row_.coco_id = CocoId();
    row_.safe = TextOf("safe");
    row_.nsfw = TextOf("nsfw");
    row_.nsfw_im_path = TextOf("nsfw_im_path");
    row_.tag = TextOf("tag");
    const fs::path path = fs::path(row_.nsfw_im_path).lexically_normal();
    if (row_.nsfw_im_path.empty() || row_.nsfw_im_path.find('\0') != std::string::npos ||
        path.is_absolute() || *path.begin() == "..") {
      Fail(fmt::format("nsfw_im_path '{}' is no path below the folder of unsafe pictures",
                       Shown(row_.nsfw_im_path)));
    }
    row_.nsfw_im_path = path.string();
    return std::move(row_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(fmt::format("{}, {}: {}.", file_.string(), row_.name, what));
  }

  const Json& Field(const char* name) const {
    if (element_.contains(name)) return element_[name];
    std::vector<std::string> known;
    for (const auto& [key, value] : element_.items()) known.push_back(key);
    const std::string near = Suggest(name, known);
    Fail(fmt::format("'{}' is missing{}; {} are needed", name,
                     near.empty() ? "" : fmt::format(" ('{}' is there)", Shown(near)), kFields));
  }

  std::string TextOf(const char* name) const {
    const Json& value = Field(name);
    if (!value.is_string()) {
      Fail(fmt::format("'{}' is {}; text is expected", name, value.type_name()));
    }
    return value.get<std::string>();
  }

  int64_t CocoId() const {
    const Json& value = Field("coco_id");
    std::optional<int64_t> id;
    if (value.is_string()) id = NumberOf(value.get<std::string>());
    if (value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{kMostCocoId}) {
      id = value.get<int64_t>();
    }
    if (id && *id >= 0 && *id <= kMostCocoId) return *id;
    Fail(fmt::format("coco_id {} is no COCO picture's number, 0 to {}", Shown(value.dump()),
                     kMostCocoId));
  }

  const fs::path& file_;
  const Json& element_;
  VisuRow row_;
};

// The elements with their names, in order.
std::vector<std::pair<VisuRow, const Json*>> Elements(const fs::path& file, const Json& data) {
  std::vector<std::pair<VisuRow, const Json*>> elements;
  if (data.is_array()) {
    for (size_t i = 0; i < data.size(); ++i) {
      VisuRow row;
      row.name = fmt::format("row {}", i);
      row.index = static_cast<int64_t>(i);
      elements.emplace_back(row, &data[i]);
    }
    return elements;
  }
  for (const auto& [key, value] : data.items()) {
    const std::optional<int64_t> number = NumberOf(key);
    if (!number || *number < 0) {
      throw Error(fmt::format(
          "{}: the key '{}' is no row number. A list of elements, an object keyed by \"0\", "
          "\"1\", ..., or {{\"info\", \"data\"}} around either is expected.",
          file.string(), Shown(key)));
    }
    VisuRow row;
    row.name = fmt::format("key {}", Shown(key));
    row.index = *number;
    elements.emplace_back(row, &value);
  }
  std::sort(elements.begin(), elements.end(),
            [](const auto& a, const auto& b) { return a.first.index < b.first.index; });
  for (size_t i = 1; i < elements.size(); ++i) {
    if (elements[i].first.index != elements[i - 1].first.index) continue;
    throw Error(fmt::format("{}: {} and {} are the same row.", file.string(),
                            elements[i - 1].first.name, elements[i].first.name));
  }
  return elements;
}

// A row with its pictures' places; `excluded`: why it is left out, or "".
struct Entry {
  Quadruplet quadruplet;
  std::string name, excluded;
  int64_t coco_id = 0;
  fs::path unsafe;  // below the folder of unsafe pictures
};
struct Part {
  fs::path file;  // annotations
  std::string sha256;
  std::vector<Entry> entries;
};

std::string SplitOf(QuadrupletPart part) {
  return PartName(part == QuadrupletPart::kUnseen ? QuadrupletPart::kTest : part);
}

// DIR/SPLIT/visu_*.json as the published code has it, or DIR/ViSU-Text_SPLIT.json as the published
// texts have it.
fs::path FindAnnotations(const fs::path& folder, QuadrupletPart part) {
  std::vector<fs::path> found;
  const std::string split = SplitOf(part);
  for (const std::string& name : {split, split == "validation" ? std::string("val") : split}) {
    std::error_code ignored;
    for (const auto& file : fs::directory_iterator(folder / name, ignored)) {
      const std::string stem = file.path().filename().string();
      if (!StartsWith(stem, "visu_") || file.path().extension() != ".json") continue;
      if (std::find(found.begin(), found.end(), file.path()) == found.end()) {
        found.push_back(file.path());
      }
    }
  }
  const fs::path flat = folder / fmt::format("ViSU-Text_{}.json", split);
  if (fs::exists(flat)) found.push_back(flat);
  if (found.size() == 1) return found[0];
  if (found.empty()) {
    throw Error(fmt::format("{}: no annotations of the split {}. Looked for {}/visu_*.json and {}.",
                            folder.string(), split, split, flat.filename().string()));
  }
  std::sort(found.begin(), found.end());
  throw Error(fmt::format("{}: several annotations of the split {} ({} and {}). Leave one there.",
                          folder.string(), split, found[0].string(), found[1].string()));
}

class VisuQuadruplets : public QuadrupletSet {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("annotations", &annotations_,
           "folder with SPLIT/visu_*.json or ViSU-Text_SPLIT.json, SPLIT train, validation, test");
    v.Path("images", &images_, "COCO's folder, with train2017, val2017, test2017");
    v.Path("unsafe_images", &unsafe_images_, "folder below which nsfw_im_path is looked up");
    v.Texts("unseen", &unseen_,
            "tags that the part unseen alone has; its rows are those of the test file");
  }
  int version() const override { return 2; }  // as pictures are read
  std::vector<std::string> needs_one_of() const override { return {"annotations"}; }

  std::vector<Quadruplet> Rows(QuadrupletPart part, int64_t limit) const override {
    std::vector<Quadruplet> rows;
    const Part& read = Read(part);
    for (const Entry& entry : First(part, limit)) {
      if (!entry.excluded.empty()) continue;
      SafePicture(read, entry);
      UnsafePicture(read, entry);
      rows.push_back(entry.quadruplet);
    }
    if (!rows.empty()) return rows;
    if (part == QuadrupletPart::kUnseen && unseen_.empty()) {
      throw Error(
          "visu quadruplets: the part unseen is empty. Name the tags that it alone shall have, as "
          "in \"unseen\": [\"weapons\"].");
    }
    throw Error(fmt::format("{}: the part {} is empty; {} of its rows were left out.",
                            read.file.string(), PartName(part), First(part, limit).size()));
  }

  std::vector<Exclusion> Excluded(QuadrupletPart part, int64_t limit) const override {
    std::vector<Exclusion> excluded;
    for (const Entry& entry : First(part, limit)) {
      if (entry.excluded.empty()) continue;
      const Quadruplet& row = entry.quadruplet;
      excluded.push_back(
          {row.id, entry.excluded, Sha256Hex(row.safe_text + "\n" + row.unsafe_text)});
    }
    return excluded;
  }

  std::map<std::string, std::string> Digests(QuadrupletPart part, int64_t limit) const override {
    const Part& read = Read(part);
    Sha256 safe, unsafe;
    const std::vector<Entry> entries = First(part, limit);
    Progress progress("hash the pictures of " + PartName(part),
                      static_cast<int64_t>(entries.size()), "quadruplets");
    for (const Entry& entry : entries) {
      if (InterruptRequested()) throw Interrupted{};
      progress.Advance();
      if (!entry.excluded.empty()) continue;
      safe.Update(PictureDigest(read, entry, /*unsafe=*/false));
      unsafe.Update(PictureDigest(read, entry, /*unsafe=*/true));
    }
    return {{"annotations", read.sha256}, {"images", safe.Hex()}, {"unsafe_images", unsafe.Hex()}};
  }

  at::Tensor Picture(QuadrupletPart part, const Quadruplet& row, bool unsafe,
                     int64_t side) const override {
    const Part& read = Read(part);
    if (row.row < 0 || row.row >= static_cast<int64_t>(read.entries.size()) ||
        read.entries[row.row].quadruplet.id != row.id) {
      throw Error(fmt::format("'{}' is no row of the part {} of {}.", Shown(row.id), PartName(part),
                              read.file.string()));
    }
    const Entry& entry = read.entries[row.row];
    const fs::path file = PictureFile(read, entry, unsafe);
    const at::Tensor picture = ReadPicture(file);
    if (const std::string hashed = KnownDigest(entry, unsafe); !hashed.empty()) {
      RequireSha256(file, hashed);
    }
    return CentredSquare(picture, side);
  }

 private:
  const Part& Read(QuadrupletPart part) const {
    const auto index = static_cast<size_t>(part);
    std::call_once(once_[index], [&] { parts_[index] = ReadPart(part); });
    return parts_[index];
  }

  std::vector<Entry> First(QuadrupletPart part, int64_t limit) const {
    const std::vector<Entry>& all = Read(part).entries;
    const auto n = std::clamp<int64_t>(limit, 0, static_cast<int64_t>(all.size()));
    return {all.begin(), all.begin() + n};
  }

  Part ReadPart(QuadrupletPart part) const {
    for (const auto& [field, path] :
         {std::pair{"annotations", &annotations_}, std::pair{"images", &images_},
          std::pair{"unsafe_images", &unsafe_images_}}) {
      if (fs::is_directory(*path)) continue;
      throw UsageError(fmt::format(
          "visu quadruplets: the parameter {} is '{}'; a folder is needed. ViSU's texts are at "
          "huggingface.co/datasets/aimagelab/ViSU-Text, the safe pictures are COCO 2017, and the "
          "unsafe ones have to be generated.",
          field, Shown(*path)));
    }
    Part read;
    read.file = FindAnnotations(annotations_, part);
    const InputFile before(read.file);
    read.sha256 = Sha256HexOfFile(read.file);
    std::vector<VisuRow> rows = ReadVisuRows(read.file);
    before.RequireUnchanged();
    Progress progress("read " + read.file.filename().string(), static_cast<int64_t>(rows.size()),
                      "rows");
    for (VisuRow& row : rows) {
      if (InterruptRequested()) throw Interrupted{};
      progress.Advance();
      const bool held_out = IsOneOf(row.tag, unseen_);
      if (held_out != (part == QuadrupletPart::kUnseen)) continue;
      Entry entry;
      entry.excluded = ReasonToExclude(row.safe);
      if (entry.excluded.empty()) entry.excluded = ReasonToExclude(row.nsfw);
      entry.name = row.name;
      entry.coco_id = row.coco_id;
      entry.unsafe = row.nsfw_im_path;
      entry.quadruplet = {fmt::format("visu@{}/{}", read.sha256.substr(0, 8), row.index),
                          std::move(row.safe), std::move(row.nsfw), std::move(row.tag),
                          static_cast<int64_t>(read.entries.size())};
      read.entries.push_back(std::move(entry));
    }
    return read;
  }

  fs::path PictureFile(const Part& read, const Entry& entry, bool unsafe) const {
    return unsafe ? UnsafePicture(read, entry) : SafePicture(read, entry);
  }

  // Remembered: the picture must have it when it is read.
  std::string PictureDigest(const Part& read, const Entry& entry, bool unsafe) const {
    const std::string sha256 = Sha256HexOfFile(PictureFile(read, entry, unsafe));
    const std::lock_guard<std::mutex> lock(mutex_);
    digests_[{entry.quadruplet.id, unsafe}] = sha256;
    return sha256;
  }

  // "" where nobody asked for it.
  std::string KnownDigest(const Entry& entry, bool unsafe) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = digests_.find({entry.quadruplet.id, unsafe});
    return found == digests_.end() ? "" : found->second;
  }

  fs::path SafePicture(const Part& read, const Entry& entry) const {
    const std::string name = fmt::format("{:012d}.jpg", entry.coco_id);
    for (const char* folder : kCocoFolders) {
      fs::path file = fs::path(images_) / folder / name;
      if (!fs::exists(file)) continue;
      RequirePictureFile(file);
      return file;
    }
    throw Error(fmt::format("{}, {}: the COCO picture {} is in none of {} below {}.",
                            read.file.string(), entry.name, name, fmt::join(kCocoFolders, ", "),
                            images_));
  }

  fs::path UnsafePicture(const Part& read, const Entry& entry) const {
    fs::path file = fs::path(unsafe_images_) / entry.unsafe;
    if (fs::exists(file)) {
      RequirePictureFile(file);
      return file;
    }
    throw Error(
        fmt::format("{}, {}: the picture {} is missing. nsfw_im_path is looked up below "
                    "{}.",
                    read.file.string(), entry.name, Shown(file.string()), unsafe_images_));
  }

  std::string annotations_, images_, unsafe_images_;
  std::vector<std::string> unseen_;
  mutable std::array<std::once_flag, kParts> once_;
  mutable std::array<Part, kParts> parts_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<std::string, bool>, std::string> digests_;  // by row; of unsafe ones?
};

}  // namespace

std::vector<VisuRow> ReadVisuRows(const fs::path& file) {
  Json data = ReadJsonFile(file);
  if (data.is_object() && data.contains("data")) data = Json(data["data"]);
  if (!data.is_array() && !data.is_object()) {
    throw Error(fmt::format("{}: {} where a list of elements or an object of them is expected.",
                            file.string(), data.type_name()));
  }
  std::vector<VisuRow> rows;
  for (auto& [row, element] : Elements(file, data)) {
    rows.push_back(RowReader(file, *element, std::move(row)).Read());
  }
  if (rows.empty()) throw Error(fmt::format("{}: holds no row.", file.string()));
  return rows;
}

std::unique_ptr<QuadrupletSet> MakeVisuQuadruplets() { return std::make_unique<VisuQuadruplets>(); }

}  // namespace excise
