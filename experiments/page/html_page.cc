#include "experiments/page/html_page.h"

#include <fmt/format.h>

#include "core/hash.h"
#include "core/plural.h"
#include "core/text.h"
#include "experiments/page/headline.h"
#include "experiments/page/html_parts.h"
#include "experiments/page/html_provenance.h"
#include "experiments/page/html_style.h"
#include "experiments/page/page_figures.h"

namespace excise {
namespace {

// The policy names the style sheet by its digest, in base64.
std::string StyleDigest(const std::string& style) {
  const std::string hex = Sha256Hex(style);
  std::string digest;
  for (size_t i = 0; i < hex.size(); i += 2) {
    digest += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return Base64(digest);
}

class Page {
 public:
  Page(const Document& document, const Results& results, const Exhibits& exhibits)
      : document_(document),
        results_(results),
        exhibits_(exhibits),
        view_(results),
        looks_(view_),
        headline_(HeadlineMetric(view_)) {}

  std::string Render() {
    const std::string figures = PageFigures(view_, looks_, exhibits_).All();
    std::string sections;
    for (size_t i = 0; i < document_.tables.size(); ++i) {
      sections += TableSection(document_.tables[i]);
      if (i == 0) sections += Section("figures", "Figures", figures);
    }
    if (document_.tables.empty()) sections += Section("figures", "Figures", figures);
    sections += Section("pictures", "Sample pictures", Pictures());
    sections += Section("reading", "How to read this", Reading());
    sections += Section("provenance", "Where the numbers come from",
                        HtmlProvenance(results_, document_.profile));
    return Head() + Opening() + "<main id=\"main\">\n" + sections + "</main>\n</body>\n</html>\n";
  }

 private:
  std::string TableSection(const Table& table) {
    std::string body = HtmlParagraph(HtmlText(table.intro), "intro dim") +
                       HtmlTable(table, document_.title + ": " + table.title, looks_);
    if (!table.constants.empty()) body += HtmlParagraph(HtmlText(table.constants), "dim");
    // What the run was: after the first numbers, which are what a reader came for.
    if (sections_.empty()) body += HtmlParagraph(HtmlText(document_.caption), "meta");
    return Section(table.name, table.title, body);
  }

  std::string Section(const std::string& id, const std::string& title, const std::string& body) {
    if (body.empty()) return "";
    sections_.emplace_back(id, title);
    return fmt::format("<section aria-labelledby=\"{0}\"><h2 id=\"{0}\">{1}</h2>\n{2}</section>\n",
                       HtmlText(id), HtmlText(title), body);
  }

  std::string Head() const {
    const std::string style = PageStyle();
    return fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"referrer\" content=\"no-referrer\">\n"
        "<link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>{}</style>\n</head>\n",
        StyleDigest(style), HtmlText(document_.title), style);
  }

  std::string Opening() const {
    std::string out =
        "<body>\n<a class=\"unseen skip\" href=\"#main\">To the tables</a>\n<header>\n<h1>" +
        HtmlText(document_.title) + "</h1>\n" + Summary();
    const std::string caveat = results_.experiment.value("caveat", "");
    if (!caveat.empty()) out += HtmlParagraph(HtmlText(caveat), "caveat");
    out += "<nav aria-label=\"Sections\"><ul>\n";
    for (const auto& [id, title] : sections_) {
      out += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", HtmlText(id), HtmlText(title));
    }
    return out + "</ul></nav>\n</header>\n";
  }

  // Who removes most, and at what price; then what was tried.
  std::string Summary() const {
    const Text first = Headline(view_, headline_);
    std::string out = first.empty() ? "" : HtmlParagraph(HtmlText(first), "lede");
    int64_t ranked = 0, attacks = 0;
    for (const std::string& method : view_.methods()) ranked += !view_.IsReference(method);
    if (headline_ != nullptr) {
      for (const std::string& attack : view_.Attacks(headline_->metric)) {
        attacks += attack != kUnmodified && attack != kUnion;
      }
    }
    return out + HtmlParagraph(
                     fmt::format("{}, {}, {}: how often does an edited model still draw what it "
                                 "should have forgotten, and what else is lost?",
                                 Plural(ranked, "method"),
                                 Plural(static_cast<int64_t>(view_.concepts().size()), "concept"),
                                 Plural(attacks, "attack")),
                     "dim");
  }

  std::string Pictures() const {
    if (!exhibits_.has_store) {
      return HtmlParagraph(
          "This page was made from the results file alone. Sample pictures and what attacks spent "
          "are in the store of the run: the table's program, run again, shows them.",
          "dim");
    }
    std::string galleries;
    for (size_t i = 0; i < exhibits_.galleries.size(); ++i) {
      galleries += HtmlGallery(exhibits_.galleries[i], exhibits_.methods, looks_, i);
    }
    if (galleries.empty()) return "";
    std::string out = HtmlParagraph(
        "The first test prompts of each concept, not chosen ones. Every picture of a prompt starts "
        "from the same noise in every row and under every attack. Below a picture is what the "
        "judge says: of the target, what became of it; of neighbours, what is seen.",
        "dim");
    if (exhibits_.pictures_left_out > 0) {
      out += HtmlParagraph("To keep this page small, the pictures of some concepts are left out.",
                           "dim");
    }
    return out + galleries;
  }

  std::string Reading() const {
    std::string out = "<ul>\n";
    for (const Text& remark : document_.remarks) out += "<li>" + HtmlText(remark) + "</li>\n";
    out += "</ul>\n";
    if (document_.notes.empty()) return out;
    out += "<h3>Footnotes</h3>\n<ol>\n";
    for (size_t i = 0; i < document_.notes.size(); ++i) {
      out += fmt::format("<li id=\"note{}\">{}</li>\n", i + 1, HtmlText(document_.notes[i]));
    }
    return out + "</ol>\n";
  }

  const Document& document_;
  const Results& results_;
  const Exhibits& exhibits_;
  TableView view_;
  Looks looks_;
  const Record* headline_;
  std::vector<std::pair<std::string, std::string>> sections_;
};

}  // namespace

std::string RenderHtml(const Document& document, const Results& results, const Exhibits& exhibits) {
  return Page(document, results, exhibits).Render();
}

}  // namespace excise
