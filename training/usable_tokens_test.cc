#include "training/usable_tokens.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "core/json.h"
#include "tests/testdata.h"

namespace excise {
namespace {

bool Holds(const std::vector<int64_t>& ids, int64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Rows at 0, 90, 45 and 180 degrees, of very different lengths.
StateDict FourTokens() {
  StateDict weights;
  weights.Set("text_model.embeddings.token_embedding.weight",
              at::tensor({100.0, 0.0, 0.0, 1.0, 0.1, 0.1, -3.0, 0.0}, at::kDouble).view({4, 2}));
  return weights;
}

}  // namespace

TEST_CASE("the nearest usable token is the one of the smallest angle") {
  const StateDict weights = FourTokens();
  const auto nearest = [&](const TokenTable& table, double x, double y) {
    return table.Nearest(at::tensor({x, y}, at::kDouble).view({1, 1, 2})).item<int64_t>();
  };
  const TokenTable all(weights, {0, 1, 2, 3});
  CHECK(nearest(all, 1, 0.2) == 0);  // 11 degrees
  CHECK(nearest(all, 1, 0.9) == 2);  // 42 degrees, though the first row is longest by far
  CHECK(nearest(all, 1e-3, 1) == 1);
  CHECK(nearest(all, -70, 1) == 3);
  const TokenTable two(weights, {1, 3});
  CHECK(nearest(two, 1, 0.9) == 1);  // 48 degrees; nearer ones may not be used
  CHECK(nearest(two, -1, 0.9) == 3);
  const at::Tensor ids = at::tensor({2, 0, 3, 1}, at::kLong).view({2, 2});
  CHECK(all.Nearest(all.Embed(ids) * 7).equal(ids));
}

TEST_CASE("random ids are usable ones, all of them, and the stream's") {
  const StateDict weights = FourTokens();
  const TokenTable table(weights, {0, 2, 3});
  const auto draw = [&] {
    Philox rng({1, "test", 0, Stream::kAttack, 0});
    return table.RandomIds(20, 5, &rng);
  };
  const at::Tensor ids = draw();
  REQUIRE(ids.sizes() == at::IntArrayRef({20, 5}));
  const std::set<int64_t> seen(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel());
  CHECK(seen == std::set<int64_t>{0, 2, 3});
  CHECK(draw().equal(ids));
}

TEST_CASE("special tokens are never used, printable ones are text, unlisted ones pass a list") {
  const std::string model = GENERATE(as<std::string>{}, "sd1", "sd2");
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/" + model + "/tokenizer"));
  const std::vector<int64_t> all = UsableTokens(*tokenizer, "all", {});
  const std::vector<int64_t> printable = UsableTokens(*tokenizer, "printable", {});
  const std::set<int64_t> special = {tokenizer->bos_id(), tokenizer->eos_id(), tokenizer->pad_id()};
  CHECK(special.size() == (model == "sd1" ? 2 : 3));  // there padding is the end token
  CHECK(all.size() == static_cast<size_t>(tokenizer->vocab_size()) - special.size());
  for (const int64_t id : special) CHECK_FALSE(Holds(all, id));
  CHECK(printable.size() < all.size());
  for (const int64_t id : printable) CHECK_NOTHROW(Json(tokenizer->Decode({id})).dump());
  const std::vector<int64_t> poodle = tokenizer->Encode("poodle");
  REQUIRE(poodle.size() == 1);
  CHECK(Holds(printable, poodle[0]));

  const std::vector<int64_t> unlisted = UsableTokens(*tokenizer, "unlisted", {"Poodle"});
  CHECK(unlisted.size() < printable.size());
  for (const int64_t id : unlisted) {
    std::string text = tokenizer->Decode({id});
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    CHECK(text.find("poodle") == std::string::npos);
    CHECK((text.size() < 3 || std::string("poodle").find(text) == std::string::npos));
  }
  CHECK(Holds(unlisted, tokenizer->Encode("dog")[0]));
}

}  // namespace excise
