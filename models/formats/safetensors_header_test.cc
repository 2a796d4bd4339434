#include "models/formats/safetensors_header.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace excise {
namespace {

SafetensorsHeader Parse(const std::string& header, uint64_t data_bytes) {
  return ParseSafetensorsHeader(header, 8 + header.size() + data_bytes, "w.safetensors");
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST_CASE("a header's entries come in the order of their data") {
  const auto header =
      Parse("{\"__metadata__\":{\"format\":\"pt\"}," + Entry("a", "F32", "[2,1]", "[2,10]") + "," +
                Entry("b", "F16", "[]", "[0,2]") + "," + Entry("empty", "F64", "[0,3]", "[10,10]") +
                "}   ",
            10);
  REQUIRE(header.entries.size() == 3);
  CHECK(header.entries[0].name == "b");
  CHECK(header.entries[0].shape.empty());
  CHECK(header.entries[1].name == "a");
  CHECK(header.entries[1].shape == std::vector<int64_t>{2, 1});
  CHECK(header.entries[1].begin == 2);
  CHECK(header.entries[1].end == 10);
  CHECK(header.entries[2].shape == std::vector<int64_t>{0, 3});
  CHECK(header.metadata.at("format") == "pt");
  CHECK(Parse("{}", 0).entries.empty());
}

TEST_CASE("every kind of damaged header is refused, with the file's name") {
  struct Case {
    std::string header;
    uint64_t data_bytes;
    std::string message;
  };
  const std::string a = Entry("a", "F32", "[1]", "[0,4]");
  const std::vector<Case> cases = {
      {"", 0, "does not start with"},
      {" {}", 0, "does not start with"},
      {"[]", 0, "does not start with"},
      {"{", 0, ""},
      {"{" + a + "}x", 4, ""},
      {"{" + a + "," + a + "}", 4, ""},
      {"{" + a + "," + Entry("a", "F32", "[1]", "[4,8]") + "}", 8, "a"},
      {"{" + a + "}", 3, "truncated"},
      {"{" + a + "}", 5, "trailing bytes"},
      {"{" + Entry("a", "F32", "[1]", "[4,8]") + "}", 8, "hole"},
      {"{" + a + "," + Entry("b", "F32", "[1]", "[2,6]") + "}", 6, "'b'"},
      {"{" + a + "," + Entry("b", "F32", "[1]", "[0,4]") + "}", 4, "overlap"},
      {"{" + Entry("a", "F32", "[2]", "[0,4]") + "}", 4, "need 8 bytes"},
      {"{" + Entry("a", "F32", "[1]", "[4,0]") + "}", 4, "ends before it begins"},
      {"{" + Entry("a", "F32", "[-1]", "[0,4]") + "}", 4, "dimension"},
      {"{" + Entry("a", "F32", "[1.0]", "[0,4]") + "}", 4, "dimension"},
      {"{" + Entry("a", "F32", "[\"1\"]", "[0,4]") + "}", 4, "dimension"},
      {"{" + Entry("a", "F32", "[1]", "[0,-4]") + "}", 4, "offset"},
      {"{" + Entry("a", "F32", "[1]", "[0]") + "}", 4, "not a pair"},
      {"{" + Entry("a", "F32", "[1]", "[0,4,8]") + "}", 4, "not a pair"},
      // 2^62 * 4 wraps to 0 without an overflow check.
      {"{" + Entry("a", "F32", "[4611686018427387904]", "[0,0]") + "}", 0, "overflows"},
      {"{" + Entry("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0, "overflows"},
      {"{" + Entry("a", "U8", "[18446744073709551615]", "[0,4]") + "}", 4, "overflows"},
      {"{" + Entry("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") + "}", 1, "dimensions"},
      {"{" + Entry("a", "F31", "[1]", "[0,4]") + "}", 4, "dtype"},
      {"{" + Entry("", "U8", "[1]", "[0,1]") + "}", 1, "name"},
      {"{" + Entry("a\\u0000b", "U8", "[1]", "[0,1]") + "}", 1, "name"},
      {"{" + Entry("a\\u001b[2J", "U8", "[1]", "[0,1]") + "}", 1, "name"},
      {"{" + Entry(std::string(1025, 'n'), "U8", "[1]", "[0,1]") + "}", 1, "name"},
      {"{\"a\":3}", 0, "not an object"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets"},
      {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape"},
      {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, "unknown key"},
      {"{\"__metadata__\":{\"n\":1}}", 0, "__metadata__"},
      {"{\"__metadata__\":[]}", 0, "__metadata__"},
      {"{\"a\":" + std::string(2000, '[') + std::string(2000, ']') + "}", 0, ""},
  };
  for (const Case& c : cases) {
    INFO(c.header.substr(0, 200));
    CHECK_THROWS_AS(Parse(c.header, c.data_bytes), Error);
    CHECK_THROWS_WITH(Parse(c.header, c.data_bytes),
                      Catch::StartsWith("w.safetensors") && Catch::Contains(c.message));
  }
}

std::string Length(uint64_t n) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(n >> (8 * i) & 0xff);
  return bytes;
}

TEST_CASE("the header's length is little-endian and bounded by 1e8 and by the file") {
  CHECK(SafetensorsHeaderLength(Length(392), 441, "f") == 392);
  CHECK(SafetensorsHeaderLength(Length(433), 441, "f") == 433);
  CHECK(SafetensorsHeaderLength(Length(100'000'000), 1'000'000'000, "f") == 100'000'000);
  CHECK_THROWS_AS(SafetensorsHeaderLength(Length(434), 441, "f"), Error);
  CHECK_THROWS_AS(SafetensorsHeaderLength(Length(0), 441, "f"), Error);
  CHECK_THROWS_AS(SafetensorsHeaderLength(Length(100'000'001), 1'000'000'000, "f"), Error);
  // 8 + N would wrap around.
  CHECK_THROWS_AS(SafetensorsHeaderLength(Length(~uint64_t{0}), 441, "f"), Error);
  CHECK_THROWS_AS(SafetensorsHeaderLength("1234567", 7, "f"), Error);
}

TEST_CASE("element sizes") {
  CHECK(SafetensorsElementSize("BOOL") == 1);
  CHECK(SafetensorsElementSize("BF16") == 2);
  CHECK(SafetensorsElementSize("F32") == 4);
  CHECK(SafetensorsElementSize("I64") == 8);
  CHECK(SafetensorsElementSize("F4") == 0);
  CHECK(SafetensorsElementSize("") == 0);
}

}  // namespace
}  // namespace excise
