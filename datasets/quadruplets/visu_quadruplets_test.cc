#include "datasets/quadruplets/visu_quadruplets.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/json.h"
#include "models/pictures/image_io.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

void WriteText(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

void WriteGrey(const fs::path& file, int64_t grey, int64_t height = 6, int64_t width = 8) {
  fs::create_directories(file.parent_path());
  WritePng(file, at::full({3, height, width}, grey, at::kByte));
}

Json Element(int64_t coco_id, const std::string& tag = "weapons") {
  return {{"coco_id", coco_id},
          {"safe", "a man holding an umbrella"},
          {"nsfw", "a man holding a dagger"},
          {"nsfw_im_path", "gen/" + std::to_string(coco_id) + ".png"},
          {"tag", tag}};
}

// A folder as users have it: annotations, COCO, unsafe pictures.
struct Folder {
  explicit Folder(const std::string& name) : root(TestFolder(name)) {
    for (const char* folder : {"text", "coco", "unsafe"}) fs::create_directories(root / folder);
  }
  void Annotate(const Json& data, const std::string& file = "text/test/visu_dpo_test.json") const {
    WriteText(root / file, data.dump());
  }
  // PNG bytes under COCO's names: the kind is read from the bytes.
  void Draw(int64_t coco_id, const std::string& split = "val2017") const {
    char name[32];
    std::snprintf(name, sizeof name, "%012d.jpg", static_cast<int>(coco_id));
    WriteGrey(root / "coco" / split / name, 100 + coco_id);
    WriteGrey(root / "unsafe/gen" / (std::to_string(coco_id) + ".png"), 200 + coco_id);
  }
  std::unique_ptr<QuadrupletSet> Open(const Json& more = Json::object()) const {
    Json params = {{"annotations", (root / "text").string()},
                   {"images", (root / "coco").string()},
                   {"unsafe_images", (root / "unsafe").string()}};
    params.update(more);
    std::unique_ptr<QuadrupletSet> set = MakeQuadrupletSet("visu");
    DecodeParams(params, *set, "test");
    return set;
  }
  fs::path root;
};

// What reading `data` as an annotations file says.
std::string Complaint(const std::string& text) {
  const fs::path file = TestFolder("visu_complaint") / "visu_x.json";
  WriteText(file, text);
  try {
    ReadVisuRows(file);
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains("visu_x.json"));
    return error.what();
  }
  return "";
}

std::string ComplaintWith(const char* field, const Json& value) {
  Json element = Element(1);
  element[field] = value;
  return Complaint(Json::array({Element(0), element}).dump());
}

}  // namespace

TEST_CASE("a list, an object keyed by numbers, and {info, data} around either are the same") {
  const Json list = Json::array({Element(3), Element(4)});
  const Json keyed = {{"10", Element(4)}, {"2", Element(3)}};
  for (const Json& data : {list, keyed, Json{{"info", {{"year", 2023}}}, {"data", list}},
                           Json{{"info", ""}, {"data", keyed}}}) {
    const fs::path file = TestFolder("visu_layout") / "visu_x.json";
    WriteText(file, data.dump());
    const std::vector<VisuRow> rows = ReadVisuRows(file);
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].coco_id == 3);  // "2" before "10"
    CHECK(rows[1].coco_id == 4);
    CHECK(rows[1].nsfw_im_path == "gen/4.png");
    CHECK(rows[1].tag == "weapons");
  }
  Json text_id = Element(0);
  text_id["coco_id"] = "000000391895";
  const fs::path file = TestFolder("visu_text_id") / "visu_x.json";
  WriteText(file, Json::array({text_id}).dump());
  CHECK(ReadVisuRows(file)[0].coco_id == 391895);
}

