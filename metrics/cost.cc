// What: what removing a concept took: U-Net evaluations and gradient steps
// Paper: none
// Equation: value = mean over concepts of the U-Net evaluations (one latent through the U-Net once)
// Reference: none
// Deviations: none
// Needs: the ledger of the erase stage
// Caveats: seconds depend on the machine and stand in the results' cost section; a gradient step
//   costs about twice a forward pass on top of the evaluations counted here
#include <fmt/format.h>

#include "core/error.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

class Cost : public Metric {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"unet_evaluations", false, 0, 0, "cost", {"target"}};
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      table_.Add(sample, sample.image_unet_evaluations);
      const std::string edit = EditMark(sample);
      AddConcept(sample.subject->name + (edit.empty() ? "" : "#0" + edit), sample.erase_cost);
    }
  }
  void Merge(const Metric& other) override {
    const Cost& cost = dynamic_cast<const Cost&>(other);
    table_.Merge(cost.table_);
    for (const auto& [name, erase] : cost.by_concept_) AddConcept(name, erase);
  }

  // One observation an edit, which cluster by concept. Parts: gradient_steps (mean an edit) and
  // unet_evaluations_per_image (0 where drawing was not metered).
  Score Compute() const override {
    std::vector<Observation> observations;
    std::vector<double> steps, drawing;
    for (const auto& [name, erase] : by_concept_) {
      observations.push_back({name, static_cast<double>(erase.unet_evaluations)});
      steps.push_back(static_cast<double>(erase.gradient_steps));
    }
    for (const auto& [key, evaluations] : table_.rows()) {
      drawing.push_back(evaluations);
    }
    Score score = MeanScore(observations);
    score.parts["gradient_steps"] = Mean(steps);
    score.parts["unet_evaluations_per_image"] = Mean(drawing);
    return score;
  }

 private:
  // All samples of one edit carry the cost of one and the same removal.
  void AddConcept(const std::string& name, const EraseCost& erase) {
    const auto [it, inserted] = by_concept_.emplace(name, erase);
    if (!inserted && (it->second.unet_evaluations != erase.unet_evaluations ||
                      it->second.gradient_steps != erase.gradient_steps)) {
      throw Error(fmt::format(
          "cost: samples of concept '{}' carry two different costs of removal ({} and {} U-Net "
          "evaluations): they come from two results and cannot share a cell.",
          name, it->second.unet_evaluations, erase.unet_evaluations));
    }
  }

  SampleTable<double> table_;
  std::map<std::string, EraseCost> by_concept_;
};

const Registration<Metric, Cost> registration;

}  // namespace
}  // namespace excise
