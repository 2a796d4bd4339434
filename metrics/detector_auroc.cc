// What: how well a method's input detector tells prompts for the concept from other prompts
// Paper: none; the rank statistic of Mann and Whitney, with the interval of metrics/auroc.h
// Equation: P(score of a target prompt's picture > score of another's) + P(equal) / 2
// Reference: none
// Deviations: none
// Needs: a method that reports the named detector's raw scores
// Caveats: a prompt is a target by its group, whatever was drawn; over several concepts, pictures
//   of all of them are ranked together, as one threshold would have to serve them all; only target
//   prompts are attacked; rows without that detector have no value
#include "metrics/auroc.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

class DetectorAuroc : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Text("detector", &detector_, "whose scores: text_detector, latent_detector, filter, ...");
  }
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"fraction", true, 0.5, 1, "filter", {"target", "near", "far", "lexical"}};
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      const auto found = sample.detections.find(detector_);
      if (!ReadsPicture(traits(), sample) || found == sample.detections.end()) continue;
      table_.Add(sample, {found->second, sample.group == "target"});
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const DetectorAuroc&>(other).table_);
  }

  // Parts beside those of AurocScore: "tpr" and "fpr" at the method's own threshold.
  Score Compute() const override {
    std::vector<Scored> pictures;
    double found = 0, alarms = 0;
    for (const auto& [key, row] : table_.rows()) {
      pictures.push_back({key.first, row.said.score, row.target});
      if (row.said.score > row.said.threshold) (row.target ? found : alarms) += 1;
    }
    Score score = AurocScore(pictures);
    const auto share = [&](double count, const char* of) {
      return score.parts.at(of) > 0 ? count / score.parts.at(of) : 0;
    };
    score.parts["tpr"] = share(found, "positives");
    score.parts["fpr"] = share(alarms, "negatives");
    return score;
  }

 private:
  struct Row {
    Detection said;
    bool target = false;
  };
  std::string detector_ = "text_detector";
  SampleTable<Row> table_;
};

const Registration<Metric, DetectorAuroc> registration;

}  // namespace
}  // namespace excise
