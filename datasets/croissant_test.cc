// The metadata that other tools read (MLCommons Croissant 1.0) names what the concept files have.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "core/json.h"
#include "core/text.h"
#include "tests/testdata.h"

namespace excise {

namespace fs = std::filesystem;

TEST_CASE("every concept file has what the Croissant metadata extracts from it") {
  const fs::path folder = RepoFile("datasets/croissant.json").parent_path();
  const Json metadata = ReadJsonFile(folder / "croissant.json");
  const Json& fields = metadata.at("recordSet").at(0).at("field");
  REQUIRE(fields.size() >= 7);
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "concepts")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    const Json file = ReadJsonFile(entry.path());
    for (const Json& field : fields) {
      const Json& source = field.at("source");
      CHECK(source.at("fileSet").at("@id") == metadata.at("distribution").at(0).at("@id"));
      // "$.names.known" as "/names/known".
      std::string path = source.at("extract").at("jsonPath");
      INFO(entry.path() << " " << path);
      REQUIRE(StartsWith(path, "$."));
      path.erase(0, 1);
      std::replace(path.begin(), path.end(), '.', '/');
      const Json::json_pointer place(path);
      REQUIRE(file.contains(place));
      CHECK(file.at(place).is_array() == field.value("repeated", false));
    }
  }
  CHECK(files >= 24);
}

}  // namespace excise
