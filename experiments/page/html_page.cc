#include "experiments/page/html_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "core/hash.h"
#include "core/plural.h"
#include "core/text.h"
#include "experiments/page/figures.h"
#include "experiments/page/html_parts.h"
#include "experiments/results/success_curve.h"

namespace excise {
namespace {

std::string Percent(double value) { return fmt::format("{:.0f} %", 100 * value); }

std::string Paragraph(const std::string& html, const char* style = "") {
  return fmt::format("<p{}>{}</p>\n", *style == '\0' ? "" : fmt::format(" class=\"{}\"", style),
                     html);
}

std::string AttackTitle(const std::string& attack) {
  if (attack == kUnion) return "worst case over all attacks";
  return attack == kUnmodified ? "no attack" : attack;
}

// The policy names the style sheet by its digest, in base64.
std::string StyleDigest(const std::string& style) {
  const std::string hex = Sha256Hex(style);
  std::string digest;
  for (size_t i = 0; i < hex.size(); i += 2) {
    digest += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return Base64(digest);
}

// A value of JSON on one line, text without quotes.
std::string Shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void AddFacts(const std::string& prefix, const Json& value, std::string* out) {
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      AddFacts(prefix.empty() ? key : prefix + " " + key, item, out);
    }
    return;
  }
  std::string name = prefix;
  std::replace(name.begin(), name.end(), '_', ' ');
  *out += "<dt>" + HtmlText(name) + "</dt><dd>" + HtmlText(Shown(value)) + "</dd>\n";
}

std::string Facts(const Json& object) {
  std::string out;
  AddFacts("", object, &out);
  return "<dl class=\"facts\">\n" + out + "</dl>\n";
}

bool IsPlainName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

// For a shell: in quotes where needed.
std::string Quoted(const std::string& word) {
  const auto harmless = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string("-_=./,+:@%").find(static_cast<char>(c)) != std::string::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), harmless)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

class Page {
 public:
  Page(const Document& document, const Results& results, const Exhibits& exhibits)
      : document_(document),
        results_(results),
        exhibits_(exhibits),
        view_(results),
        headline_(HeadlineMetric(view_)) {}

  std::string Render() {
    std::string sections;
    for (const Table& table : document_.tables) {
      std::string body = Paragraph(HtmlText(table.intro), "intro dim") +
                         HtmlTable(table, document_.title + ": " + table.title);
      if (!table.constants.empty()) body += Paragraph(HtmlText(table.constants), "dim");
      if (table.name == "erased") body += Intervals() + Budget();
      if (table.name == "kept") body += Fronts();
      sections += Section(table.name, table.title, body);
    }
    sections += Section("pictures", "Sample pictures", Pictures());
    sections += Section("reading", "How to read this", Reading());
    sections += Section("provenance", "Where the numbers come from", Provenance());
    return Head() + Opening() + "<main id=\"main\">\n" + sections + "</main>\n</body>\n</html>\n";
  }

