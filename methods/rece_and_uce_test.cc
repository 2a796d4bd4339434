// What no test of one plug-in alone can see.
#include <catch2/catch.hpp>

#include "methods/method.h"
#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("rece without epochs is uce, bit for bit") {
  const Backbone base = TinyBackbone();
  const auto digest = [&](const char* name, Json params) {
    params["lambda"] = 0.2;
    params["preserve_scale"] = 0.7;
    const std::unique_ptr<Method> method = Registry<Method>::Get().Make(name);
    DecodeParams(params, *method, "test");
    TinyContext context;
    return DigestOf(method->Erase(context, base, {TinyConcept()}).unet);
  };
  const std::string uce = digest("uce", {{"variant", "all_tokens"}});
  CHECK(digest("rece", {{"epochs", 0}}) == uce);
  CHECK(digest("rece", {{"epochs", 1}}) != uce);
}

}  // namespace excise
