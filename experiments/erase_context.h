// What a method and an attack are handed: metered access to streams, prompts and pictures.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "experiments/lab.h"
#include "methods/method.h"
#include "metrics/metric.h"

namespace excise {

// Pictures of the unmodified model, uint8 (n, 3, h, w): prompts, seed, replicate.
using DrawBase = std::function<at::Tensor(const std::vector<Prompt>&, int64_t, int64_t)>;

class EraseContext : public Context {
 public:
  EraseContext(const Lab& lab, size_t method, std::string subject, std::filesystem::path checkpoint,
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
  std::string stream_;
  std::filesystem::path checkpoint_;
  DrawBase draw_;
  EraseCost cost_;
};

class MeteredTarget : public TransferTarget {
 public:
  MeteredTarget(const Lab& lab, std::string attack, const ClipModel& surrogate, DrawBase draw);
  const ClipModel& Surrogate() override { return surrogate_; }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override;
  Philox Rng(const Prompt& prompt, uint64_t step) override;
  Ledger& ledger() override { return ledger_; }

 private:
  const Lab& lab_;
  std::string attack_;
  const ClipModel& surrogate_;
  DrawBase draw_;
  Ledger ledger_;
};

}  // namespace excise
