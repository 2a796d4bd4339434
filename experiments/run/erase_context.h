// What a method and an attack are handed: metered access to streams, prompts and pictures.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "experiments/lab/lab.h"
#include "methods/method.h"
#include "metrics/metric.h"

namespace excise {

// Pictures with what they took: U-Net rows a picture.
struct Drawn {
  at::Tensor images;  // uint8 (n, 3, h, w), as the model drew them
  int64_t evaluations_per_image = 0;
  Signals detected;        // by the method's detectors and filter
  at::Tensor replacement;  // uint8 (3, h, w): what is delivered instead; undefined: no filter
  // float32 (n, channels, h, w), from which they were decoded; undefined where nobody stored them.
  at::Tensor latents = {};
  // Whether the method's filter keeps picture i back.
  bool Blocked(int64_t i) const;
};

class EraseContext : public Context {
 public:
  // Pictures of the unmodified model with their latents, drawn or stored, for at most a unit of
  // prompts.
  using DrawBase = std::function<Drawn(const std::vector<Prompt>&)>;

  // `subject`: index into the lab, as `method` is.
  EraseContext(const Lab& lab, size_t method, size_t subject, std::filesystem::path checkpoint,
               DrawBase draw);
  Philox Rng(std::string_view name, uint64_t step) override;
  std::filesystem::path CheckpointFile() override { return checkpoint_; }
  std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                   int64_t limit) override;
  at::Tensor Images(const std::vector<std::string>& prompts) override;
  at::Tensor Latents(const std::vector<std::string>& prompts) override;
  void CountUnetEvaluations(int64_t n) override { cost_.unet_evaluations += n; }
  void CountGradientSteps(int64_t n) override { cost_.gradient_steps += n; }
  const EraseCost& cost() const { return cost_; }

 private:
  // Part by part, so that no more than one is held beside what is made of them; `use` gets a part
  // and the index of its first picture. Counts what was not counted yet.
  using UsePart = std::function<void(int64_t first, const Drawn& part)>;
  void ForParts(const std::vector<std::string>& texts, const UsePart& use);

  const Lab& lab_;
  const Entry<Method>& method_;
  const int64_t seed_;
  const RemovalInputs& inputs_;
  std::filesystem::path checkpoint_;
  DrawBase draw_;
  EraseCost cost_;
  std::set<std::vector<std::string>> counted_;  // parts, by their texts
};

}  // namespace excise
