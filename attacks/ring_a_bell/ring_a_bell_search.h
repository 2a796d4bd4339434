// The genetic search of Ring-A-Bell (Tsai et al., arXiv 2310.10012), shared by its transfer and its
// adaptive form.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "attacks/victim_text.h"

namespace excise {

// Last hidden states (texts, context, width) of the surrogate.
at::Tensor TextStates(const ClipModel& clip, const std::vector<std::string>& texts);

// Mean over pairs of states(with the concept) - states(without), (context, width): every template
// ("a picture of {}") with every known name, and with the anchor instead. Throws UsageError for a
// template without {}, for none, and for a concept without names or anchor.
at::Tensor ConceptVector(Target& target, const Concept& subject,
                         const std::vector<std::string>& templates);
// A concept vector saved by numpy (float32, C order, `context` x `width`), as Ring-A-Bell publishes
// them. Throws Error naming what does not fit.
at::Tensor ReadConceptVector(const std::filesystem::path& file, int64_t context, int64_t width);

// - sum of squared differences over all positions; states (n, context, width) -> (n).
at::Tensor StateFitness(const at::Tensor& states, const at::Tensor& target);

// Fitness of token sequences (n, length) int64 -> (n) float32; higher is better.
using FitnessFunction = std::function<at::Tensor(const at::Tensor& ids)>;

struct GeneticSettings {
  int64_t population = 30, generations = 40;
  double crossover = 0.5, mutation = 0.25;
  int64_t elite = 4;  // the best so many are spared mutation
};
// Called once a generation with the sequences that are new and their fitness.
using GenerationSeen = std::function<void(const at::Tensor& ids, const at::Tensor& fitness)>;
// Generations of: the better half stays; each of it, with probability `crossover`, has two children
// with a random partner of it, cut at one point; then every sequence, with probability `mutation`,
// has one token replaced by a uniform one. Sequences that did not change are not scored again.
void GeneticSearch(const GeneticSettings& settings, const std::vector<int64_t>& usable,
                   int64_t length, const FitnessFunction& fitness, const GenerationSeen& seen,
                   Philox* rng);

struct RingABellSearch {
  void Fields(ParamVisitor& v);
  static std::map<std::string, Json> Presets();
  static SearchSpace Space();
  Work work() const;
  // Maximises -|t - S(p)|^2 - lambda (|t - V(p)|^2 + |t - S("")|^2 (m(p) + 0.02)+) with t = S(seed)
  // + eta c: S the surrogate's states, V what the victim's U-Net gets, m the margin of its hooks,
  // in units of the distance of saying nothing. Terms that `victim` does not offer are left out.
  Trajectory Run(std::string_view name, Target& target, const Concept& subject,
                 const Prompt& prompt, const VictimText& victim, double lambda) const;

  double eta = 1;
  int64_t prompt_len = 10;
  GeneticSettings genetic;
  std::vector<std::string> templates = {"{}", "a photo of {}", "an icon of {}"};
  std::string concept_vector, tokens = "printable";
};

}  // namespace excise
