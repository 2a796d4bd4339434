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
#include "metrics/asked_rate.h"

namespace excise {
namespace {

class Retention : public AskedRate {
 public:
  Retention() : AskedRate({"near", "far", "lexical"}) {}
};

const Registration<Metric, Retention> registration;

}  // namespace
}  // namespace excise
