// Pieces of HTML that the parts of a page share.
#pragma once

#include <string>
#include <vector>

#include "experiments/page/exhibits.h"
#include "experiments/page/looks.h"
#include "experiments/tables/table.h"

namespace excise {

// Data as text or as the value of a quoted attribute.
std::string HtmlText(const std::string& data);
std::string HtmlText(const Text& text);

// `style`: a class, or "".
std::string HtmlParagraph(const std::string& html, const char* style = "");

// The rows that `looks` knows have their marks beside their names.
std::string HtmlTable(const Table& table, const std::string& caption, const Looks& looks);

// A table of plain data; the first column names the rows.
std::string HtmlTable(const std::string& caption, const std::vector<std::string>& header,
                      const std::vector<std::vector<std::string>>& rows);

// A box in which wide content scrolls by itself, reachable with the keyboard. `width`: about how
// wide the content is, in pixels; where a screen is narrower, a line above says that it scrolls.
std::string HtmlScroll(const std::string& name, const std::string& content, double width);

// The sample pictures of one concept; `number` makes its ids distinct.
std::string HtmlGallery(const Gallery& gallery, const std::vector<std::string>& methods,
                        const Looks& looks, size_t number);

}  // namespace excise
