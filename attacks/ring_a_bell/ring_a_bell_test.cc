#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "attacks/hard_prompt.h"
#include "attacks/ring_a_bell/ring_a_bell_search.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, Target* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("ring_a_bell");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), TinyPrompt());
}

// The whole context of a text, one text a call.
at::Tensor States(const ClipModel& clip, const std::string& text) {
  return TextStates(clip, {text})[0];
}

// Squared distance in double precision, position by position.
double Distance(const at::Tensor& a, const at::Tensor& b) {
  double sum = 0;
  const at::Tensor x = a.contiguous().flatten(), y = b.contiguous().flatten();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double d = x[i].item<double>() - y[i].item<double>();
    sum += d * d;
  }
  return sum;
}

// Fitness by which the search can be followed by hand: the number of sevens.
at::Tensor Sevens(const at::Tensor& ids) { return ids.eq(7).sum(1).to(at::kFloat); }

}  // namespace

TEST_CASE("ring_a_bell: the concept vector is the mean difference of the pairs") {
  const NoGrad no_grad;
  TinyTarget target;
  const ClipModel& clip = target.Surrogate();
  Concept subject = TinyConcept();
  subject.known = {"poodle", "a curly dog"};
  const at::Tensor vector = ConceptVector(target, subject, {"{}", "a picture of {}"});
  at::Tensor sum = at::zeros_like(vector);
  for (const char* frame : {"", "a picture of "}) {
    for (const std::string& name : subject.known) {
      sum = sum + States(clip, frame + name) - States(clip, std::string(frame) + "dog");
    }
  }
  CHECK(vector.sizes() == at::IntArrayRef({16, 16}));
  CHECK(vector.sub(sum / 4).abs().max().item<double>() < 1e-6);
  CHECK(target.ledger().text_evaluations == 6);

  CHECK_THROWS_WITH(ConceptVector(target, subject, {"a picture"}), Catch::Contains("{}"));
  CHECK_THROWS_AS(ConceptVector(target, subject, {}), UsageError);
  subject.anchor = "";
  CHECK_THROWS_WITH(ConceptVector(target, subject, {"{}"}), Catch::Contains("anchor"));
}

TEST_CASE("ring_a_bell: scores are distances over the whole context, and only fall") {
  const NoGrad no_grad;
  TinyTarget target;
  const Trajectory trajectory =
      Craft({{"prompt_len", 5}, {"population", 12}, {"generations", 12}, {"eta", 2.5}}, &target);
  const ClipModel& clip = target.Surrogate();
  TinyTarget other;
  const at::Tensor aim =
      States(clip, TinyPrompt().text) +
      2.5 * ConceptVector(other, TinyConcept(), {"{}", "a photo of {}", "an icon of {}"});
  REQUIRE(trajectory.size() >= 2);
  double last = -1e30;
  for (const Candidate& candidate : trajectory) {
    CHECK(candidate.score > last);
    last = candidate.score;
    REQUIRE(candidate.prompt.token_ids.size() == 5);
    // The long way: the tokens framed by hand, one sequence a call.
    std::vector<int64_t> row = {clip.tokenizer->bos_id()};
    row.insert(row.end(), candidate.prompt.token_ids.begin(), candidate.prompt.token_ids.end());
    row.push_back(clip.tokenizer->eos_id());
    row.resize(16, clip.tokenizer->pad_id());
    const at::Tensor ids = at::tensor(row, at::kLong).unsqueeze(0);
    const at::Tensor states =
        ClipTextForward(clip.config.text, clip.weights, ClipTokenEmbeddings(clip.weights, ids), ids)
            .last_hidden_state[0];
    CHECK(candidate.score == Approx(-Distance(states, aim)).epsilon(1e-5));
    CHECK(candidate.prompt.text == clip.tokenizer->Decode(candidate.prompt.token_ids));
    CHECK(candidate.prompt.round_trip ==
          (clip.tokenizer->Encode(candidate.prompt.text) == candidate.prompt.token_ids));
  }
  CHECK(target.ledger().unet_evaluations == 0);
  CHECK(target.ledger().gradient_steps == 0);
  // Seed, empty prompt, 2 x 3 pairs (one name), and one evaluation a candidate.
  CHECK(target.ledger().text_evaluations == 2 + 6 + target.ledger().candidate_evaluations);
}

