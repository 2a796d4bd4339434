// What: nothing is removed: the unmodified model, which every other row is compared with
// Paper: none
// Equation: W = W0
// Reference: none
// Deviations: none
// Needs: nothing
// Caveats: none
#include "methods/method.h"

namespace excise {
namespace {

class None : public Method {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override { return {}; }
  Erased Erase(Context&, const Backbone&, const std::vector<Concept>&) const override { return {}; }
};

const Registration<Method, None> registration;

}  // namespace
}  // namespace excise
