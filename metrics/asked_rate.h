// How often pictures show what their prompt asks for, by group.
#pragma once

#include <string>
#include <vector>

#include "metrics/sample_table.h"

namespace excise {

class AskedRate : public Metric {
 public:
  // `groups`: whose samples are read; of prompts that say what is expected.
  explicit AskedRate(std::vector<std::string> groups) : groups_(std::move(groups)) {}

  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override { return {"fraction", true, 0, 1, "retention", groups_}; }
  void Update(const MetricModels& models, const std::vector<Sample>& samples) override;
  void Merge(const Metric& other) override;
  // Parts: "base" and, for every group, "<group>", "<group>_base", "<group>_n".
  Score Compute() const override;

 private:
  struct Row {
    std::string group;
    bool kept = false, base_kept = false;
  };
  std::vector<std::string> groups_;
  SampleTable<Row> table_;
};

}  // namespace excise
