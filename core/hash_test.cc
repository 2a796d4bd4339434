#include "core/hash.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"

namespace excise {
namespace {

// FIPS 180-4 examples (NIST, "Descriptions of SHA-256").
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST_CASE("SHA-256 agrees with the published examples", "[hash]") {
  CHECK(Sha256Hex("") == kEmpty);
  CHECK(Sha256Hex("abc") == kAbc);
  CHECK(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(Sha256Hex(std::string(1000000, 'a')) == kMillionA);
}

TEST_CASE("an incremental digest does not depend on the pieces", "[hash]") {
  Sha256 digest;
  for (int i = 0; i < 1000; ++i) digest.Update(std::string(1000, 'a'));
  CHECK(digest.Hex() == kMillionA);
  CHECK_THROWS_AS(digest.Hex(), Error);
  CHECK_THROWS_AS(digest.Update("x"), Error);
  CHECK(Sha256().Hex() == kEmpty);
}

TEST_CASE("files", "[hash]") {
  const auto path = std::filesystem::temp_directory_path() / "excise_hash_test.bin";
  std::ofstream(path) << std::string(1000000, 'a') << std::string(1200000, 'b');
  CHECK(Sha256HexOfFile(path) == Sha256Hex(std::string(1000000, 'a') + std::string(1200000, 'b')));
  std::ofstream(path, std::ios::trunc) << "";
  CHECK(Sha256HexOfFile(path) == kEmpty);
  std::filesystem::remove(path);
  CHECK_THROWS_WITH(Sha256HexOfFile(path), Catch::Contains(path.string()));
  CHECK_THROWS_AS(Sha256HexOfFile(std::filesystem::temp_directory_path()), Error);
}

}  // namespace
}  // namespace excise
