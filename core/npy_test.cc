#include "core/npy.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <string>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

// As numpy writes it: magic, version 1.0, header length, header padded with spaces, data.
std::string Npy(const std::string& dict, const std::string& data) {
  std::string header = dict;
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() & 0xFF) +
         static_cast<char>(header.size() >> 8) + header + data;
}

// 1.5 and -2 as IEEE 754, little endian.
const std::string kTwo("\x00\x00\xC0\x3F\x00\x00\x00\xC0", 8);

}  // namespace

TEST_CASE("npy: shape and values") {
  const NpyArray row =
      ParseNpy(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", kTwo), "x");
  CHECK(row.shape == std::vector<int64_t>{1, 2});
  CHECK(row.values == std::vector<float>{1.5f, -2.0f});
  const NpyArray flat =
      ParseNpy(Npy("{'shape': (2,), 'descr': '<f4', 'fortran_order': False}", kTwo), "x");
  CHECK(flat.shape == std::vector<int64_t>{2});
  CHECK(ParseNpy(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", ""), "x")
            .values.empty());
}

TEST_CASE("npy: every other file is refused by name") {
  const std::string good = Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", kTwo);
  for (size_t cut = 0; cut < good.size(); ++cut) {
    CHECK_THROWS_WITH(ParseNpy(good.substr(0, cut), "my.npy"), Catch::Contains("my.npy"));
  }
  CHECK_THROWS_AS(ParseNpy(good + "x", "x"), Error);
  for (const char* dict :
       {"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999, 999999999, 999999999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
        "{'descr': '<f4', 'fortran_order': False}", "{'descr': '<f4', 'descr': '<f4'}",
        "__import__('os')", "{", ""}) {
    INFO(dict);
    CHECK_THROWS_AS(ParseNpy(Npy(dict, kTwo), "x"), Error);
  }
  CHECK_THROWS_AS(ParseNpy("\x93NUMPY\x09" + good.substr(7), "x"), Error);
}

TEST_CASE("npy: a file that is too long is not read") {
  const std::filesystem::path file = TestFolder("npy") / "a.npy";
  std::ofstream(file, std::ios::binary)
      << Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", kTwo);
  CHECK(ReadNpy(file, 1000).values.size() == 2);
  CHECK_THROWS_WITH(ReadNpy(file, 100), Catch::Contains("at most 100"));
  CHECK_THROWS_AS(ReadNpy(TestFolder("npy") / "none.npy", 100), Error);
}

}  // namespace excise
