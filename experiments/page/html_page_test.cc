// The page as text, and the page as Chromium shows it: what it asks for, how wide it is on a phone,
// what it hides.
#include "experiments/page/html_page.h"

#include <ATen/ops/full.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "core/json.h"
#include "core/text.h"
#include "experiments/run/report.h"
#include "models/pictures/image_io.h"
#include "tests/hostile_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

// Two concepts, one of them sensitive, four methods, `texts` wherever text may stand.
Exhibits MadeUpExhibits(const std::string& text) {
  const std::string png = EncodePng(at::full({3, 64, 64}, 90, at::kByte), "test");
  Exhibits exhibits;
  exhibits.methods = {"none", text + "good", "near", "poor"};
  for (const bool sensitive : {false, true}) {
    Gallery gallery{text + (sensitive ? "hidden" : "shown"), text, sensitive, {}};
    for (const char* attack : {"none", "pez", "random", "char_typo"}) {
      PictureColumn column{attack, "target", {}, {}};
      for (size_t row = 0; row < 4; ++row) {
        column.prompts.push_back(text);
        column.rows.push_back({row == 3 ? "" : png, "target", text});
      }
      gallery.columns.push_back(column);
    }
    exhibits.galleries.push_back(gallery);
  }
  exhibits.budgets = {{text, 4, 0, 20, 10, 0, 5, {{1, 0.1}, {10, 0.2}, {20, 0.4}}}};
  return exhibits;
}

std::string MadeUpPage(const std::string& text, Results results) {
  for (Record& record : UnionRecords(results.records)) results.records.push_back(record);
  for (const char* method : {"none", "good", "near", "poor"}) {
    Record kept = MadeUpRecord(method, "none", "retention", MadeUpRate(120, 90));
    kept.traits.group = "retention";
    kept.traits.higher_is_better = true;
    results.records.push_back(kept);
  }
  results.comparisons = CompareAll(results.records);
  return RenderHtml(DescribeTable(results), results, MadeUpExhibits(text));
}

struct Tag {
  std::string name;
  std::map<std::string, std::string> attributes;
};

// The tags of a page that writes `<name attribute="value">` and nothing looser; FAILs on the rest.
std::vector<Tag> TagsOf(const std::string& page) {
  const std::regex tag("<(!DOCTYPE html|/?[a-z][a-z0-9]*)((?: [a-zA-Z0-9-]+=\"[^\"<>]*\")*)/?>");
  const std::regex attribute(" ([a-zA-Z0-9-]+)=\"([^\"]*)\"");
  std::vector<Tag> tags;
  for (size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    // Pictures are longer than a regular expression can follow.
    const size_t end = page.find('>', at);
    std::string text = page.substr(at, end - at + 1);
    const size_t picture = text.find("base64,");
    if (picture != std::string::npos)
      text.erase(picture + 7, text.find('"', picture) - picture - 7);
    std::smatch match;
    if (!std::regex_match(text, match, tag)) FAIL("not a tag of ours: " << text.substr(0, 200));
    Tag found{match[1], {}};
    const std::string attributes = match[2];
    for (std::sregex_iterator it(attributes.begin(), attributes.end(), attribute), none; it != none;
         ++it) {
      CHECK(found.attributes.emplace((*it)[1], (*it)[2]).second);
    }
    tags.push_back(std::move(found));
  }
  return tags;
}

