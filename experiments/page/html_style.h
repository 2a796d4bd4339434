// The style sheets of a page and of a figure that is a file of its own.
#pragma once

#include <string>

namespace excise {

// Light and dark, by what the reader's system asks for.
std::string PageStyle();
// Light alone and without variables, which programs other than browsers do not know.
std::string FigureFileStyle();

}  // namespace excise
