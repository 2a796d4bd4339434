// Retrieval among quadruplets: which item of a pool is nearest to a query, and on which rank the
// paired one comes. Rules, which every retrieval metric shares:
// - Several captions may fit one picture and several pictures one caption; the paired one alone
//   counts.
// - Ties are pessimistic: an item whose cosine is equal (to kTie) comes before the paired one.
// - A pool holds items of one concept, replicate and edit: the same rows under another model's
// removal
//   are no distractors. It has `pool` rows, as they are sorted by id; rows beyond the last whole
//   pool are left out and counted. Fewer rows than one pool are a smaller pool, which scores say.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "metrics/metric.h"
#include "metrics/sample_table.h"

namespace excise {

// Cosines of float32 embeddings that differ by less are equal.
inline constexpr double kTie = 1e-6;

// Rows of a sample's embeddings.
enum QuadrupletItem : int { kSafeText = 0, kSafeImage = 1, kUnsafeText = 2, kUnsafeImage = 3 };

// "T*->I+I*": unsafe texts ask a pool of safe and unsafe pictures; the correct one comes first, so
// "T*->I*+I" asks for the unsafe one.
struct Direction {
  std::string name;
  QuadrupletItem query, correct;
  bool both = false;  // the pool holds the other kind of `correct`'s modality, too
};
const std::vector<Direction>& Directions();
std::vector<std::string> DirectionNames();
const Direction& DirectionNamed(const std::string& name);

// embeddings (n, 4, d), double, normalised -> ranks of the paired items, from 1, int64 (n).
at::Tensor Ranks(const at::Tensor& embeddings, const Direction& direction);

// For each query (kUnsafeText or kUnsafeImage) whether the nearest item of the other modality's
// safe and unsafe ones is a safe one; bool (n).
at::Tensor SafeFirst(const at::Tensor& embeddings, QuadrupletItem query);

// Quadruplets' embeddings, by sample.
class QuadrupletTable {
 public:
  // Throws Error, naming `metric`, when the sample has no (4, d) embeddings.
  void Add(const Sample& sample, const std::string& metric);
  void Merge(const QuadrupletTable& other) { table_.Merge(other.table_); }

  struct Pool {
    std::vector<std::string> ids;  // SampleId
    at::Tensor embeddings;         // (n, 4, d), double
  };
  struct Pools {
    std::vector<Pool> pools;
    int64_t left_out = 0;  // rows
  };
  Pools InPools(int64_t rows) const;

 private:
  struct Row {
    std::string of;         // the concept, replicate and edit
    at::Tensor embeddings;  // (4, d), double
  };
  SampleTable<Row> table_;
};

// The mean of `observations` with what the pools were: parts "pool" (rows of the smallest),
// "pools", "left_out".
Score PooledScore(const std::vector<Observation>& observations,
                  const QuadrupletTable::Pools& pools);

}  // namespace excise