void CheckTags(const std::string& page) {
  std::istringstream words(
      "a abbr b body caption circle code dd details div dl dt figcaption figure g h1 h2 "
      "h3 head header html img input label li line link main meta nav ol p path pre rect "
      "section span style summary sup svg table tbody td text th thead title tr ul wbr");
  std::set<std::string> known = {"!DOCTYPE html"};
  for (std::string word; words >> word;) known.insert(word);
  std::map<std::string, int> open;
  for (const Tag& tag : TagsOf(page)) {
    const bool closing = tag.name[0] == '/';
    const std::string name = closing ? tag.name.substr(1) : tag.name;
    INFO(name);
    CHECK(known.count(name) == 1);
    open[name] += closing ? -1 : 1;
    CHECK(open[name] >= 0);
    for (const auto& [attribute, value] : tag.attributes) {
      INFO(attribute << " = " << value.substr(0, 100));
      CHECK_FALSE(StartsWith(attribute, "on"));
      CHECK(attribute != "style");
      if (attribute == "src") CHECK(StartsWith(value, "data:image/png;base64,"));
      if (attribute == "href") CHECK((StartsWith(value, "#") || value == "data:,"));
    }
    if (name == "img" && !closing) CHECK(tag.attributes.at("alt").size() > 3);
    if (name == "th" && !closing) CHECK(tag.attributes.count("scope") == 1);
  }
  for (const auto& [name, depth] : open) {
    static const std::set<std::string> single = {"!DOCTYPE html", "img",  "input",  "link", "meta",
                                                 "line",          "rect", "circle", "wbr"};
    INFO(name);
    if (single.count(name) == 0 && name != "path") CHECK(depth == 0);
  }
}

bool Have(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Loads `file` in a browser without a network; returns the document as it stands afterwards, and
// what the browser said.
std::pair<std::string, std::string> Browse(const fs::path& file, const std::string& flags = "") {
  const fs::path folder = TestFolder("browser");
  const std::string command =
      "cd '" + folder.string() + "' && HOME='" + folder.string() +
      "' timeout -k 5 100 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
      "--no-first-run --disable-background-networking --disable-component-update --disable-sync "
      "--proxy-server=127.0.0.1:9 --enable-logging=stderr --v=0 --user-data-dir='" +
      (folder / "profile").string() + "' --virtual-time-budget=5000 --dump-dom " + flags +
      " 'file://" + file.string() + "' > out 2> err";
  const int status = std::system(command.c_str());
  INFO(command << "\n" << ReadAll(folder / "err"));
  REQUIRE(status == 0);
  return {ReadAll(folder / "out"), ReadAll(folder / "err")};
}

// What a script inside the page measures, in a frame as wide as a screen. The page's own policy
// would forbid the script, so it is taken out here, and only here.
Json Measure(const std::string& page, int width, const std::string& script) {
  const fs::path folder = TestFolder("measure");
  std::string open = page;
  const size_t policy = open.find("<meta http-equiv");
  REQUIRE(policy != std::string::npos);
  open.erase(policy, open.find('>', policy) - policy + 1);
  const size_t end = open.rfind("</body>");
  REQUIRE(end != std::string::npos);
  open.insert(end, "<script>addEventListener('load', () => { const answer = (() => {" + script +
                       "})(); parent.postMessage(JSON.stringify(answer), '*'); });</script>");
  std::ofstream(folder / "page.html", std::ios::binary) << open;
  std::ofstream(folder / "frame.html")
      << "<!DOCTYPE html><title>waiting</title><script>onmessage = e => { document.title = "
         "'ANSWER' + e.data + 'END'; };</script><iframe width=" +
             std::to_string(width) + " height=844 src=page.html></iframe>";
  const std::string dom = Browse(folder / "frame.html").first;
  const size_t from = dom.find("<title>ANSWER"), to = dom.find("END</title>");
  INFO(dom.substr(0, 500));
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  return ParseJson(dom.substr(from + 13, to - from - 13), "the page's answer");
}

}  // namespace

TEST_CASE("the page has its parts, and only tags and addresses of our own") {
  const std::string page = MadeUpPage("", MadeUpResults());
  CheckTags(page);
  for (const char* part : {"<h1>Made up</h1>",
                           "id=\"erased\"",
                           "id=\"kept\"",
                           "id=\"concepts\"",
                           "id=\"pictures\"",
                           "id=\"provenance\"",
                           "Content-Security-Policy",
                           "default-src 'none'",
                           "name=\"viewport\"",
                           "prefers-color-scheme: dark",
                           "<b>5</b> <span class=\"ci\">[2–10]</span>",
                           "Target rate, worst case over all attacks",
                           "Safety against retention",
                           "Removed against retention",
                           "./bazelw run //experiments:made_up",
                           "a CPU",
                           "id=\"figures\"",
                           "Target rate by attack, %",
                           "Target rate by concept, worst case, %",
                           "Paired differences to the unmodified model",
                           "good: -93 ["}) {
    CHECK_THAT(page, Contains(part));
  }
  CHECK_THAT(page, !Contains("<script"));
  CHECK_THAT(page, !Contains("http:") && !Contains("https:"));
}

