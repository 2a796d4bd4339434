#include "core/random.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/hash.h"

namespace excise {
namespace {

// Random123 1.14, tests/kat_vectors, lines "philox4x32 10".
TEST_CASE("Philox4x32-10 gives Random123's known answers", "[random]") {
  using Block = std::array<uint32_t, 4>;
  CHECK(Philox4x32({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint32_t k1 = 0xffffffff;
  CHECK(Philox4x32({k1, k1, k1, k1}, {k1, k1}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  // Digits of pi.
  CHECK(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

uint32_t Word(const std::string& hex, int word) {  // little-endian bytes of a digest
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) {
    value = value << 8 |
            static_cast<uint32_t>(std::stoul(hex.substr(8 * word + 2 * i, 2), nullptr, 16));
  }
  return value;
}

TEST_CASE("a stream is the documented function of its key", "[random]") {
  StreamKey key;
  key.seed = 0x0102030405060708;
  key.id = "set@abc/7";
  key.replicate = 3;
  key.stream = Stream::kAttack;
  key.step = 9;
  std::string message("\x08\x07\x06\x05\x04\x03\x02\x01", 8);
  message += std::string("\3\0\0\0\0\0\0\0", 8) + std::string("\5\0\0\0\0\0\0\0", 8) +
             std::string("\x09\0\0\0\0\0\0\0", 8) + "set@abc/7";
  const std::string hex = Sha256Hex(message);
  Philox rng(key);
  for (uint32_t block = 0; block < 3; ++block) {
    const auto expected =
        Philox4x32({block, 0, Word(hex, 2), Word(hex, 3)}, {Word(hex, 0), Word(hex, 1)});
    for (uint32_t word : expected) CHECK(rng.NextU32() == word);
  }
}

std::vector<uint32_t> Take(const StreamKey& key, int n) {
  Philox rng(key);
  std::vector<uint32_t> out;
  for (int i = 0; i < n; ++i) out.push_back(rng.NextU32());
  return out;
}

TEST_CASE("every field of the key changes the stream, equal keys repeat it", "[random]") {
  std::vector<StreamKey> keys;
  for (uint64_t seed : {0, 1}) {
    for (const char* id : {"", "a", "b", "ab"}) {
      for (uint64_t replicate : {0, 1, 256}) {
        for (Stream stream : {Stream::kLatent, Stream::kStepNoise, Stream::kOrder}) {
          for (uint64_t step : {0, 1}) keys.push_back({seed, id, replicate, stream, step});
        }
      }
    }
  }
  std::set<std::vector<uint32_t>> streams;
  for (const StreamKey& key : keys) {
    CHECK(Take(key, 8) == Take(key, 8));
    streams.insert(Take(key, 4));
  }
  CHECK(streams.size() == keys.size());
}

TEST_CASE("uniforms are inside (0, 1) with the right moments", "[random]") {
  Philox rng({1, "uniform", 0, Stream::kData, 0});
  constexpr int n = 200000;
  double sum = 0, squares = 0;
  std::array<int, 16> bins{};
  for (int i = 0; i < n; ++i) {
    const double u = rng.Uniform();
    REQUIRE((u > 0 && u < 1));
    sum += u;
    squares += u * u;
    ++bins[static_cast<size_t>(u * 16)];
  }
  // Five standard errors: sd(U) = 1/sqrt(12), sd(U^2) = sqrt(4/45).
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / n));
  double chi2 = 0;
  for (int count : bins) chi2 += (count - n / 16.0) * (count - n / 16.0) / (n / 16.0);
  CHECK(chi2 < 44.3);  // 15 degrees of freedom, p = 1e-4
  CHECK(chi2 > 2.0);   // p = 0.9999: too even would be wrong as well
}

TEST_CASE("normals have normal moments, tails and distribution", "[random]") {
  Philox rng({2, "normal", 0, Stream::kLatent, 0});
  constexpr int n = 400000;
  std::vector<double> x(n);
  for (double& v : x) v = rng.Normal();
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0;
  for (int i = 0; i < n; ++i) {
    m1 += x[i], m2 += x[i] * x[i], m3 += std::pow(x[i], 3), m4 += std::pow(x[i], 4);
    lag += x[i] * x[(i + 1) % n];  // neighbours share a radius: they must still be uncorrelated
  }
  const double se = 1 / std::sqrt(n);
  CHECK(std::abs(m1 / n) < 5 * se);
  CHECK(std::abs(m2 / n - 1) < 5 * se * std::sqrt(2.0));
  CHECK(std::abs(m3 / n) < 5 * se * std::sqrt(15.0));
  CHECK(std::abs(m4 / n - 3) < 5 * se * std::sqrt(96.0));
  CHECK(std::abs(lag / n) < 5 * se);
  // Kolmogorov-Smirnov against erfc, p = 1e-4: 2.225 / sqrt(n).
  std::sort(x.begin(), x.end());
  double distance = 0;
  for (int i = 0; i < n; ++i) {
    const double cdf = 0.5 * std::erfc(-x[i] / std::sqrt(2.0));
    distance = std::max({distance, cdf - double(i) / n, double(i + 1) / n - cdf});
  }
  CHECK(distance < 2.225 * se);
}

TEST_CASE("normals agree with libm's Box-Muller of the same uniforms", "[random]") {
  const StreamKey key{3, "box", 0, Stream::kInit, 0};
  Philox a(key), b(key);
  double worst = 0;
  for (int i = 0; i < 50000; ++i) {
    const double u = b.Uniform(), v = b.Uniform();
    const double r = std::sqrt(-2 * std::log(u));
    worst = std::max(worst, std::abs(a.Normal() - r * std::cos(2 * M_PI * v)));
    worst = std::max(worst, std::abs(a.Normal() - r * std::sin(2 * M_PI * v)));
  }
  CHECK(worst < 8e-15);
}

TEST_CASE("FillNormal continues the stream and rounds to float", "[random]") {
  const StreamKey key{4, "fill", 0, Stream::kVae, 1};
  Philox a(key), b(key);
  std::vector<float> out(7);
  a.FillNormal(out.data(), 3);
  a.FillNormal(out.data() + 3, 4);
  for (float v : out) CHECK(v == static_cast<float>(b.Normal()));
}

TEST_CASE("streams are independent of each other", "[random]") {
  // The same position of consecutive steps, seeds and ids must not correlate.
  constexpr int n = 20000;
  for (int field = 0; field < 3; ++field) {
    double sum = 0, previous = 0;
    for (int i = 0; i <= n; ++i) {
      const std::string id = field == 2 ? "id" + std::to_string(i) : "id";
      Philox rng(
          {field == 0 ? uint64_t(i) : 0, id, 0, Stream::kStepNoise, field == 1 ? uint64_t(i) : 0});
      const double x = rng.Normal();
      if (i > 0) sum += x * previous;
      previous = x;
    }
    CAPTURE(field);
    CHECK(std::abs(sum / n) < 5 / std::sqrt(n));
  }
}

TEST_CASE("Below is unbiased and stays below", "[random]") {
  Philox rng({5, "below", 0, Stream::kOrder, 0});
  std::array<int, 7> counts{};
  constexpr int n = 70000;
  for (int i = 0; i < n; ++i) ++counts.at(rng.Below(7));
  double chi2 = 0;
  for (int c : counts) chi2 += (c - 1e4) * (c - 1e4) / 1e4;
  CHECK(chi2 < 27.9);  // 6 degrees of freedom, p = 1e-4
  CHECK(rng.Below(1) == 0);
  // With modulo bias the lower half of 3 * 2^62 would be drawn twice as often as its share.
  const uint64_t bound = 3ull << 62;
  int low = 0;
  for (int i = 0; i < 30000; ++i) {
    const uint64_t x = rng.Below(bound);
    REQUIRE(x < bound);
    low += x < (1ull << 62);
  }
  CHECK(std::abs(low - 10000) < 5 * std::sqrt(30000 * 2.0 / 9));
  CHECK_THROWS_AS(rng.Below(0), Error);
}

TEST_CASE("a permutation holds every number once, and every order is equally likely", "[random]") {
  Philox rng({6, "permutation", 0, Stream::kOrder, 0});
  std::vector<int64_t> p = rng.Permutation(1000);
  CHECK(p != rng.Permutation(1000));
  std::sort(p.begin(), p.end());
  for (int64_t i = 0; i < 1000; ++i) CHECK(p[i] == i);
  CHECK(rng.Permutation(0).empty());
  CHECK_THROWS_AS(rng.Permutation(-1), Error);
  std::array<int, 27> counts{};
  for (int i = 0; i < 24000; ++i) {
    const auto q = rng.Permutation(3);
    ++counts[q[0] * 9 + q[1] * 3 + q[2]];
  }
  double chi2 = 0;
  int seen = 0;
  for (int c : counts) {
    if (c == 0) continue;
    ++seen;
    chi2 += (c - 4e3) * (c - 4e3) / 4e3;
  }
  CHECK(seen == 6);
  CHECK(chi2 < 25.7);  // 5 degrees of freedom, p = 1e-4
}

}  // namespace
}  // namespace excise
