#include "core/random.h"

#include <Random123/philox.h>
#include <openssl/sha.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"

namespace excise {
namespace {

void AppendLittleEndian(uint64_t value, std::string* out) {
  for (int i = 0; i < 8; ++i) *out += static_cast<char>(value >> (8 * i) & 0xff);
}

uint32_t LoadLittleEndian(const unsigned char* bytes) {
  return static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8 |
         static_cast<uint32_t>(bytes[2]) << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}

// The logarithm and the circular functions are written out, because libm's differ in the last bit
// between its FMA and its plain variants (picked by CPU at run time) and between its releases. Only
// + - * / and sqrt are used, which IEEE 754 fixes; the build must not contract them
// (-ffp-contract=off where the target has FMA).

// ln(x) for normal x > 0: ln(2^e m) with m in [sqrt(1/2), sqrt(2)), as 2 artanh((m-1)/(m+1)).
double Log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // [1/2, 1), exact
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double s2 = s * s;  // at most 0.0295: the series ends below 2^-60
  double sum = 0;
  for (int k = 25; k >= 3; k -= 2) sum = (sum + 1.0 / k) * s2;
  // ln 2 in two parts, so that exponent * high is exact.
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  return exponent * kLn2High + (2 * s + (2 * s * sum + exponent * kLn2Low));
}

// cos and sin of 2 pi v for v in (0, 1).
void CosSinOfTurns(double v, double* cosine, double* sine) {
  const int quarter = static_cast<int>(4 * v + 0.5);
  const double x = 6.28318530717958647692 * (v - 0.25 * quarter);  // the difference is exact
  const double x2 = x * x;
  double s = 0, c = 0;
  for (int k = 18; k >= 2; k -= 2) {
    c = (1 - c) * x2 / (k * (k - 1));
    s = (1 - s) * x2 / (k * (k + 1));
  }
  c = 1 - c;
  s = x - x * s;
  switch (quarter & 3) {
    case 0:
      *cosine = c, *sine = s;
      break;
    case 1:
      *cosine = -s, *sine = c;
      break;
    case 2:
      *cosine = -c, *sine = -s;
      break;
    default:
      *cosine = s, *sine = -c;
      break;
  }
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key) {
  const r123::Philox4x32::ctr_type c = {{counter[0], counter[1], counter[2], counter[3]}};
  const r123::Philox4x32::key_type k = {{key[0], key[1]}};
  const r123::Philox4x32::ctr_type out = r123::Philox4x32()(c, k);
  return {out[0], out[1], out[2], out[3]};
}

Philox::Philox(const StreamKey& key) {
  std::string message;
  message.reserve(32 + key.id.size());
  AppendLittleEndian(key.seed, &message);
  AppendLittleEndian(key.replicate, &message);
  AppendLittleEndian(static_cast<uint64_t>(key.stream), &message);
  AppendLittleEndian(key.step, &message);
  message += key.id;  // last, so that the encoding is injective
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(message.data()), message.size(), digest);
  key_[0] = LoadLittleEndian(digest);
  key_[1] = LoadLittleEndian(digest + 4);
  counter_[0] = counter_[1] = 0;  // the block number, 64 bits
  counter_[2] = LoadLittleEndian(digest + 8);
  counter_[3] = LoadLittleEndian(digest + 12);
  std::memset(block_, 0, sizeof(block_));
}

void Philox::Refill() {
  const std::array<uint32_t, 4> block =
      Philox4x32({counter_[0], counter_[1], counter_[2], counter_[3]}, {key_[0], key_[1]});
  std::memcpy(block_, block.data(), sizeof(block_));
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

uint32_t Philox::NextU32() {
  if (used_ == 4) Refill();
  return block_[used_++];
}

uint64_t Philox::NextU64() {
  const uint64_t low = NextU32();
  return static_cast<uint64_t>(NextU32()) << 32 | low;
}

double Philox::Uniform() {
  // An odd multiple of 2^-53: exact in double, never 0 or 1. (With 53 random bits and a half the
  // largest value would round up to 1.)
  return (static_cast<double>(NextU64() >> 12) + 0.5) * 0x1p-52;
}

uint64_t Philox::Below(uint64_t bound) {
  if (bound == 0) throw Error("Philox::Below(0): there is no integer to draw; give a bound >= 1.");
  // Draws below 2^64 mod bound are refused. It is below bound itself, so the division that it takes
  // is hardly ever needed.
  uint64_t draw;
  do {
    draw = NextU64();
  } while (draw < bound && draw < -bound % bound);
  return draw % bound;
}

double Philox::Normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2 * Log(Uniform()));
  double cosine, sine;
  CosSinOfTurns(Uniform(), &cosine, &sine);
  spare_ = radius * sine;
  has_spare_ = true;
  return radius * cosine;
}

void Philox::FillNormal(float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<float>(Normal());
}

std::vector<int64_t> Philox::Permutation(int64_t n) {
  if (n < 0) throw Error("Philox::Permutation: n is negative.");
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)],
              order[static_cast<size_t>(Below(static_cast<uint64_t>(i) + 1))]);
  }
  return order;
}

}  // namespace excise