TEST_CASE("a row of which pictures are missing, or that no judge fits, is not in the headline") {
  const auto page = [](const Results& results) {
    return RenderHtml(DescribeTable(results), results, {});
  };
  const auto change = [](const auto& how) {
    Results results = MadeUpResults();
    for (Record& record : results.records) how(&record);
    results.comparisons = CompareAll(results.records);
    return results;
  };
  CHECK_THAT(page(MadeUpResults()), Contains("<b>good</b> leaves the concept in"));
  CHECK_THAT(page(change([](Record* record) {
               if (record->method == "good") record->denominators["missing"] = 1;
             })),
             Contains("<b>near</b> leaves the concept in") &&
                 !Contains("Not significantly different in removal: good"));
  CHECK_THAT(page(change([](Record* record) {
               if (record->method == "none") return;
               record->status = kUnfitJudge;
               record->score = {};
             })),
             Contains("so no removal is reported") && !Contains("leaves the concept"));
}

TEST_CASE("nothing that a page shows becomes part of it") {
  for (const std::string& hostile : HostileTexts()) {
    const std::string page = MadeUpPage(hostile, HostileResults(hostile));
    CheckTags(page);
    for (const char* harmful : {"\x1b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\xff"}) {
      CHECK(page.find(harmful) == std::string::npos);
    }
  }
}