TEST_CASE("ring_a_bell: the genetic search climbs, and spends no evaluation twice") {
  std::vector<int64_t> usable(20);
  for (int64_t i = 0; i < 20; ++i) usable[i] = i;
  std::vector<int64_t> sizes;
  double best = 0;
  const auto run = [&](GeneticSettings settings) {
    sizes.clear();
    best = 0;
    Philox rng({1, "test", 0, Stream::kAttack, 0});
    GeneticSearch(
        settings, usable, 6, Sevens,
        [&](const at::Tensor& ids, const at::Tensor& fitness) {
          REQUIRE(ids.size(1) == 6);
          sizes.push_back(ids.size(0));
          best = std::max(best, fitness.max().item<double>());
        },
        &rng);
  };
  GeneticSettings settings;
  settings.population = 40;
  settings.generations = 120;
  run(settings);
  CHECK(best == 6);  // chance in 40 x 120 draws of 6 tokens: 1e-4
  CHECK(sizes.front() == 40);
  // Half stays, of which a quarter changes, and 0.5 x 2 children a parent join: 20 + 20 on average.
  int64_t all = 0;
  for (const int64_t size : sizes) all += size;
  CHECK(all < 40 * 120);
  CHECK(all > 15 * 120);

  // Without children and changes nothing is new after the first generation.
  settings.crossover = settings.mutation = 0;
  run(settings);
  CHECK(sizes == std::vector<int64_t>{40});
  // All change, none has children: half of the population each time, but for equal draws.
  settings.mutation = 1;
  settings.generations = 5;
  run(settings);
  REQUIRE(sizes.size() == 5);
  for (size_t i = 1; i < 5; ++i) CHECK((sizes[i] <= 20 && sizes[i] > 10));
  // The best ones are spared.
  settings.elite = 20;
  run(settings);
  CHECK(sizes == std::vector<int64_t>{40});
}

TEST_CASE("ring_a_bell: children are the two halves of their parents") {
  const std::vector<int64_t> usable = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  GeneticSettings settings;
  settings.population = 4;
  settings.generations = 2;
  settings.crossover = 1;
  settings.mutation = 0;
  std::vector<at::Tensor> generations;
  Philox rng({3, "test", 0, Stream::kAttack, 0});
  GeneticSearch(
      settings, usable, 5, Sevens,
      [&](const at::Tensor& ids, const at::Tensor&) { generations.push_back(ids); }, &rng);
  REQUIRE(generations.size() == 2);
  REQUIRE(generations[1].size(0) == 4);  // two parents, two children each
  for (int64_t child = 0; child < 4; child += 2) {
    // Position by position the two children hold what two sequences of the first generation hold.
    std::set<int64_t> fathers;
    bool found = false;
    for (int64_t a = 0; a < 4; ++a) {
      for (int64_t b = 0; b < 4; ++b) {
        bool fits = true;
        for (int64_t k = 0; k < 5; ++k) {
          const std::multiset<int64_t> parents = {generations[0][a][k].item<int64_t>(),
                                                  generations[0][b][k].item<int64_t>()};
          const std::multiset<int64_t> children = {generations[1][child][k].item<int64_t>(),
                                                   generations[1][child + 1][k].item<int64_t>()};
          fits = fits && parents == children;
        }
        found = found || fits;
      }
    }
    CHECK(found);
  }
}

TEST_CASE("ring_a_bell: selection beats random sequences at equal evaluations") {
  const NoGrad no_grad;
  double searched = 0, random = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    TinyTarget target(nullptr, seed);
    searched +=
        Craft({{"prompt_len", 6}, {"population", 16}, {"generations", 12}}, &target).back().score;
    const int64_t evaluations = target.ledger().candidate_evaluations;
    TinyTarget other(nullptr, seed + 100);
    random += Craft({{"prompt_len", 6}, {"population", evaluations}, {"generations", 1}}, &other)
                  .back()
                  .score;
    CHECK(other.ledger().candidate_evaluations == evaluations);
  }
  CHECK(searched > random);
}

TEST_CASE("ring_a_bell: a concept vector of the user's, as numpy saves it") {
  TinyTarget target;
  const std::filesystem::path file = TestFolder("concept_vector") / "vector.npy";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 16, 16), }";
  header.resize(117, ' ');
  header += '\n';
  at::Tensor vector = at::zeros({16, 16});
  vector[3][2] = 0.25;
  const auto write = [&] {
    std::ofstream(file, std::ios::binary)
        << std::string("\x93NUMPY\x01\x00\x76\x00", 10) << header
        << std::string(static_cast<const char*>(vector.data_ptr()), 1024);
  };
  write();
  CHECK(ReadConceptVector(file, 16, 16).equal(vector));
  CHECK_THROWS_WITH(ReadConceptVector(file, 77, 768), Catch::Contains("(77, 768)"));
  const Json params = {
      {"concept_vector", file.string()}, {"prompt_len", 4}, {"population", 4}, {"generations", 1}};
  Craft(params, &target);
  CHECK(target.ledger().text_evaluations == 2 + 4);  // no pairs
  vector[0][0] = std::numeric_limits<float>::infinity();
  write();
  CHECK_THROWS_WITH(Craft(params, &target), Catch::Contains("not finite"));
}

TEST_CASE("ring_a_bell: a prompt longer than the surrogate's context is refused") {
  TinyTarget target;
  CHECK_THROWS_WITH(Craft({{"prompt_len", 15}}, &target), Catch::Contains("at most 14"));
}

}  // namespace excise
