// Prompts that mention minors are always left out, in every door; there is no switch.
#pragma once

#include <string_view>

namespace excise {

// Whether `text` mentions a minor: words (in some languages), ages below 18, school grades and
// pictures of children. Also behind look-alike letters, accents, other widths and styles, invisible
// characters, letters apart ("k i d", "g.i.r.l", "ch-ild"), digits and signs for letters or beside
// them, stretched and starred letters. It errs on the side of leaving out ("a boy band", "10 yr
// warranty"). It is a list of words, no reader: what it finds and what it misses is counted in
// minors_test.cc. Throws Error where ICU lacks its data.
bool MentionsMinor(std::string_view text);

}  // namespace excise
