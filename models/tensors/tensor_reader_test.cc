#include "models/tensors/tensor_reader.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

// Elements that a file is read by are blocks of 1 MiB, and values are checked by runs of 1024:
// these positions lie at the ends of both, and in a rest.
const std::vector<int64_t> kPositions = {0,      1023,   1024,   262143, 262144,
                                         524287, 524288, 524289, 700000, 700002};

// Writes over element `index` of the last tensor's data.
template <class Bits>
void Overwrite(const fs::path& path, int64_t elements, int64_t index, Bits bits) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-(elements - index) * static_cast<int64_t>(sizeof(Bits)), std::ios::end);
  file.write(reinterpret_cast<const char*>(&bits), sizeof(Bits));
  REQUIRE(file.good());
}

template <class Bits>
void CheckEveryPosition(at::ScalarType type, const std::vector<Bits>& infinite, Bits largest) {
  const fs::path path = TestFolder("reader") / "x.safetensors";
  const int64_t elements = 700003;
  StateDict weights;
  weights.Set("values", at::full({elements}, 1.5, type));
  for (const int64_t position : kPositions) {
    SaveSafetensors(path, weights);
    Overwrite(path, elements, position, largest);
    CHECK_NOTHROW(LoadSafetensors(path, /*upcast=*/false));
    for (const Bits bits : infinite) {
      INFO(c10::toString(type) << " " << position << " " << bits);
      Overwrite(path, elements, position, bits);
      CHECK_THROWS_WITH(LoadSafetensors(path, false),
                        Contains("'values'") && Contains("not finite") && Contains(path.string()));
    }
  }
}

TEST_CASE("infinities and NaNs are found wherever they are") {
  CheckEveryPosition<uint32_t>(at::kFloat, {0x7f800000, 0xff800000, 0x7f800001, 0xffffffff},
                               0x7f7fffff);
  CheckEveryPosition<uint16_t>(at::kHalf, {0x7c00, 0xfc00, 0x7c01}, 0x7bff);
  CheckEveryPosition<uint16_t>(at::kBFloat16, {0x7f80, 0xff80, 0x7f81}, 0x7f7f);
  CheckEveryPosition<uint64_t>(at::kDouble, {0x7ff0000000000000, 0xfff0000000000001},
                               0x7fefffffffffffff);
}

TEST_CASE("what several threads read is what was written, in every dtype asked for") {
  const fs::path folder = TestFolder("reader");
  StateDict weights;
  for (int i = 0; i < 5; ++i) {
    const at::Tensor values = at::arange(1'000'003 + i, at::kFloat) * (0.37f + i);
    weights.Set(fmt::format("float{}", i), values);
    weights.Set(fmt::format("half{}", i), (values / 1e7).to(at::kHalf));
  }
  weights.Set("ids", at::arange(300'000, at::kLong));
  SaveSafetensors(folder / "model.safetensors", weights);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const StateDict read = LoadSafetensorsFolder(folder, "model", type);
    REQUIRE(read.size() == weights.size());
    for (const auto& [name, tensor] : weights) {
      INFO(name);
      CHECK(at::equal(read.Get(name), tensor.is_floating_point() ? tensor.to(type) : tensor));
    }
  }
}

TEST_CASE("a value that does not fit the dtype asked for is named") {
  const fs::path folder = TestFolder("reader");
  StateDict weights;
  weights.Set("large", at::full({3}, 1e6, at::kFloat));
  SaveSafetensors(folder / "model.safetensors", weights);
  CHECK_THROWS_WITH(LoadSafetensorsFolder(folder, "model", at::kHalf),
                    Contains("'large'") && Contains("does not fit"));
}

TEST_CASE("a dtype that tensors do not have is named") {
  const fs::path path = TestFolder("reader") / "x.safetensors";
  const std::string header = R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})";
  const uint64_t length = header.size();
  std::ofstream(path, std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&length), 8) << header << '\0';
  CHECK_THROWS_WITH(LoadSafetensors(path), Contains("'w'") && Contains("F8_E4M3"));
}

TEST_CASE("every dtype has one name") {
  for (const char* name : {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}) {
    CHECK(SafetensorsDtypeName(*SafetensorsScalarType(name)) == std::string(name));
  }
  CHECK_FALSE(SafetensorsScalarType("F8_E5M2"));
  CHECK(SafetensorsDtypeName(at::kComplexFloat) == nullptr);
}

}  // namespace
}  // namespace excise