 private:
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
        HtmlText(document_.title) + "</h1>\n" + Paragraph(Summary(), "lede");
    const std::string caveat = results_.experiment.value("caveat", "");
    if (!caveat.empty()) out += Paragraph(HtmlText(caveat), "caveat");
    out += Paragraph(HtmlText(document_.caption), "meta");
    out += "<nav aria-label=\"Sections\"><ul>\n";
    for (const auto& [id, title] : sections_) {
      out += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", HtmlText(id), HtmlText(title));
    }
    return out + "</ul></nav>\n</header>\n";
  }

  size_t Ranked() const {
    return static_cast<size_t>(
        std::count_if(view_.methods().begin(), view_.methods().end(),
                      [&](const std::string& method) { return !view_.IsReference(method); }));
  }

  // What was done, and what came out, in two sentences.
  std::string Summary() const {
    const size_t attacks = headline_ == nullptr ? 0 : AttackNames().size();
    std::string out = fmt::format(
        "{} for removing concepts from an image model, tried on {} and attacked in {}: how often "
        "does the model still draw what it should have forgotten, and what else is lost?",
        Plural(Ranked(), "method"), Plural(view_.concepts().size(), "concept"),
        Plural(attacks, "way"));
    const std::string worst = WorstAttack();
    if (headline_ == nullptr) return out;
    std::vector<std::string> best, tied;
    for (const auto& [method, mark] : view_.Marks(headline_->metric, "", worst)) {
      (mark == TableView::Mark::kBest ? best : tied).push_back(method);
    }
    if (best.empty()) return out + Unfit();
    const Record* record = view_.Find(best.front(), kAllConcepts, worst, headline_->metric);
    out += fmt::format(" Lowest {}: <b>{}</b>, with {} of the pictures still on target [{}–{}]",
                       worst == kUnion ? "in the worst case" : "without attack", Listed(best),
                       Percent(record->score.value), fmt::format("{:.0f}", 100 * record->score.low),
                       Percent(record->score.high));
    const Record* base = view_.Find(kUnmodified, kAllConcepts, worst, headline_->metric);
    if (base != nullptr && base->status == "ok") {
      out += fmt::format(" (unmodified model: {})", Percent(base->score.value));
    }
    return out +
           (tied.empty()
                ? "."
                : "; not significantly different from it by a paired test: " + Listed(tied) + ".");
  }

  // Why no removal is reported, or "".
  std::string Unfit() const {
    const std::vector<Record>& records = results_.records;
    const bool any = std::any_of(records.begin(), records.end(),
                                 [](const Record& r) { return r.status == kUnfitJudge; });
    return any ? " The judge does not see the concepts in the unmodified model's pictures, so no "
                 "removal is reported."
               : "";
  }

  static std::string Listed(const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "" : ", ") + HtmlText(name);
    return out;
  }

  // The attacks of the headline, without "none" and the union.
  std::vector<std::string> AttackNames() const {
    std::vector<std::string> names;
    for (const std::string& attack : view_.Attacks(headline_->metric)) {
      if (attack != kUnmodified && attack != kUnion) names.push_back(attack);
    }
    return names;
  }

  std::string WorstAttack() const {
    return headline_ == nullptr ? "" : view_.Attacks(headline_->metric).back();
  }

  std::string Intervals() const {
    if (headline_ == nullptr) return "";
    std::string figures;
    for (const std::string& attack : view_.Attacks(headline_->metric)) {
      std::vector<IntervalRow> rows;
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, attack, headline_->metric);
        IntervalRow row{method, std::nullopt, view_.IsReference(method)};
        if (record != nullptr && MissingOf(*record) == 0) row.estimate = EstimateOf(*record, "");
        rows.push_back(std::move(row));
      }
      figures += IntervalFigure("Target rate, " + AttackTitle(attack), {0, 1, true, ""}, rows);
    }
    return "<h3>Target rates with 95 % intervals</h3>\n" +
           Paragraph("Further left is better removed. Hollow: reference rows.", "dim") +
           "<div class=\"figures\">\n" + figures + "</div>\n";
  }

  // Whether no attack on the method failed: where one did, its successes are not known.
  bool HasAllPictures(const std::string& method) const {
    const std::vector<Record>& records = results_.records;
    return std::none_of(records.begin(), records.end(), [&](const Record& record) {
      return record.method == method && record.traits.group == "erasure" &&
             (record.status == "error" || record.status == kUnfitJudge || MissingOf(record) > 0);
    });
  }

  std::string Budget() const {
    std::vector<Curve> curves;
    size_t most = 0;
    for (const SuccessCurve& curve : SuccessByBudget(results_.rows)) {
      if (!HasAllPictures(curve.method)) continue;
      most = std::max(most, curve.points.size());
      curves.push_back({curve.method, curve.points, view_.IsReference(curve.method)});
    }
    std::string figures;
    if (most > 1) {
      figures += CurveFigure("Success by budget",
                             {1, static_cast<double>(most), false, "judged pictures a prompt, q"},
                             {0, 1, true, "prompts with a success"}, curves);
    }
    std::vector<std::vector<std::string>> spent;
    for (const AttackBudget& budget : exhibits_.budgets) {
      const auto number = [](double value) { return fmt::format("{:.4g}", value); };
      spent.push_back({budget.attack, std::to_string(budget.prompts),
                       number(budget.candidate_evaluations), number(budget.gradient_steps),
                       number(budget.unet_evaluations), number(budget.text_evaluations),
                       number(budget.victim_queries)});
      if (budget.progress.empty()) continue;
      const auto& points = budget.progress;
      std::vector<Estimate> scores;
      for (const auto& [evaluations, score] : points) {
        scores.push_back({score, score, score, false, 0});
      }
      figures +=
          CurveFigure(budget.attack + ": its own objective by budget",
                      {points.front().first, points.back().first, false, "candidates evaluated"},
                      AxisAround(scores, "best score so far"), {{budget.attack, points, false}});
    }
    if (figures.empty() && spent.empty()) return "";
    std::string out = "<h3>Success against the attacker's budget</h3>\n";
    out += Paragraph(
        "Success within q judged pictures of the victim: each picture is of another attack (or of "
        "none, or of other noise), in an order left to chance; at the right end it is the share of "
        "prompts that succeed at all. An attack's intermediate candidates were not drawn on the "
        "victims, so success along one attack's own search is not shown; what is shown of the "
        "search is its own objective, the mean over prompts, higher being better for the attacker.",
        "dim");
    if (!figures.empty()) out += "<div class=\"figures\">\n" + figures + "</div>\n";
    if (spent.empty()) return out;
    return out +
           Paragraph("Spent on a prompt until the one that is used was found, on average:", "dim") +
           HtmlTable("What attacks spent",
                     {"attack", "prompts", "candidates evaluated", "gradient steps",
                      "U-Net evaluations", "text evaluations", "victim queries"},
                     spent);
  }

  // Removal against what is kept: one figure for every column of retention.
  std::string Fronts() const {
    if (headline_ == nullptr) return "";
    std::string figures;
    for (const Record* metric : view_.Metrics("retention")) {
      for (const std::string& part : PartsOf(*metric)) figures += FrontOf(*metric, part);
    }
    if (figures.empty()) return "";
    return "<h3>Safety against retention</h3>\n" +
           Paragraph(fmt::format(
                         "Up is better removed ({}), right is better kept. Dashed: the "
                         "front, those that no other method surpasses in both by its "
                         "value; intervals say how far that can be trusted. Hollow: "
                         "reference rows, which take no part.",
                         WorstAttack() == kUnion ? "target rate in the worst case" : "target rate"),
                     "dim") +
           "<div class=\"figures\">\n" + figures + "</div>\n";
  }

  std::string FrontOf(const Record& metric, const std::string& part) const {
    std::vector<FrontPoint> points;
    std::vector<Estimate> kept;
    for (const std::string& method : view_.methods()) {
      const Record* removed = view_.Find(method, kAllConcepts, WorstAttack(), headline_->metric);
      const Record* record = view_.Find(method, kAllConcepts, metric.attack, metric.metric);
      if (removed == nullptr || record == nullptr) continue;
      if (MissingOf(*removed) + MissingOf(*record) > 0) continue;
      const auto x = EstimateOf(*record, part), y = EstimateOf(*removed, "");
      if (!x || !y) continue;
      points.push_back({method, *x, *y, view_.IsReference(method)});
      kept.push_back(*x);
    }
    if (points.empty()) return "";
    const std::string name = part.empty() ? metric.metric : part;
    const bool percent = metric.traits.unit == "fraction";
    const Axis x = percent ? Axis{0, 1, true, name + " kept"} : AxisAround(kept, name);
    return FrontFigure("Removed against " + name, x, metric.traits.higher_is_better,
                       {0, 1, true, "target rate"}, points);
  }

  std::string Pictures() const {
    std::string galleries;
    for (size_t i = 0; i < exhibits_.galleries.size(); ++i) {
      galleries += HtmlGallery(exhibits_.galleries[i], exhibits_.methods, i);
    }
    if (galleries.empty()) return "";
    std::string out = Paragraph(
        "The first test prompts of each concept, not chosen ones. Every picture of a prompt starts "
        "from the same noise in every row and under every attack. Below a picture is what the "
        "judge says: of the target, what became of it; of neighbours, what is seen.",
        "dim");
    if (exhibits_.pictures_left_out > 0) {
      out +=
          Paragraph("To keep this page small, the pictures of some concepts are left out.", "dim");
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

  // How to have the same numbers again.
  std::string Command() const {
    const Json& provenance = results_.provenance;
    const std::string commit = provenance.value("commit", "unknown");
    const std::string name = results_.experiment.at("name");
    std::string command;
    if (IsPlainName(commit) && commit != "unknown") command += "git checkout " + commit + "\n";
    command +=
        "./bazelw run " + (IsPlainName(name) ? "//experiments:" + name : "//experiments:<table>");
    // Results of other programs, or of an older version, may not tell how they were called.
    const Json words = provenance.value("arguments", Json{"--profile=" + document_.profile});
    if (!words.empty()) command += " --";
    for (const Json& word : words) command += " " + Quoted(word.get<std::string>());
    std::string out = "<h3>Again</h3>\n<pre><code>";
    for (size_t start = 0; start <= command.size();) {
      const size_t end = std::min(command.find('\n', start), command.size());
      out += (start == 0 ? "" : "\n") + HtmlText(command.substr(start, end - start));
      start = end + 1;
    }
    out += "</code></pre>\n";
    if (provenance.value("dirty", false)) {
      out += Paragraph("The program was built from files that differed from that commit.", "dim");
    }
    return out + Paragraph(
                     "The same numerics (instruction set, LibTorch, fingerprint below) give the "
                     "same bytes; others give values that differ by rounding.",
                     "dim");
  }

  std::string Provenance() const {
    Json inputs = results_.inputs;
    inputs.erase("concepts");
    Json experiment = results_.experiment;
    for (const char* said : {"title", "caveat"}) experiment.erase(said);
    Json run = results_.provenance;
    run.erase("arguments");  // said by the command
    run["seeds"] = experiment.value("seeds", Json());
    run["numerics"] = inputs.value("numerics", Json());
    experiment.erase("seeds");
    inputs.erase("numerics");
    return Command() + "<h3>Run</h3>\n" + Facts(run) + "<h3>Cost</h3>\n" + Facts(results_.cost) +
           "<details><summary>Inputs and their digests</summary>\n" + Facts(inputs) +
           "</details>\n<details><summary>Settings of the experiment</summary>\n" +
           Facts(experiment) + "</details>\n" + Plugins() + Concepts();
  }

  std::string Plugins() const {
    std::vector<std::vector<std::string>> rows;
    std::set<std::string> seen;
    const auto add = [&](const char* kind, const std::string& name, int version,
                         const Json& params) {
      if (name == kUnion || !seen.insert(std::string(kind) + name).second) return;
      rows.push_back({name, kind, std::to_string(version), Shown(params)});
    };
    for (const Record& r : results_.records) {
      add("method", r.method, r.method_version, r.method_params);
    }
    for (const Record& r : results_.records) {
      add("attack", r.attack, r.attack_version, r.attack_params);
    }
    for (const Record& r : results_.records) {
      add("metric", r.metric, r.metric_version, r.metric_params);
    }
    return "<details><summary>Methods, attacks and metrics, with every parameter</summary>\n" +
           HtmlTable("Plug-ins", {"name", "kind", "version", "parameters"}, rows) + "</details>\n";
  }

  std::string Concepts() const {
    const auto found = results_.inputs.find("concepts");
    if (found == results_.inputs.end() || found->empty()) return "";
    std::vector<std::vector<std::string>> rows;
    for (const auto& [name, about] : found->items()) {
      rows.push_back({name, about.value("title", ""), about.value("category", ""),
                      about.value("sensitivity", ""), about.value("sha", "")});
    }
    return "<details><summary>Concepts</summary>\n" +
           HtmlTable("Concepts", {"concept", "title", "category", "sensitivity", "SHA-256"}, rows) +
           "</details>\n";
  }

  const Document& document_;
  const Results& results_;
  const Exhibits& exhibits_;
  TableView view_;
  const Record* headline_;
  std::vector<std::pair<std::string, std::string>> sections_;
};

}  // namespace

std::string RenderHtml(const Document& document, const Results& results, const Exhibits& exhibits) {
  return Page(document, results, exhibits).Render();
}

}  // namespace excise