TEST_CASE("malformed annotations name the file and the row") {
  CHECK_THAT(Complaint("[{\"coco_id\": 1,"), Contains("line"));
  CHECK_THAT(Complaint("[]"), Contains("no row"));
  CHECK_THAT(Complaint("{\"info\": {}, \"data\": []}"), Contains("no row"));
  CHECK_THAT(Complaint("3"), Contains("number where a list"));
  CHECK_THAT(Complaint("[1]"), Contains("row 0: an object with coco_id"));
  CHECK_THAT(Complaint(Json{{"first", Element(1)}}.dump()), Contains("'first' is no row number"));
  CHECK_THAT(Complaint(Json{{"1", Element(1)}, {"01", Element(2)}}.dump()),
             Contains("the same row"));
  for (const char* field : {"coco_id", "safe", "nsfw", "nsfw_im_path", "tag"}) {
    Json element = Element(1);
    element.erase(field);
    CHECK_THAT(Complaint(Json::array({Element(0), element}).dump()),
               Contains("row 1: '" + std::string(field) + "' is missing"));
  }
  Json renamed = Element(1);
  renamed["nsfw_im_paths"] = renamed["nsfw_im_path"];
  renamed.erase("nsfw_im_path");
  CHECK_THAT(Complaint(Json{{"7", renamed}}.dump()), Contains("'nsfw_im_paths' is there"));
  CHECK_THAT(ComplaintWith("safe", 3), Contains("row 1: 'safe' is number; text is expected"));
  for (const Json& id : {Json(-1), Json(1.5), Json("12a"), Json(""), Json(nullptr), Json("-4"),
                         Json(1000000000000), Json(true)}) {
    INFO(id.dump());
    CHECK_THAT(ComplaintWith("coco_id", id), Contains("row 1: coco_id"));
  }
}

TEST_CASE("nsfw_im_path stays below its folder") {
  for (const char* path : {"/etc/passwd", "../secret.png", "a/../../b.png", "", ".."}) {
    INFO(path);
    CHECK_THAT(ComplaintWith("nsfw_im_path", path), Contains("row 1: nsfw_im_path"));
  }
  CHECK_THAT(ComplaintWith("nsfw_im_path", std::string("a\0b", 3)), Contains("no path below"));
  CHECK(ComplaintWith("nsfw_im_path", "a/../b.png").empty());
}

TEST_CASE("rows, ids, tags and pictures in the published layout") {
  const Folder folder("visu_rows");
  folder.Annotate(Json::array({Element(1), Element(2, "violence"), Element(3)}));
  folder.Draw(1, "train2017");
  folder.Draw(2, "val2017");
  folder.Draw(3, "test2017");
  const auto set = folder.Open();
  const std::vector<Quadruplet> rows = set->Rows(QuadrupletPart::kTest, 2);
  REQUIRE(rows.size() == 2);
  CHECK(rows[1].tag == "violence");
  CHECK(rows[0].safe_text == "a man holding an umbrella");
  CHECK(rows[0].unsafe_text == "a man holding a dagger");
  CHECK(rows[0].id.substr(0, 5) == "visu@");
  CHECK(rows[0].id.substr(13) == "/0");
  CHECK(rows[0].id != rows[1].id);
  for (const Quadruplet& row : rows) {
    const int64_t coco_id = row.row + 1;
    const at::Tensor v = set->Picture(QuadrupletPart::kTest, row, false, 4);
    CHECK(v.sizes() == at::IntArrayRef({3, 4, 4}));
    CHECK(v.eq(100 + coco_id).all().item<bool>());
    CHECK(set->Picture(QuadrupletPart::kTest, row, true, 4).eq(200 + coco_id).all().item<bool>());
  }
  // Digests follow what is read, and nothing else.
  const auto digests = set->Digests(QuadrupletPart::kTest, 2);
  CHECK(digests.count("annotations") == 1);
  WriteGrey(folder.root / "unsafe/gen/3.png", 9);
  CHECK(folder.Open()->Digests(QuadrupletPart::kTest, 2) == digests);
  WriteGrey(folder.root / "unsafe/gen/2.png", 9);
  const auto changed = folder.Open()->Digests(QuadrupletPart::kTest, 2);
  CHECK(changed.at("unsafe_images") != digests.at("unsafe_images"));
  CHECK(changed.at("images") == digests.at("images"));
}

