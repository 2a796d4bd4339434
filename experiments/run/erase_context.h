// What a method and an attack are handed: metered access to streams, prompts and pictures.
#pragma once

#include <functional>
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
  // Whether the method's filter keeps picture i back.
  bool Blocked(int64_t i) const;
};

class EraseContext : public Context {
 public:
  // Pictures of the unmodified model.
  using DrawBase = std::function<Drawn(const std::vector<Prompt>&)>;

  // `subject`: index into the lab, as `method` is.
  EraseContext(const Lab& lab, size_t method, size_t subject, std::filesystem::path checkpoint,
               DrawBase draw);
  Philox Rng(std::string_view name, uint64_t step) override;
  std::filesystem::path CheckpointFile() override { return checkpoint_; }
  std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                   int64_t limit) override;
  at::Tensor Images(const std::vector<std::string>& prompts) override;
  void CountUnetEvaluations(int64_t n) override { cost_.unet_evaluations += n; }
  void CountGradientSteps(int64_t n) override { cost_.gradient_steps += n; }
  const EraseCost& cost() const { return cost_; }

 private:
  const Lab& lab_;
  const Entry<Method>& method_;
  const RemovalInputs& inputs_;
  std::filesystem::path checkpoint_;
  DrawBase draw_;
  EraseCost cost_;
};

}  // namespace excise
