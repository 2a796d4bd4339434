#include "core/card.h"

#include <catch2/catch.hpp>
#include <string>

#include "core/error.h"
#include "core/registry.h"

namespace excise {
namespace {

using Catch::Contains;

const std::string kSource = R"(// What: closed-form edit of cross-attention
// Paper: Gandikota et al., Unified Concept Editing in Diffusion Models,
//        WACV 2024, arXiv:2308.14761
// Equation: W = (sum v* c^T + lambda W)(sum c c^T + lambda I)^-1
// Reference: https://github.com/rohitgandikota/unified-concept-editing @ abc, uce.py
// Deviations: none
// Needs: known names, anchor; text_to_image
// Caveats: text: with a colon
//   and a second line
#include <vector>
// What: not part of the card
)";

TEST_CASE("a card is read with its continuation lines", "[card]") {
  const Card card = ParseCard(kSource, "methods/uce.cc");
  CHECK(card.what == "closed-form edit of cross-attention");
  CHECK(card.paper ==
        "Gandikota et al., Unified Concept Editing in Diffusion Models, WACV 2024, "
        "arXiv:2308.14761");
  CHECK(card.equation == "W = (sum v* c^T + lambda W)(sum c c^T + lambda I)^-1");
  CHECK(card.reference ==
        "https://github.com/rohitgandikota/unified-concept-editing @ abc, uce.py");
  CHECK(card.deviations == "none");
  CHECK(card.needs == "known names, anchor; text_to_image");
  CHECK(card.caveats == "text: with a colon and a second line");
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = kSource;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("a text begun on the next line and Windows line ends are accepted", "[card]") {
  CHECK(
      ParseCard(Replaced("// Deviations: none", "// Deviations:\n//   one step"), "f").deviations ==
      "one step");
  std::string text;
  for (char c : kSource) text += c == '\n' ? "\r\n" : std::string(1, c);
  CHECK(ParseCard(text, "f").caveats == "text: with a colon and a second line");
  CHECK_NOTHROW(ParseCard(kSource.substr(0, kSource.find("\n#include")), "f"));  // no last newline
}

TEST_CASE("errors name the file, the line and the label", "[card]") {
  const auto message = [](const std::string& text) {
    try {
      ParseCard(text, "methods/uce.cc");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(message(""), Contains("methods/uce.cc:") && Contains("\"What:\" is missing"));
  CHECK_THAT(message("#pragma once\n" + kSource),
             Contains("uce.cc:1: ") && Contains("\"What:\" is missing"));
  CHECK_THAT(message(Replaced("// Deviations: none\n", "")),
             Contains("uce.cc:6: ") && Contains("\"Deviations:\" is missing before \"Needs:\""));
  CHECK_THAT(message(Replaced("// Caveats: text", "// Caveat: text")),
             Contains("\"Caveats:\" is missing."));
  CHECK_THAT(message(Replaced("// Deviations: none", "// Deviations:")),
             Contains("\"Deviations:\" is empty"));
  CHECK_THAT(
      message(Replaced("// Caveats: text: with a colon\n//   and a second line", "// Caveats: ")),
      Contains("\"Caveats:\" is empty"));
  CHECK_THAT(message(Replaced("// Needs:", "// Paper: x\n// Needs:")),
             Contains("\"Paper:\" is repeated"));
  CHECK_THAT(message(Replaced("// Deviations: none", "//\n// Deviations: none")),
             Contains("\"Deviations:\" is missing."));
}

TEST_CASE("cards are kept by kind and name, and problems never throw", "[card]") {
  const size_t before = RegistrationProblems().size();
  CHECK(FindCard("method", "uce") == nullptr);
  CHECK(RegisterCard("method", "uce", kSource));
  CHECK(RegisterCard("attack", "uce", kSource));
  REQUIRE(FindCard("method", "uce") != nullptr);
  CHECK(FindCard("method", "uce")->deviations == "none");
  CHECK(CardNames("method") == std::vector<std::string>{"uce"});
  CHECK(RegistrationProblems().size() == before);
  CHECK(!RegisterCard("method", "uce", kSource));
  CHECK(!RegisterCard("metric", "asr", "// What: x\n"));
  REQUIRE(RegistrationProblems().size() == before + 2);
  CHECK_THAT(RegistrationProblems()[before], Contains("method 'uce'"));
  CHECK_THAT(RegistrationProblems()[before + 1],
             Contains("metrics/asr.cc") && Contains("\"Paper:\" is missing"));
  CHECK(FindCard("metric", "asr") == nullptr);
}

}  // namespace
}  // namespace excise