TEST_CASE("missing pictures, folders and splits are named") {
  const Folder folder("visu_missing");
  folder.Annotate(Json{{"0", Element(1)}, {"5", Element(2)}});
  folder.Draw(1);
  CHECK(folder.Open()->Rows(QuadrupletPart::kTest, 1).size() == 1);
  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kTest, 2),
                    Contains("visu_dpo_test.json, key 5: the COCO picture 000000000002.jpg"));
  folder.Draw(2);
  fs::remove(folder.root / "unsafe/gen/2.png");
  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kTest, 2),
                    Contains("key 5: the picture") && Contains("2.png is missing"));
  WriteText(folder.root / "unsafe/gen/2.png", "no picture");
  const auto damaged = folder.Open();
  const Quadruplet row = damaged->Rows(QuadrupletPart::kTest, 2)[1];
  CHECK_THROWS_WITH(damaged->Picture(QuadrupletPart::kTest, row, true, 4), Contains("2.png"));
  fs::remove(folder.root / "unsafe/gen/2.png");
  REQUIRE(mkfifo((folder.root / "unsafe/gen/2.png").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kTest, 2), Contains("2.png is a pipe"));

  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kTrain, 1),
                    Contains("train/visu_*.json") && Contains("ViSU-Text_train.json"));
  folder.Annotate(Json::array({Element(1)}), "text/val/visu_v.json");
  CHECK(folder.Open()->Rows(QuadrupletPart::kValidation, 9).size() == 1);
  folder.Annotate(Json::array({Element(1)}), "text/ViSU-Text_validation.json");
  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kValidation, 1), Contains("several"));
  CHECK_THROWS_WITH(folder.Open({{"images", ""}})->Rows(QuadrupletPart::kTest, 1),
                    Contains("parameter images"));
  CHECK_FALSE(MissingSetting(*MakeQuadrupletSet("visu")).empty());
}

TEST_CASE("texts that mention minors are left out and counted") {
  const Folder folder("visu_minor");
  Json minor = Element(1), empty = Element(2);
  minor["nsfw"] = "a teenager with a dagger";
  empty["safe"] = "  ";
  folder.Annotate(Json::array({minor, empty, Element(3)}));
  folder.Draw(3);  // pictures of rows that are left out are not asked for
  const auto set = folder.Open();
  const std::vector<Quadruplet> rows = set->Rows(QuadrupletPart::kTest, 100);
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].id.substr(13) == "/2");
  const std::vector<Exclusion> excluded = set->Excluded(QuadrupletPart::kTest, 100);
  REQUIRE(excluded.size() == 2);
  CHECK(excluded[0].reason == "excluded:minor");
  CHECK(excluded[1].reason == "excluded:empty");
  CHECK(excluded[0].sha256.size() == 64);
  CHECK(set->Excluded(QuadrupletPart::kTest, 1).size() == 1);  // they count towards the limit
  CHECK_THROWS_WITH(set->Rows(QuadrupletPart::kTest, 2), Contains("is empty; 2 of its rows"));
}

TEST_CASE("tags that are held out are the part unseen's alone") {
  const Folder folder("visu_unseen");
  folder.Annotate(Json::array({Element(1, "weapons"), Element(2, "blood"), Element(3, "theft")}));
  for (const int64_t id : {1, 2, 3}) folder.Draw(id);
  const auto set = folder.Open({{"unseen", {"blood"}}});
  CHECK(set->Rows(QuadrupletPart::kTest, 10).size() == 2);
  const std::vector<Quadruplet> unseen = set->Rows(QuadrupletPart::kUnseen, 10);
  REQUIRE(unseen.size() == 1);
  CHECK(unseen[0].tag == "blood");
  CHECK(set->Picture(QuadrupletPart::kUnseen, unseen[0], true, 4).eq(202).all().item<bool>());
  CHECK_THROWS_WITH(folder.Open()->Rows(QuadrupletPart::kUnseen, 1), Contains("unseen"));
}

TEST_CASE("a picture that changes after it was hashed is not read as if it had not") {
  const Folder folder("visu_changed");
  folder.Annotate(Json::array({Element(1), Element(2)}));
  for (const int64_t id : {1, 2}) folder.Draw(id, "val2017");
  const auto set = folder.Open();
  const std::vector<Quadruplet> rows = set->Rows(QuadrupletPart::kTest, 10);
  REQUIRE(rows.size() == 2);
  set->Digests(QuadrupletPart::kTest, 1);
  const auto picture = [&](size_t row, bool unsafe) {
    return set->Picture(QuadrupletPart::kTest, rows[row], unsafe, 4);
  };
  CHECK(picture(0, true).eq(201).all().item<bool>());
  WriteGrey(folder.root / "unsafe/gen/1.png", 9);
  CHECK_THROWS_WITH(picture(0, true), Contains("1.png was changed"));
  // Another file that comes before the one that was hashed.
  CHECK(picture(0, false).eq(101).all().item<bool>());
  WriteGrey(folder.root / "coco/train2017/000000000001.jpg", 9);
  CHECK_THROWS_WITH(picture(0, false), Contains("train2017/000000000001.jpg was changed"));
  // Nobody asked for the digest of the second row.
  WriteGrey(folder.root / "unsafe/gen/2.png", 9);
  CHECK(picture(1, true).eq(9).all().item<bool>());
}

}  // namespace excise