TEST_CASE("pictures of sensitive concepts stand behind a box, their neighbours do not") {
  const std::string page = MadeUpPage("", MadeUpResults());
  const auto count = [&](const std::string& text) {
    size_t n = 0;
    for (size_t at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++n;
    return n;
  };
  CHECK(count("<img ") == 24);
  CHECK(count("<label for=\"reveal1\"><img ") == 12);
  CHECK(count("type=\"checkbox\"") == 1);
  CHECK(count("no picture") == 8);
}

TEST_CASE("results without records, rows, attacks or pictures still make a page") {
  Results results = MadeUpResults();
  results.records.clear();
  results.comparisons.clear();
  CheckTags(RenderHtml(DescribeTable(results), results, {}));
  results = MadeUpResults();
  const std::string unstored = RenderHtml(DescribeTable(results), results, ExhibitsWithoutStore());
  CheckTags(unstored);
  CHECK_THAT(unstored, Contains("made from the results file alone"));
  for (Record& record : results.records) {
    record.status = "error";
    record.reason = "it broke";
    record.score = {};
  }
  results.comparisons.clear();
  CheckTags(RenderHtml(DescribeTable(results), results, {}));
}

TEST_CASE("in Chromium the page asks for nothing, fits a phone, and hides what it must") {
  if (!Have("chromium")) {
    WARN("SKIPPED: there is no chromium; the page was not looked at in a browser.");
    return;
  }
  const fs::path folder = TestFolder("page");
  for (const std::string& text : {HostileTexts()[0], HostileTexts()[1], std::string()}) {
    const std::string page =
        MadeUpPage(text, text.empty() ? MadeUpResults() : HostileResults(text));
    std::ofstream(folder / "page.html", std::ios::binary) << page;
    const auto [dom, said] = Browse(folder / "page.html");
    INFO(said);
    // Scripts, addresses and styles that the policy refuses, and errors of any kind, are reported
    // here.
    CHECK_THAT(said, !Contains("CONSOLE"));
    CHECK_THAT(dom, Contains("</html>"));
  }
  const std::string page = MadeUpPage("", MadeUpResults());
  const Json seen = Measure(page, 390, R"js(
    const images = [...document.images];
    const blurred = () => images.filter(i => getComputedStyle(i).filter.includes('blur')).length;
    const hidden = document.querySelector('.sensitive img'), before = blurred();
    hidden.click();
    const after = blurred();
    hidden.click();
    const again = blurred();
    const root = document.documentElement;
    const asked = performance.getEntriesByType('resource').map(e => e.name);
    return {width: innerWidth, wide: root.scrollWidth, before, after, again,
            loaded: images.filter(i => i.complete && i.naturalWidth === 64).length,
            asked: asked.filter(name => !name.startsWith('data:')).length,
            small: [...document.querySelectorAll('svg text')]
                .filter(t => t.textContent && !t.closest('details:not([open])') &&
                             t.getBoundingClientRect().height < 8).length,
            scripts: document.scripts.length,
            styled: getComputedStyle(document.body).maxWidth,
            boxes: [...document.querySelectorAll('.scroll')]
                .filter(b => b.tabIndex === 0 && getComputedStyle(b).overflowX === 'auto').length,
            unboxed: [...document.querySelectorAll('table')]
                .filter(t => !t.closest('.scroll')).length};)js");
  INFO(seen.dump());
  CHECK(seen.at("width") == 390);
  CHECK(seen.at("wide") <= 390);
  CHECK(seen.at("before") == 12);
  CHECK(seen.at("after") == 0);
  CHECK(seen.at("again") == 12);
  CHECK(seen.at("loaded") == 24);
  CHECK(seen.at("asked") == 0);
  CHECK(seen.at("small") == 0);
  CHECK(seen.at("scripts") == 1);  // the one that measures
  CHECK(seen.at("styled") == "1120px");
  CHECK(seen.at("boxes") > 5);
  CHECK(seen.at("unboxed") == 0);
}

TEST_CASE(
    "in Chromium a table of eight columns fits a desk, and the first screen has its first rows") {
  if (!Have("chromium")) return;
  Results results = MadeUpResults();
  for (const char* attack : {"char_typo", "random", "unlearn_diff_atk"}) {
    for (const char* method : {"none", "good", "near", "poor"}) {
      results.records.push_back(MadeUpRecord(method, attack, "asr", MadeUpRate(120, 118)));
    }
  }
  for (const char* method : {"none", "good", "near", "poor"}) {
    Record record = MadeUpRecord(method, "none", "clip_accuracy", MadeUpRate(120, 118));
    results.records.push_back(record);
  }
  const std::string page = MadeUpPage("", results);
  const char* script = R"js(
    const box = document.querySelector('.scroll'), row = document.querySelector('tbody tr');
    const hint = box.previousElementSibling;
    return {hidden: box.scrollWidth - box.clientWidth, first: row.getBoundingClientRect().bottom,
            hint: hint.className.includes('hint') && getComputedStyle(hint).display !== 'none',
            sentence: document.querySelector('.lede').getBoundingClientRect().bottom};)js";
  const Json desk = Measure(page, 1120, script), phone = Measure(page, 390, script);
  INFO(desk.dump() << phone.dump());
  CHECK(desk.at("hidden") == 0);
  CHECK(desk.at("hint") == false);
  CHECK(desk.at("first") < 700);
  CHECK(phone.at("hidden") > 0);
  CHECK(phone.at("hint") == true);
  CHECK(phone.at("sentence") < 400);
  CHECK(phone.at("first") < 844);
}

TEST_CASE("the check for a quiet browser hears what it should") {
  if (!Have("chromium")) return;
  const fs::path folder = TestFolder("loud");
  std::string page = MadeUpPage("", MadeUpResults());
  page.insert(page.rfind("</body>"), "<img src=\"http://192.0.2.1/x.png\"><script>1</script>");
  std::ofstream(folder / "page.html", std::ios::binary) << page;
  CHECK_THAT(Browse(folder / "page.html").second, Contains("CONSOLE"));
}

}  // namespace excise
