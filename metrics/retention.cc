// What: how often pictures of things that must stay still show what their prompt asks for
// Paper: concept of Kumari et al., "Ablating Concepts in Text-to-Image Diffusion Models", ICCV
//   2023, arXiv 2303.13516 (surrounding concepts); near and far neighbours as in Amara et al.,
//   "EraseBench", 2025, arXiv 2501.09833
// Equation: #{judged class = expected class and judged style = expected style} / #{samples}
// Reference: none
// Deviations: a blocked picture is not kept. Three groups, named beforehand: near (same
//   kind), far (unrelated), lexical (shares words with the concept)
// Needs: verdicts of the reporting judge on the method's and the unmodified model's pictures
// Caveats: the unmodified model is not perfect either: compare with the part "base"
#include <array>

#include "metrics/sample_table.h"

namespace excise {
namespace {

struct Row {
  std::string group;
  bool kept = false, base_kept = false;
};

bool AsExpected(const Prompt& prompt, const Verdict& verdict) {
  const bool right_class =
      prompt.expected_class.empty() || verdict.class_id == prompt.expected_class;
  // A judge that tells no styles apart is asked for none.
  const bool right_style = prompt.expected_style.empty() || verdict.style.empty() ||
                           verdict.style == prompt.expected_style;
  return !verdict.class_id.empty() && right_class && right_style;
}

class Retention : public Metric {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"fraction", true, 0, 1, "retention", {"near", "far", "lexical"}};
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      table_.Add(sample,
                 {sample.group, !sample.blocked && AsExpected(sample.prompt, sample.verdict),
                  AsExpected(sample.prompt, sample.base_verdict)});
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const Retention&>(other).table_);
  }

  // Parts: "base" and, for every group, "<group>", "<group>_base", "<group>_n".
  Score Compute() const override {
    std::vector<Observation> observations;
    std::map<std::string, std::array<double, 3>> groups;  // kept, kept by the base, n
    for (const std::string& group : traits().sample_groups) groups[group] = {};
    double base = 0;
    for (const auto& [key, row] : table_.rows()) {
      observations.push_back({key.first, row.kept ? 1.0 : 0.0});
      std::array<double, 3>& sums = groups[row.group];
      sums[0] += row.kept;
      sums[1] += row.base_kept;
      sums[2] += 1;
      base += row.base_kept;
    }
    Score score = MeanScore(observations);
    score.parts["base"] = score.n ? base / static_cast<double>(score.n) : 0;
    for (const auto& [group, sums] : groups) {
      score.parts[group] = sums[2] > 0 ? sums[0] / sums[2] : 0;
      score.parts[group + "_base"] = sums[2] > 0 ? sums[1] / sums[2] : 0;
      score.parts[group + "_n"] = sums[2];
    }
    return score;
  }

 private:
  SampleTable<Row> table_;
};

const Registration<Metric, Retention> registration;

}  // namespace
}  // namespace excise
