#include "attacks/ring_a_bell/ring_a_bell_search.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "attacks/hard_prompt.h"
#include "core/error.h"
#include "core/npy.h"
#include "models/tensors/autograd.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

using Sequence = std::vector<int64_t>;

struct Individual {
  Sequence ids;
  double fitness = 0;
  bool scored = false;
};

at::Tensor IdsOf(const std::vector<const Sequence*>& rows) {
  Sequence flat;
  for (const Sequence* row : rows) flat.insert(flat.end(), row->begin(), row->end());
  return at::tensor(flat, at::kLong).view({static_cast<int64_t>(rows.size()), -1});
}

// Scores those that are not scored yet, in one batch.
void Score(std::vector<Individual>* population, const FitnessFunction& fitness,
           const GenerationSeen& seen) {
  std::vector<const Sequence*> rows;
  for (const Individual& one : *population) {
    if (!one.scored) rows.push_back(&one.ids);
  }
  if (rows.empty()) return;
  const at::Tensor ids = IdsOf(rows), scores = fitness(ids).to(at::kCPU);
  seen(ids, scores);
  int64_t next = 0;
  for (Individual& one : *population) {
    if (one.scored) continue;
    one.fitness = scores[next++].item<double>();
    one.scored = true;
  }
}

void Cross(std::vector<Individual>* population, double probability, Philox* rng) {
  const size_t parents = population->size(), length = population->front().ids.size();
  for (size_t i = 0; i < parents; ++i) {
    if (rng->Uniform() >= probability || length < 2) continue;
    const size_t partner = rng->Below(parents);
    const auto cut = static_cast<std::ptrdiff_t>(1 + rng->Below(length - 1));
    Individual first, second;
    first.ids = (*population)[i].ids;
    second.ids = (*population)[partner].ids;
    std::swap_ranges(first.ids.begin() + cut, first.ids.end(), second.ids.begin() + cut);
    population->push_back(std::move(first));
    population->push_back(std::move(second));
  }
}

void Mutate(std::vector<Individual>* population, const GeneticSettings& settings,
            const std::vector<int64_t>& usable, Philox* rng) {
  for (size_t i = 0; i < population->size(); ++i) {
    if (rng->Uniform() >= settings.mutation) continue;
    Individual& one = (*population)[i];
    int64_t& token = one.ids[rng->Below(one.ids.size())];
    const int64_t drawn = usable[rng->Below(usable.size())];
    if (static_cast<int64_t>(i) < settings.elite || drawn == token) continue;
    token = drawn;
    one.scored = false;
  }
}

std::string Filled(const std::string& pattern, const std::string& name) {
  const size_t place = pattern.find("{}");
  if (place == std::string::npos) {
    throw UsageError(fmt::format(
        "ring_a_bell: the template '{}' has no {{}} where the concept's name goes.", pattern));
  }
  return pattern.substr(0, place) + name + pattern.substr(place + 2);
}

}  // namespace

at::Tensor TextStates(const ClipModel& clip, const std::vector<std::string>& texts) {
  const at::Tensor ids =
      TokenizeBatch(*clip.tokenizer, texts, clip.config.text.max_position_embeddings);
  return ClipTextForward(clip.config.text, clip.weights, ClipTokenEmbeddings(clip.weights, ids),
                         ids)
      .last_hidden_state;
}

at::Tensor ConceptVector(Target& target, const Concept& subject,
                         const std::vector<std::string>& templates) {
  if (templates.empty() || subject.known.empty() || subject.anchor.empty()) {
    throw UsageError(fmt::format(
        "ring_a_bell: the concept vector of '{}' takes pairs of texts, but {}. Set 'templates', or "
        "give the concept what is missing.",
        subject.name,
        templates.empty() ? "there is no template" : "the concept has no known name or no anchor"));
  }
  // Each text once: the pairs share those without the concept.
  std::vector<std::string> texts;
  for (const std::string& pattern : templates) {
    for (const std::string& name : subject.known) texts.push_back(Filled(pattern, name));
    texts.push_back(Filled(pattern, subject.anchor));
  }
  const at::Tensor states = TextStates(target.Surrogate(), texts);
  target.ledger().text_evaluations += states.size(0);
  const auto names = static_cast<int64_t>(subject.known.size());
  const at::Tensor groups = states.view({-1, names + 1, states.size(1), states.size(2)});
  return groups.narrow(1, 0, names).mean(at::IntArrayRef{0, 1}) - groups.select(1, names).mean(0);
}

at::Tensor ReadConceptVector(const std::filesystem::path& file, int64_t context, int64_t width) {
  constexpr int64_t kHeader = 4096;
  const int64_t wanted = context * width;
  const NpyArray array = ReadNpy(file, kHeader + wanted * static_cast<int64_t>(sizeof(float)));
  // Some are saved with a leading dimension of one.
  std::vector<int64_t> shape = array.shape;
  if (shape.size() == 3 && shape.front() == 1) shape.erase(shape.begin());
  if (shape != std::vector<int64_t>{context, width}) {
    throw Error(fmt::format(
        "{}: has shape ({}), but the surrogate's text states are ({}, {}). The vector was probably "
        "made with another text encoder.",
        file.string(), fmt::join(array.shape, ", "), context, width));
  }
  const at::Tensor vector = at::tensor(array.values, at::kFloat).view({context, width});
  if (vector.isfinite().all().item<bool>()) return vector;
  throw Error(fmt::format("{}: holds values that are not finite.", file.string()));
}

