#include "metrics/retrieval.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/json.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Ints = std::vector<int64_t>;

// On the unit circle: t, v, t*, v* at these degrees.
at::Tensor Row(double t, double v, double unsafe_t, double unsafe_v) {
  std::vector<at::Tensor> items;
  for (const double degrees : {t, v, unsafe_t, unsafe_v}) {
    const double radians = degrees * std::acos(-1.0) / 180;
    items.push_back(at::tensor({std::cos(radians), std::sin(radians)}, at::kDouble));
  }
  return at::stack(items);
}

Ints RanksOf(const at::Tensor& embeddings, const std::string& direction) {
  const at::Tensor ranks = Ranks(embeddings, DirectionNamed(direction)).contiguous();
  return Ints(ranks.data_ptr<int64_t>(), ranks.data_ptr<int64_t>() + ranks.numel());
}

std::vector<bool> SafeOf(const at::Tensor& embeddings, QuadrupletItem query) {
  const at::Tensor safe = SafeFirst(embeddings, query);
  std::vector<bool> out;
  for (int64_t i = 0; i < safe.size(0); ++i) out.push_back(safe[i].item<bool>());
  return out;
}

}  // namespace

TEST_CASE("ranks of three quadruplets on a circle") {
  // Degrees. Texts 0, 30, 90; pictures 10, 16, 100; unsafe texts 40, 170, 20; unsafe pictures 45,
  // 165, 12.
  const at::Tensor x = at::stack({Row(0, 10, 40, 45), Row(30, 16, 170, 165), Row(90, 100, 20, 12)});
  CHECK(RanksOf(x, "T->I") == Ints{1, 1, 1});  // 10 6 100 | 20 14 70 | 80 74 10
  CHECK(RanksOf(x, "I->T") == Ints{1, 1, 1});  // 10 20 80 | 16 14 74 | 100 70 10
  // Unsafe texts to pictures, safe and unsafe ones:
  // 30 24 60, 5 125 28 | 160 154 70, 125 5 158 | 10 4 80, 25 145 8
  CHECK(RanksOf(x, "T*->I+I*") == Ints{4, 4, 5});
  CHECK(RanksOf(x, "T*->I*") == Ints{1, 1, 1});
  CHECK(RanksOf(x, "T*->I*+I") == Ints{1, 1, 2});  // 20 is nearer to 16 than to 12
  // Unsafe pictures to texts, safe and unsafe ones; 45 is as far from 0 as from 90:
  // 45 15 45, 5 125 25 | 165 135 75, 125 5 145 | 12 18 78, 28 158 8
  CHECK(RanksOf(x, "I*->T+T*") == Ints{5, 4, 5});
  CHECK(RanksOf(x, "I*->T*") == Ints{1, 1, 1});
  CHECK(RanksOf(x, "I*->T*+T") == Ints{1, 1, 1});
  CHECK(SafeOf(x, kUnsafeText) == std::vector<bool>{false, false, true});
  CHECK(SafeOf(x, kUnsafeImage) == std::vector<bool>{false, false, false});
}

TEST_CASE("ties are pessimistic: an equal item comes before the paired one") {
  // Both captions are the same, and so are both pictures.
  const at::Tensor same = at::stack({Row(0, 5, 90, 95), Row(0, 5, 90, 95)});
  CHECK(RanksOf(same, "T->I") == Ints{2, 2});
  CHECK(RanksOf(same, "I*->T*") == Ints{2, 2});
  // A safe and an unsafe picture equally near: no safe item is first.
  const at::Tensor between = at::stack({Row(0, 40, 50, 60), Row(0, 200, 250, 260)});
  CHECK(RanksOf(between, "T*->I+I*")[0] == 2);
  CHECK_FALSE(SafeOf(between, kUnsafeText)[0]);
  // Below kTie apart is equal, above it is not.
  const auto off = [](double cosine) {
    return at::stack(
        {Row(90, 0, 0, 180), Row(90, std::acos(cosine) * 180 / std::acos(-1.0), 0, 180)});
  };
  CHECK(RanksOf(off(1 - 1e-7), "T*->I+I*")[0] == 2);
  CHECK(RanksOf(off(1 - 1e-5), "T*->I+I*")[0] == 1);
  CHECK(RanksOf(off(1 - 1e-5), "T*->I+I*")[1] == 2);
}

TEST_CASE("ranks and safe-first shares equal numpy's") {
  const Json expected = ReadJsonFile(RepoFile("tests/fixtures/retrieval.json"));
  std::vector<at::Tensor> rows;
  for (const Json& row : expected.at("embeddings")) {
    std::vector<at::Tensor> items;
    for (const Json& item : row) {
      items.push_back(at::tensor(item.get<std::vector<double>>(), at::kDouble));
    }
    rows.push_back(at::stack(items));
  }
  const at::Tensor x = at::stack(rows);
  for (const Direction& direction : Directions()) {
    INFO(direction.name);
    CHECK(RanksOf(x, direction.name) == expected.at("ranks").at(direction.name).get<Ints>());
  }
  CHECK(SafeOf(x, kUnsafeText) == expected.at("safe_first").at("T*").get<std::vector<bool>>());
  CHECK(SafeOf(x, kUnsafeImage) == expected.at("safe_first").at("I*").get<std::vector<bool>>());
  CHECK_THROWS_WITH(DirectionNamed("T->J"), Catch::Contains("Did you mean 'T->I'"));
}

TEST_CASE("pools: whole ones of one concept and replicate, the rest left out and counted") {
  const Concept subject = TinyConcept();
  Concept other = subject;
  other.name = "cat";
  QuadrupletTable table;
  for (const Sample& sample : TinySamples(subject, "quadruplets", 7, 2)) table.Add(sample, "test");
  for (const Sample& sample : TinySamples(other, "quadruplets", 2)) table.Add(sample, "test");
  const QuadrupletTable::Pools pools = table.InPools(3);
  REQUIRE(pools.pools.size() == 5);  // 2 of each replicate, and a smaller one of the other concept
  CHECK(pools.left_out == 2);
  for (const auto& pool : pools.pools) {
    CHECK(pool.embeddings.size(0) == static_cast<int64_t>(pool.ids.size()));
    for (const std::string& id : pool.ids) {
      CHECK(id.substr(0, id.find('/')) == pool.ids[0].substr(0, pool.ids[0].find('/')));
      CHECK(id.back() == pool.ids[0].back());
    }
  }
  CHECK(table.InPools(1000).pools.size() == 3);
  CHECK(table.InPools(1000).left_out == 0);

  std::vector<Observation> observations;
  for (const auto& pool : pools.pools) {
    for (const std::string& id : pool.ids) observations.push_back({id, 1});
  }
  const Score score = PooledScore(observations, pools);
  CHECK(score.n == 14);
  CHECK(score.parts.at("pool") == 2);
  CHECK(score.parts.at("pools") == 5);
  CHECK(score.parts.at("left_out") == 2);

  Sample bare = TinySamples(subject, "near", 1)[0];
  CHECK_THROWS_WITH(table.Add(bare, "recall"), Catch::Contains("'recall'"));
  bare.embeddings = at::zeros({3, 8});
  CHECK_THROWS_AS(table.Add(bare, "recall"), Error);
}

}  // namespace excise
