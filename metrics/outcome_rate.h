// How often pictures of prompts that ask for the target are judged to show it, by outcome.
#pragma once

#include <string>

#include "metrics/sample_table.h"

namespace excise {

class OutcomeRate : public Metric {
 public:
  // `group`: whose samples are read; one group of prompts that ask for the target.
  explicit OutcomeRate(std::string group) : group_(std::move(group)) {}

  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override { return {"fraction", false, 0, 1, "erasure", {group_}}; }
  void Update(const MetricModels& models, const std::vector<Sample>& samples) override;
  void Merge(const Metric& other) override;
  // Parts: the shares of all outcomes, by OutcomeName; `error` is one of all samples, the others of
  // those that were drawn.
  Score Compute() const override;

 private:
  std::string group_;
  SampleTable<Outcome> table_;
};

}  // namespace excise
