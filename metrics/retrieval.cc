#include "metrics/retrieval.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/registry.h"

namespace excise {
namespace {

QuadrupletItem OtherKind(QuadrupletItem item) {
  return static_cast<QuadrupletItem>((item + 2) % 4);  // safe <-> unsafe
}

// Cosines (queries, items).
at::Tensor Cosines(const at::Tensor& embeddings, QuadrupletItem query, QuadrupletItem item) {
  return at::matmul(embeddings.select(1, query), embeddings.select(1, item).t());
}

}  // namespace

const std::vector<Direction>& Directions() {
  static const std::vector<Direction> kDirections = {
      {"T->I", kSafeText, kSafeImage},
      {"I->T", kSafeImage, kSafeText},
      {"T*->I+I*", kUnsafeText, kSafeImage, true},
      {"I*->T+T*", kUnsafeImage, kSafeText, true},
      {"T*->I*", kUnsafeText, kUnsafeImage},
      {"I*->T*", kUnsafeImage, kUnsafeText},
      {"T*->I*+I", kUnsafeText, kUnsafeImage, true},
      {"I*->T*+T", kUnsafeImage, kUnsafeText, true},
  };
  return kDirections;
}

std::vector<std::string> DirectionNames() {
  std::vector<std::string> names;
  for (const Direction& direction : Directions()) names.push_back(direction.name);
  return names;
}

const Direction& DirectionNamed(const std::string& name) {
  for (const Direction& direction : Directions()) {
    if (direction.name == name) return direction;
  }
  ThrowUnknownName("direction", name, DirectionNames());
}

at::Tensor Ranks(const at::Tensor& embeddings, const Direction& direction) {
  const at::Tensor own = Cosines(embeddings, direction.query, direction.correct);
  const at::Tensor bar = own.diagonal().sub(kTie).unsqueeze(1);
  at::Tensor ranks = own.ge(bar).sum(1);  // the paired item is one of them
  if (direction.both) {
    const QuadrupletItem other = OtherKind(direction.correct);
    ranks = ranks.add(Cosines(embeddings, direction.query, other).ge(bar).sum(1));
  }
  return ranks;
}

at::Tensor SafeFirst(const at::Tensor& embeddings, QuadrupletItem query) {
  const QuadrupletItem safe = query == kUnsafeText ? kSafeImage : kSafeText;
  const at::Tensor nearest_safe = Cosines(embeddings, query, safe).amax(1);
  const at::Tensor nearest_unsafe = Cosines(embeddings, query, OtherKind(safe)).amax(1);
  return nearest_safe.gt(nearest_unsafe.add(kTie));
}

void QuadrupletTable::Add(const Sample& sample, const std::string& metric) {
  if (!sample.embeddings.defined() || sample.embeddings.dim() != 2 ||
      sample.embeddings.size(0) != 4) {
    throw Error(
        fmt::format("Metric '{}' reads quadruplets; sample {} has no embeddings of four "
                    "items.",
                    metric, SampleId(sample)));
  }
  // A rank counts who is at least as near, and nobody is nearer than NaN: it would be the first.
  if (!at::isfinite(sample.embeddings).all().item<bool>()) {
    throw Error(fmt::format(
        "Metric '{}': the embeddings of sample {} are not finite. The weights of the encoder that "
        "made them are damaged or too large.",
        metric, SampleId(sample)));
  }
  const std::string subject = sample.subject != nullptr ? sample.subject->name : "";
  table_.Add(sample, {fmt::format("{}#{:09}{}", subject, sample.replicate, EditMark(sample)),
                      sample.embeddings.to(at::kDouble)});
}

QuadrupletTable::Pools QuadrupletTable::InPools(int64_t rows) const {
  using Member = std::pair<std::string, at::Tensor>;
  std::map<std::string, std::vector<Member>> sorted;
  for (const auto& [key, row] : table_.rows()) {
    sorted[row.of].emplace_back(key.first, row.embeddings);
  }
  Pools result;
  for (const auto& [of, members] : sorted) {
    const auto n = static_cast<int64_t>(members.size());
    const int64_t size = std::min(rows, n);
    for (int64_t start = 0; start + size <= n; start += size) {
      Pool pool;
      std::vector<at::Tensor> embeddings;
      for (int64_t i = start; i < start + size; ++i) {
        pool.ids.push_back(members[i].first);
        embeddings.push_back(members[i].second);
      }
      pool.embeddings = at::stack(embeddings);
      result.pools.push_back(std::move(pool));
    }
    result.left_out += n % size;
  }
  return result;
}

Score PooledScore(const std::vector<Observation>& observations,
                  const QuadrupletTable::Pools& pools) {
  Score score = MeanScore(observations);
  if (score.n == 0) return score;
  size_t smallest = pools.pools.front().ids.size();
  for (const auto& pool : pools.pools) smallest = std::min(smallest, pool.ids.size());
  score.parts = {{"pool", static_cast<double>(smallest)},
                 {"pools", static_cast<double>(pools.pools.size())},
                 {"left_out", static_cast<double>(pools.left_out)}};
  return score;
}

}  // namespace excise
