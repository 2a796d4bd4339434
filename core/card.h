// The card that opens every plug-in's source file: seven labelled comment lines, the only source of
// --list, the README's lists and the footnotes of tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace excise {

struct Card {
  std::string what;        // one line
  std::string paper;       // authors, title, venue, arXiv id
  std::string equation;    // of the paper, or in words
  std::string reference;   // repository @ commit, path; or "none"
  std::string deviations;  // each with its reason; or "none"
  std::string needs;       // what it needs to know and run
  std::string caveats;     // or "none"
};

// Reads the card at the top of `source_text`: "// What: ...", then Paper, Equation, Reference,
// Deviations, Needs, Caveats, in this order; a line indented by two or more further spaces
// continues the one before. The card ends at the first other line. Throws Error naming `file`, the
// line and the label that is missing, empty, repeated or out of place.
Card ParseCard(std::string_view source_text, std::string_view file);

// Keeps the card of plug-in `name` of `kind` ("method", "uce"). Called before main by generated
// code, so it never throws: a faulty or second card goes to RegistrationProblems() and false is
// returned.
bool RegisterCard(std::string_view kind, std::string_view name, std::string_view source_text);

// Null when none was registered.
const Card* FindCard(std::string_view kind, std::string_view name);

// Names of a kind that have a card, sorted.
std::vector<std::string> CardNames(std::string_view kind);

}  // namespace excise
