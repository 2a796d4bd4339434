#include "models/tensors/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

#include "core/error.h"
#include "core/read_file.h"
#include "models/formats/safetensors_header.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void Write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string FileBytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

// What Python's safetensors 0.8.0 wrote for {"b.half": [1.5, -2, 0.099975586] F16, "a.bf":
// [[1, -0.5]] BF16, "c": 3.25 F32, "ids": [[0, 1, 2]] I64, "empty": (0, 4) F32, "flag":
// [true, false, true] BOOL}.
std::string PythonFile() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"ids":{"dtype":"I64","shape":[1,3],"data_offsets":[0,24]})"
      R"(,)"
      R"("c":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
      R"("empty":{"dtype":"F32","shape":[0,4],"data_offsets":[28,28]},)"
      R"("a.bf":{"dtype":"BF16","shape":[1,2],"data_offsets":[28,32]},)"
      R"("b.half":{"dtype":"F16","shape":[3],"data_offsets":[32,38]},)"
      R"("flag":{"dtype":"BOOL","shape":[3],"data_offsets":[38,41]}}       )";
  const unsigned char data[] = {0,    0,    0,    0,    0,    0,    0,    0,    1,    0,    0,
                                0,    0,    0,    0,    0,    2,    0,    0,    0,    0,    0,
                                0,    0,    0,    0,    0x50, 0x40, 0x80, 0x3f, 0x00, 0xbf, 0x00,
                                0x3e, 0x00, 0xc0, 0x66, 0x2e, 1,    0,    1};
  return FileBytes(header, std::string(reinterpret_cast<const char*>(data), sizeof(data)));
}

TEST_CASE("a file written by Python's safetensors is read") {
  const auto folder = TestFolder("safetensors_python");
  const auto path = folder / "x.safetensors";
  REQUIRE(PythonFile().size() == 441);
  Write(path, PythonFile());
  const StateDict up = LoadSafetensors(path);
  REQUIRE(up.size() == 6);
  CHECK(at::equal(up.Get("b.half"), at::tensor({1.5f, -2.0f, 0.0999755859375f})));
  CHECK(at::equal(up.Get("a.bf"), at::tensor({1.0f, -0.5f}).view({1, 2})));
  CHECK(at::equal(up.Get("c"), at::scalar_tensor(3.25f, at::kFloat)));
  CHECK(at::equal(up.Get("ids"), at::arange(3, at::kLong).view({1, 3})));
  CHECK(up.Get("empty").sizes() == at::IntArrayRef({0, 4}));
  CHECK(at::equal(up.Get("flag"), at::tensor({1, 0, 1}).to(at::kBool)));
  const StateDict raw = LoadSafetensors(path, /*upcast=*/false);
  CHECK(raw.Get("b.half").scalar_type() == at::kHalf);
  CHECK(raw.Get("a.bf").scalar_type() == at::kBFloat16);
}

