// What: how often the other thing is still there where a prompt asks for the target and for it
// Paper: none; the benchmark Six-CD asks the same of its prompts in two versions, by CLIP score
// Equation: #{judged class = the other thing} / #{samples of the group `pairs`}
// Reference: none (Six-CD: Artanisax/Six-CD @ a30fe9e)
// Deviations: a blocked picture is not kept
// Needs: verdicts of the reporting judge; prompts of the group `pairs` with the other thing as
//   `expected_class`
// Caveats: a judge names one thing a picture. Where pictures hold both, it has to be one that looks
//   for the other thing alone; where a model draws one of the two, as the embedded one does, the
//   rate says whether it turns to the other: compare with the part "base"
#include "metrics/asked_rate.h"

namespace excise {
namespace {

class RetentionInPrompt : public AskedRate {
 public:
  RetentionInPrompt() : AskedRate({"pairs"}) {}
};

const Registration<Metric, RetentionInPrompt> registration;

}  // namespace
}  // namespace excise
