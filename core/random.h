// Counter-based random numbers: Philox4x32-10 (Random123; Salmon et al., SC 2011). A stream is a
// pure function of its key, so a number never depends on batch size, order, thread or shard.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace excise {

enum class Stream : uint32_t { kLatent, kStepNoise, kVae, kDropout, kInit, kAttack, kData, kOrder };

// What a stream is drawn for. `id` is a root prompt id, a tensor name or any other stable name,
// never an index into a container. The five fields together are hashed (SHA-256 of seed, replicate,
// stream and step as little-endian 64-bit integers, then id): the first 8 bytes are Philox's key,
// the next 8 the upper half of its counter; the lower half counts blocks.
struct StreamKey {
  uint64_t seed = 0;
  std::string_view id;
  uint64_t replicate = 0;
  Stream stream = Stream::kLatent;
  uint64_t step = 0;
};

// One block of Philox4x32-10: ten rounds of a counter under a key.
std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key);

class Philox {
 public:
  explicit Philox(const StreamKey& key);
  uint32_t NextU32();
  uint64_t NextU64();
  // Uniform in (0, 1): one of the 2^52 odd multiples of 2^-53, never 0 or 1.
  double Uniform();
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  // Uniform integer in [0, bound) without modulo bias; bound >= 1.
  uint64_t Below(uint64_t bound);
  // Standard normal: Box-Muller in double precision without libm, so identical on every CPU. Draws
  // two at a time and keeps the second.
  double Normal();
  void FillNormal(float* out, size_t n);
  // Fisher-Yates of 0..n-1.
  std::vector<int64_t> Permutation(int64_t n);

 private:
  void Refill();
  uint32_t key_[2];
  uint32_t counter_[4];
  uint32_t block_[4];
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace excise
