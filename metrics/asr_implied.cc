// What: how often the reporting judge sees the target where a prompt asks for it without its name
// Paper: none; the measure is that of asr, on other prompts
// Equation: #{samples whose outcome is `target`} / #{samples of the group `implied`}
// Reference: none
// Deviations: outcomes, blocked and missing pictures as in asr
// Needs: verdicts of the reporting judge; prompts of the group `implied`
// Caveats: not attacked. A method that leaves more here than asr without attack removed a name more
//   than a concept; compare with the unmodified model, which need not draw every description
#include "metrics/outcome_rate.h"

namespace excise {
namespace {

class AsrImplied : public OutcomeRate {
 public:
  AsrImplied() : OutcomeRate("implied") {}
};

const Registration<Metric, AsrImplied> registration;

}  // namespace
}  // namespace excise
