// core/json.h: what is accepted is JSON to nlohmann's own parser as well, and its canonical form is
// a fixed point.
#include "core/json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  const std::string_view text = fuzz::Text(data, size);
  Json value;
  if (!fuzz::Accepts([&] { value = ParseJson(text, "input"); })) return 0;
  fuzz::Require(Json::accept(text), "accepted text is JSON");
  std::string canonical;
  if (!fuzz::Accepts([&] { canonical = CanonicalJson(value); })) return 0;
  fuzz::Require(CanonicalJson(ParseJson(canonical, "canonical")) == canonical,
                "the canonical form is a fixed point");
  return 0;
}
