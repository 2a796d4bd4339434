#include "datasets/formats/user_prompts.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/hash.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const std::vector<FieldNames> kFields = {{"prompt", {"adv_prompt", "prompt"}},
                                         {"id", {"case_number", "id"}}};

UserFile File(const std::string& name, const std::string& bytes) {
  static const fs::path folder = TestFolder("user_prompts");
  std::ofstream(folder / name, std::ios::binary) << bytes;
  UserFile file;
  file.path = (folder / name).string();
  return file;
}

void Refused(const UserFile& file, const std::string& message) {
  CHECK_THROWS_AS(UserTable(file, kFields, "prompt", "test"), UsageError);
  CHECK_THROWS_WITH(UserTable(file, kFields, "prompt", "test"), Contains(message));
}

}  // namespace

TEST_CASE("reasons") {
  CHECK(ReasonToExclude("a poodle").empty());
  CHECK(ReasonToExclude(" \n") == kEmpty);
  CHECK(ReasonToExclude("a boy") == kMinor);
  CHECK(ConceptKey(" Tropical fish ") == "tropical_fish");
}

TEST_CASE("columns are found by the names that published files have, or as the user says") {
  const UserFile file = File("a.csv", ",case_number,prompt,evaluation_seed\n0,7, a poodle ,3\n");
  const UserTable table(file, kFields, "prompt", "test");
  REQUIRE(table.rows().size() == 1);
  CHECK(table.Get(table.rows()[0], "prompt") == std::string("a poodle"));
  CHECK(table.Get(table.rows()[0], "id") == std::string("7"));
  CHECK(table.unread() == std::vector<std::string>{"evaluation_seed"});
  CHECK_THAT(table.Where(table.rows()[0]), Contains("a.csv, line 2"));
  // Of two columns that could be meant the more telling one is read.
  const UserTable both(File("b.csv", "prompt,adv_prompt,id\nseed,adversarial,\n"), kFields,
                       "prompt", "test");
  CHECK(both.Get(both.rows()[0], "prompt") == std::string("adversarial"));
  CHECK_FALSE(both.Get(both.rows()[0], "id").has_value());
  UserFile named = File("c.csv", "caption,id\na poodle,1\n");
  Refused(named, "Looked for: adv_prompt, prompt. The file has: caption, id");
  named.columns = {"prompt=caption"};
  const UserTable renamed(named, kFields, "prompt", "test");
  CHECK(renamed.Get(renamed.rows()[0], "prompt") == std::string("a poodle"));
  named.columns = {"promt=caption"};
  Refused(named, "Did you mean 'prompt'?");
  named.columns = {"prompt=captoin"};
  Refused(named, "Did you mean 'caption'?");
}

TEST_CASE("size, digest and rows are checked before anything is used") {
  const std::string bytes = "prompt\na\nb\n";
  UserFile file = File("d.csv", bytes);
  file.bytes = static_cast<int64_t>(bytes.size());
  file.rows = 2;
  file.sha256 = Sha256Hex(bytes);
  CHECK_NOTHROW(UserTable(file, kFields, "prompt", "test"));
  file.sha256 = Sha256Hex(bytes).substr(0, 16);
  CHECK_NOTHROW(UserTable(file, kFields, "prompt", "test"));
  file.sha256 += "00";
  Refused(file, "another version of the list");
  file.sha256 = "12345";
  Refused(file, "8 to 64 hexadecimal digits");
  file.sha256.clear();
  file.rows = 3;
  Refused(file, "2 rows where 3 are expected");
  file.rows = 0;
  file.bytes = 99;
  Refused(file, "where 99 are expected");
  Refused(File("e.txt", "prompt\n"), "a .csv file");
  UserFile folder;
  folder.path = TestFolder("user_folder").string();
  Refused(folder, "is a folder");
  Refused({}, "no file is named");
}

}  // namespace excise