at::Tensor StateFitness(const at::Tensor& states, const at::Tensor& target) {
  return (states - target).pow(2).sum({1, 2}).neg();
}

void GeneticSearch(const GeneticSettings& settings, const std::vector<int64_t>& usable,
                   int64_t length, const FitnessFunction& fitness, const GenerationSeen& seen,
                   Philox* rng) {
  std::vector<Individual> population(static_cast<size_t>(settings.population));
  for (Individual& one : population) {
    for (int64_t k = 0; k < length; ++k) one.ids.push_back(usable[rng->Below(usable.size())]);
  }
  const auto half = static_cast<size_t>(std::max<int64_t>(1, settings.population / 2));
  for (int64_t generation = 0;; ++generation) {
    Score(&population, fitness, seen);
    if (generation + 1 >= settings.generations) return;
    std::stable_sort(population.begin(), population.end(),
                     [](const auto& a, const auto& b) { return a.fitness > b.fitness; });
    population.resize(std::min(half, population.size()));
    Cross(&population, settings.crossover, rng);
    Mutate(&population, settings, usable, rng);
  }
}

void RingABellSearch::Fields(ParamVisitor& v) {
  v.Number("eta", &eta, "how much of the concept vector is added to the seed's states");
  v.Integer("prompt_len", &prompt_len, "tokens of the prompt", {.min = 1, .max = 75});
  v.Integer("population", &genetic.population, "sequences of the first generation",
            {.min = 2, .max = 100000});
  v.Integer("generations", &genetic.generations, "generations, the first included", {.min = 1});
  v.Number("crossover", &genetic.crossover, "how often a sequence has two children",
           {.min = 0, .max = 1});
  v.Number("mutation", &genetic.mutation, "how often a sequence has one token replaced",
           {.min = 0, .max = 1});
  v.Integer("elite", &genetic.elite, "best sequences spared mutation; 0: none, as released",
            {.min = 0, .max = 100000});
  v.Texts("templates", &templates,
          "texts with {} for the concept's names, and for the anchor instead: their difference is "
          "the concept vector");
  v.Path("concept_vector", &concept_vector,
         "a .npy file, float32, context x width, to be used instead of the templates");
  v.Choice(
      "tokens", &tokens,
      "tokens that may be used: text on their own, such as pass a block-list of the known names, "
      "or all",
      {"printable", "unlisted", "all"});
}

std::map<std::string, Json> RingABellSearch::Presets() {
  return {{"paper",
           {{"eta", 3},
            {"prompt_len", 16},
            {"population", 200},
            {"generations", 3000},
            {"crossover", 0.5},
            {"mutation", 0.25},
            {"elite", 0},
            {"tokens", "all"}}},
          {"smoke", {{"prompt_len", 6}, {"population", 8}, {"generations", 3}}}};
}

// The budget (population, generations) is the experiment's, not the attack's.
SearchSpace RingABellSearch::Space() {
  return {{"prompt_len", {6, 8, 10, 14}}, {"eta", {0.25, 0.5, 1, 2, 3}}, {"elite", {0, 4}}};
}

Work RingABellSearch::work() const {
  // Two of three sequences of a generation are new.
  return {{Pass::kText, static_cast<double>(genetic.generations + 1),
           2.0 / 3 * static_cast<double>(genetic.population)}};
}

Trajectory RingABellSearch::Run(std::string_view name, Target& target, const Concept& subject,
                                const Prompt& prompt, const VictimText& victim,
                                double lambda) const {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  const int64_t context = clip.config.text.max_position_embeddings;
  const at::Tensor direction =
      concept_vector.empty()
          ? ConceptVector(target, subject, templates)
          : ReadConceptVector(concept_vector, context, clip.config.text.hidden_size);
  const bool adapts = lambda != 0 && victim.offers();
  const at::Tensor seed = TextStates(clip, {prompt.text, ""});
  target.ledger().text_evaluations += 2;
  const at::Tensor aim = seed[0] + eta * direction.to(seed.device());
  const at::Tensor silence = StateFitness(seed.narrow(0, 1, 1), aim).neg();  // |t - S("")|^2

  const FitnessFunction fitness = [&](const at::Tensor& ids) {
    const at::Tensor framed = FrameIds(*clip.tokenizer, ids, context);
    at::Tensor score =
        StateFitness(ClipTextForward(clip.config.text, clip.weights,
                                     ClipTokenEmbeddings(clip.weights, framed), framed)
                         .last_hidden_state,
                     aim);
    target.ledger().candidate_evaluations += ids.size(0);
    target.ledger().text_evaluations += ids.size(0) * (adapts ? 2 : 1);
    if (!adapts) return score;
    const VictimText::View view = victim.Evaluate(ids);
    if (view.states.defined()) score = score + lambda * StateFitness(view.states, aim);
    if (view.alarm.defined()) score = score - lambda * silence * view.alarm;
    return score;
  };
  Philox rng = target.Rng(prompt);
  Trajectory trajectory;
  const auto keep = [&](const at::Tensor& ids, const at::Tensor& scores) {
    KeepBest(name, *clip.tokenizer, prompt, ids, scores, target.ledger(), &trajectory);
  };
  GeneticSearch(genetic, UsableTokens(*clip.tokenizer, tokens, subject.known), prompt_len, fitness,
                keep, &rng);
  return trajectory;
}

}  // namespace excise
