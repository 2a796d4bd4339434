#include "experiments/plot.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "tests/hostile_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

Record Kept(const std::string& method, int64_t hits) {
  Record record = MadeUpRecord(method, "none", "retention", MadeUpRate(120, hits));
  record.traits = {"fraction", true, 0, 1, "retention", {"near"}};
  return record;
}

// MadeUpResults with what is kept, and two weights of a blend at each of two thresholds.
Results Front() {
  Results results = MadeUpResults();
  std::vector<Record> more;
  for (const char* method : {"none", "good", "near", "poor"}) more.push_back(Kept(method, 100));
  int64_t hits = 60;
  for (const double tau : {0.0, 0.4}) {
    for (const double w : {0.75, 0.25}) {
      const std::string method = fmt::format("blend_{}_{}", w, tau);
      for (Record record : {MadeUpRecord(method, "pez", "asr", MadeUpRate(120, hits)),
                            Kept(method, 120 - hits / 2)}) {
        record.method_params = {{"w", w}, {"tau_gc", tau}, {"streams", "coupled"}};
        more.push_back(record);
      }
      hits -= 10;
    }
  }
  for (const Record& record : more) results.records.push_back(record);
  return results;
}

std::string Content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// A program named gnuplot that is found before the real one.
class Instead {
 public:
  explicit Instead(const std::string& script) : before_(std::getenv("PATH")) {
    const fs::path folder = TestFolder("instead_of_gnuplot");
    if (!script.empty()) {
      std::ofstream(folder / "gnuplot") << script;
      chmod((folder / "gnuplot").c_str(), 0755);
    }
    setenv("PATH", (folder.string() + (script.empty() ? "" : ":/usr/bin:/bin")).c_str(), 1);
  }
  ~Instead() { setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_;
};

bool HaveGnuplot() { return std::system("command -v gnuplot >/dev/null 2>&1") == 0; }

}  // namespace

TEST_CASE("plot: a point for every method, weights joined at every threshold") {
  const FrontPlot plot = DescribeFront(Front());
  CHECK(plot.y_label == "retention, %");
  REQUIRE(plot.series.size() == 6);
  CHECK(plot.series[0].title == "none");
  CHECK(plot.series[1].title == "good");
  REQUIRE(plot.series[1].points.size() == 1);
  const PlotPoint& good = plot.series[1].points[0];
  CHECK(good.y.value == Approx(100.0 / 120));
  CHECK(good.y.low < good.y.value);
  CHECK(good.y.value < good.y.high);
  int families = 0;
  for (const PlotSeries& series : plot.series) {
    if (series.points.size() != 2) continue;
    ++families;
    CHECK(series.points[0].label == "0.25");  // by rising weight, not in the order of the rows
    CHECK(series.points[1].label == "0.75");
    CHECK(series.title == (families == 1 ? "blend_0.75_0 ... by w, tau_gc = 0"
                                         : "blend_0.75_0.4 ... by w, tau_gc = 0.4"));
  }
  CHECK(families == 2);
  CHECK_THROWS_WITH(DescribeFront(MadeUpResults()), Catch::Contains("retention"));
}

TEST_CASE("plot: numbers and intervals stand in the script, names are escaped") {
  FrontPlot plot;
  plot.title = "it's `id` \\ {/Bold x}\nset output '/tmp/x'";
  plot.x_label = "target rate, %";
  plot.y_label = "kept, %";
  plot.series = {{"a_b' ; system('touch /tmp/y') #", {{"", {0.25, 0.125, 0.5}, {0.75, 0.5, 1}}}}};
  const std::string script = GnuplotScript(plot, PlotFormat::kSvg);
  CHECK(script.find("$series0 << END\n0.25 0.75 0.125 0.5 0.5 1\nEND\n") != script.npos);
  CHECK(script.find("a\\_b\u2019 ; system(\u2019touch") != script.npos);
  CHECK(script.find("\nset output") == script.npos);
  CHECK(script.find('`') == script.npos);
  CHECK(GnuplotScript(plot, PlotFormat::kPng).find("pngcairo") != script.npos);
  CHECK_THROWS_AS(PlotFormatOf("front.pdf"), UsageError);
  CHECK(PlotFormatOf("a/front.png") == PlotFormat::kPng);
}

TEST_CASE("plot: gnuplot draws it, the same every time") {
  if (!HaveGnuplot()) {
    WARN("gnuplot is not installed; nothing was drawn.");
    return;
  }
  const fs::path folder = TestFolder("plot");
  Results results = Front();
  for (Record& record : results.records) {
    if (record.method == "poor") record.method = "it's `id` $(id) {x}^2_& \"q\" \\ <b>\u202e";
  }
  WriteFrontPlot(results, folder / "new" / "front.svg");
  const std::string svg = Content(folder / "new" / "front.svg");
  CHECK(svg.find("</svg>") != svg.npos);
  CHECK(svg.find("retention") != svg.npos);
  CHECK(svg.find("tau_gc = 0.4") != svg.npos);
  CHECK(svg.find("uid=") == svg.npos);
  CHECK(svg.find("<b>") == svg.npos);
  CHECK(svg.find("`id`") == svg.npos);
  WriteFrontPlot(results, folder / "again.svg");
  CHECK(Content(folder / "again.svg") == svg);
  FrontPlot hostile = DescribeFront(results);
  for (const std::string& text : HostileTexts()) {
    hostile.title += text;
    hostile.series.push_back({text, {{text, {0.5, 0.4, 0.6}, {0.5, 0.4, 0.6}}}});
  }
  RunGnuplot(GnuplotScript(hostile, PlotFormat::kSvg), folder / "hostile.svg");
  const std::string drawn = Content(folder / "hostile.svg");
  CHECK(drawn.find("<script>") == drawn.npos);
  CHECK(drawn.find("<svg onload") == drawn.npos);
  WriteFrontPlot(results, folder / "front.png");
  WriteFrontPlot(results, folder / "again.png");
  const std::string png = Content(folder / "front.png");
  CHECK(png.substr(1, 3) == "PNG");
  CHECK(png.size() > 5000);
  CHECK(Content(folder / "again.png") == png);
}

TEST_CASE("plot: gnuplot that is missing, fails or hangs is an error, and leaves nothing behind") {
  const fs::path file = TestFolder("plot_failures") / "front.svg";
  {
    const Instead nothing("");
    CHECK_THROWS_WITH(RunGnuplot("plot 1", file), Catch::Contains("apt-get install gnuplot-nox"));
  }
  {
    const Instead failing("#!/bin/sh\necho half; echo 'no such \033[31mterminal' >&2; exit 1\n");
    CHECK_THROWS_WITH(RunGnuplot("plot 1", file), Catch::Contains("no such \\x1b[31mterminal"));
  }
  {
    const Instead silent("#!/bin/sh\nexit 0\n");
    CHECK_THROWS_WITH(RunGnuplot("plot 1", file), Catch::Contains("drew nothing"));
  }
  {
    const Instead hanging("#!/bin/sh\nexec sleep 1000\n");
    CHECK_THROWS_WITH(RunGnuplot("plot 1", file, std::chrono::milliseconds(50)),
                      Catch::Contains("had not ended"));
  }
  CHECK_FALSE(fs::exists(file));
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);  // no child is left
  CHECK(errno == ECHILD);
}

}  // namespace excise