TEST_CASE("what is saved is loaded again, aligned and byte for byte the same each time") {
  const auto folder = TestFolder("safetensors_round_trip");
  StateDict weights;
  weights.Set("z", at::arange(6, at::kFloat).view({2, 3}).t());  // not contiguous
  weights.Set("h", at::tensor({1.0f, 2.0f, 3.0f}).to(at::kHalf));
  weights.Set("n", at::arange(3, at::kLong));
  weights.Set("s", at::scalar_tensor(2.5, at::kDouble).requires_grad_());
  weights.Set("e", at::zeros({0}));
  SaveSafetensors(folder / "a.safetensors", weights, {{"format", "pt"}});
  SaveSafetensors(folder / "b.safetensors", weights, {{"format", "pt"}});
  const std::string bytes = ReadAll(folder / "a.safetensors");
  CHECK(bytes == ReadAll(folder / "b.safetensors"));
  const StateDict back = LoadSafetensors(folder / "a.safetensors", /*upcast=*/false);
  REQUIRE(back.size() == weights.size());
  for (const auto& [name, tensor] : weights) {
    INFO(name);
    CHECK(back.Get(name).scalar_type() == tensor.scalar_type());
    CHECK(at::equal(back.Get(name), tensor.detach()));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const auto header =
      ParseSafetensorsHeader(std::string_view(bytes).substr(8, length), bytes.size(), "a");
  CHECK(header.metadata.at("format") == "pt");
  for (const SafetensorsEntry& entry : header.entries) {
    CHECK((header.data_begin + entry.begin) % SafetensorsElementSize(entry.dtype) == 0);
  }
}

TEST_CASE("values that are not finite are neither saved nor loaded") {
  const auto folder = TestFolder("safetensors_nan");
  const std::string half = R"({"w.nan":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})";
  Write(folder / "nan.safetensors", FileBytes(half, std::string("\x00\x7e", 2)));
  CHECK_THROWS_WITH(LoadSafetensors(folder / "nan.safetensors"), Catch::Contains("'w.nan'"));
  Write(folder / "inf.safetensors", FileBytes(half, std::string("\x00\x7c", 2)));
  CHECK_THROWS_AS(LoadSafetensors(folder / "inf.safetensors"), Error);
  StateDict weights;
  weights.Set("w.inf", at::full({2}, std::numeric_limits<float>::infinity()));
  CHECK_THROWS_WITH(SaveSafetensors(folder / "out.safetensors", weights),
                    Catch::Contains("'w.inf'"));
  CHECK_FALSE(std::filesystem::exists(folder / "out.safetensors"));
}

TEST_CASE("missing, truncated and foreign files are named") {
  const auto folder = TestFolder("safetensors_bad");
  CHECK_THROWS_WITH(LoadSafetensors(folder / "absent.safetensors"),
                    Catch::Contains("absent.safetensors"));
  CHECK_THROWS_AS(LoadSafetensors(folder), Error);
  REQUIRE(mkfifo((folder / "pipe.safetensors").c_str(), 0600) == 0);
  for (const auto& read :
       {+[](const fs::path& path) { LoadSafetensors(path); },
        +[](const fs::path& path) { ReadSafetensorsHeader(RegularFile(path), path); }}) {
    CHECK_THROWS_WITH(read(folder / "pipe.safetensors"), Catch::Contains("is a pipe"));
  }
  const std::string good = PythonFile();
  // Cut anywhere, no prefix of a file is a file.
  for (size_t size = 0; size < good.size(); size += 7) {
    Write(folder / "cut.safetensors", good.substr(0, size));
    CHECK_THROWS_AS(LoadSafetensors(folder / "cut.safetensors"), Error);
  }
  Write(folder / "f8.safetensors",
        FileBytes(R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", "x"));
  CHECK_THROWS_WITH(LoadSafetensors(folder / "f8.safetensors"), Catch::Contains("F8_E4M3"));
}

TEST_CASE("a folder is read from one file or from the shards of its index") {
  const auto folder = TestFolder("safetensors_shards");
  StateDict a, b;
  a.Set("x", at::ones({1}));
  b.Set("y", at::zeros({1}));
  SaveSafetensors(folder / "m-00001-of-00002.safetensors", a);
  SaveSafetensors(folder / "m-00002-of-00002.safetensors", b);
  CHECK_THROWS_WITH(LoadSafetensorsFolder(folder, "m"), Catch::Contains("m.safetensors"));
  const auto index = folder / "m.safetensors.index.json";
  Write(index, R"({"metadata":{"total_size":8},"weight_map":{
      "x":"m-00001-of-00002.safetensors","y":"m-00002-of-00002.safetensors"}})");
  const StateDict whole = LoadSafetensorsFolder(folder, "m");
  CHECK(whole.size() == 2);
  CHECK(whole.Get("x").item<double>() == 1);
  CHECK(whole.Get("y").item<double>() == 0);

  Write(index, R"({"weight_map":{"z":"m-00001-of-00002.safetensors"}})");
  CHECK_THROWS_WITH(LoadSafetensorsFolder(folder, "m"), Catch::Contains("'z'"));
  for (const char* bad :
       {"../m.safetensors", "/etc/m.safetensors", "a/m.safetensors", "a\\\\m.safetensors",
        "m..safetensors", "m.bin", ".safetensors", "m\\u0000.safetensors"}) {
    INFO(bad);
    Write(index, std::string(R"({"weight_map":{"x":")") + bad + R"("}})");
    CHECK_THROWS_WITH(LoadSafetensorsFolder(folder, "m"), Catch::Contains("Refusing"));
  }
  Write(index, R"({"weight_map":["x"]})");
  CHECK_THROWS_AS(LoadSafetensorsFolder(folder, "m"), Error);

  SaveSafetensors(folder / "m.safetensors", b);
  CHECK(LoadSafetensorsFolder(folder, "m").size() == 1);
}

TEST_CASE("what is not wanted is not read") {
  const auto folder = TestFolder("wanted");
  StateDict a, b;
  a.Set("x", at::ones({1}));
  a.Set("other", at::full({1}, 2));
  b.Set("y", at::zeros({1}));
  const TensorChoice wanted = [](const std::string& name) { return name == "x"; };
  SaveSafetensors(folder / "s-00001-of-00002.safetensors", a);
  SaveSafetensors(folder / "s-00002-of-00002.safetensors", b);
  Write(folder / "s.safetensors.index.json", R"({"weight_map":{"x":"s-00001-of-00002.safetensors",
      "other":"s-00001-of-00002.safetensors","y":"s-00002-of-00002.safetensors"}})");
  // A shard of which nothing is wanted may be missing.
  std::filesystem::remove(folder / "s-00002-of-00002.safetensors");
  CHECK_THROWS_AS(LoadSafetensorsFolder(folder, "s"), Error);
  SaveSafetensors(folder / "m.safetensors", a);
  for (const char* stem : {"s", "m"}) {
    const StateDict some = LoadSafetensorsFolder(folder, stem, at::kFloat, INT64_MAX, wanted);
    CHECK(some.size() == 1);
    CHECK(some.Get("x").item<double>() == 1);
  }
  // The bound on elements holds for all that the file has.
  CHECK_THROWS_WITH(LoadSafetensorsFolder(folder, "m", at::kFloat, 1, wanted),
                    Catch::Contains("far more"));
}

}  // namespace
}  // namespace excise
