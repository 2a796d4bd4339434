// What every prompt of a user's file goes through. The word for a child must be found in any text
// around it, and showing a text in any format gives valid UTF-8 in one line.
#include "core/escape.h"
#include "core/json.h"
#include "datasets/formats/minors.h"
#include "datasets/formats/user_prompts.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  using fuzz::Require;
  // Longer texts say nothing new and cost a hundredfold under the sanitizers.
  const std::string text(fuzz::Text(data, size).substr(0, 300));
  const bool mentions = MentionsMinor(text);
  Require(mentions == MentionsMinor(text), "the same every time");
  Require(!ReasonToExclude(text).empty() || !mentions, "who mentions minors is left out");
  Require(MentionsMinor(text + "\n child \n" + text), "nothing around the word hides it");
  for (const Format format :
       {Format::kTerminal, Format::kMarkdown, Format::kCsv, Format::kLatex, Format::kHtml}) {
    const std::string shown = Escape(text, format);
    Require(Json::accept(Json(shown).dump()), "UTF-8");
    Require(shown.find_first_of(std::string("\n\r\0\x1b", 4)) == std::string::npos, "one line");
  }
  ConceptKey(text);
  return 0;
}
