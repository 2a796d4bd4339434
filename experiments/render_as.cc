#include "experiments/render_as.h"

#include "core/program.h"
#include "experiments/page/html_page.h"
#include "experiments/tables/render.h"

namespace excise {

std::string RenderAs(const std::string& format, const Document& document, const Results& results,
                     const Exhibits& exhibits) {
  if (format == "md") return RenderMarkdown(document);
  if (format == "tex") return RenderLatex(document);
  if (format == "csv") return RenderCsv(results);
  if (format == "html") return RenderHtml(document, results, exhibits);
  if (format == "json") return ResultsToJson(results).dump(1) + "\n";
  return RenderText(document, OutputColumns());
}

void PrintAs(const std::string& format, const std::string& rendered) {
  if (format == "text") return PrintOut(rendered);
  PrintDocument(rendered);
}

}  // namespace excise
