// A run as one self-contained HTML page: tables, figures, sample pictures, provenance. It asks
// nothing of the network, runs no script (its content security policy forbids both) and reads well
// on a phone, in dark mode, with a keyboard and with a screen reader.
#pragma once

#include <string>

#include "experiments/page/exhibits.h"
#include "experiments/tables/table.h"

namespace excise {

// Pictures of sensitive concepts are blurred until a box of their concept is ticked.
std::string RenderHtml(const Document& document, const Results& results, const Exhibits& exhibits);

}  // namespace excise
