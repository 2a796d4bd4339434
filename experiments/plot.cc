#include "experiments/plot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "core/error.h"
#include "core/escape.h"
#include "core/files.h"
#include "core/read_file.h"
#include "experiments/tables/table_view.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Colour-blind safe (Okabe and Ito 2008), then by shape.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#e69f00", "#56b4e9", "#000000"};
constexpr int kShapes[] = {7, 5, 9, 11, 13, 6, 4, 8, 10, 12};

// A single-quoted string. gnuplot 5.4 loses count of quotes that follow one another, so straight
// ones are drawn as typographic ones.
std::string Quoted(const std::string& data) {
  std::string text;
  for (const char c : data) text += c == '\'' || c == '`' ? "\u2019" : std::string(1, c);
  return "'" + Escape(text, Format::kGnuplot) + "'";
}

const Record* KeptMetric(const TableView& view) {
  const std::vector<const Record*> metrics = view.Metrics("retention");
  for (const Record* metric : metrics) {
    if (metric->traits.unit == "fraction" && metric->traits.higher_is_better) return metric;
  }
  return metrics.empty() ? nullptr : metrics.front();
}

// What rows of one family share: every parameter but the weight. "" for other methods.
std::string FamilyOf(const Record& record) {
  Json params = record.method_params;
  if (!params.is_object() || params.count("w") == 0 || params.count("tau_gc") == 0) return "";
  params.erase("w");
  return params.dump();
}

// Waits for the child that long; kills it then. Never leaves a zombie. Returns whether it ended,
// with its status.
bool WaitFor(pid_t child, std::chrono::milliseconds limit, int* status) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const pid_t done = waitpid(child, status, WNOHANG);
    if (done == child) return true;
    if (done < 0 && errno != EINTR) return false;
    if (std::chrono::steady_clock::now() >= end) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill(child, SIGKILL);
  while (waitpid(child, status, 0) < 0 && errno == EINTR) {
  }
  return false;
}

// gnuplot with `script` on its command line's end and its streams in files. Returns errno of the
// start, or 0.
int Spawn(const fs::path& script, const fs::path& out, const fs::path& log, pid_t* child) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  // -d: not the settings of this user or machine.
  std::string name = "gnuplot", defaults = "-d", file = script.string();
  char* const arguments[] = {name.data(), defaults.data(), file.data(), nullptr};
  const int failed = posix_spawnp(child, "gnuplot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  return failed;
}

// Its bytes, "" when it cannot be read.
std::string Content(const fs::path& file) {
  std::error_code missing;
  return fs::exists(file, missing) ? ReadFile(file) : "";
}

// A folder of our own beside `file` that goes away: nothing is written where nobody asked for it.
class Workplace {
 public:
  explicit Workplace(const fs::path& file)
      : folder_(file.parent_path() / (".excise-plot-" + UniqueSuffix())) {
    CreateFolders(folder_);
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  fs::path File(const char* name) const { return folder_ / name; }

 private:
  fs::path folder_;
};

void AppendData(const PlotSeries& series, size_t index, std::string* out) {
  *out += fmt::format("$series{} << END\n", index);
  for (const PlotPoint& point : series.points) {
    const auto [x, y] = std::pair{point.x, point.y};
    *out += fmt::format("{:.9g} {:.9g} {:.9g} {:.9g} {:.9g} {:.9g}\n", x.value, y.value, x.low,
                        x.high, y.low, y.high);
  }
  *out += "END\n";
}

}  // namespace

FrontPlot DescribeFront(const Results& results) {
  const TableView view(results);
  const Record* removed = HeadlineMetric(view);
  const Record* kept = KeptMetric(view);
  FrontPlot plot;
  if (removed != nullptr && kept != nullptr) {
    const std::string attack = view.Attacks(removed->metric).back();
    plot.title = results.experiment.value("title", "");
    plot.x_label =
        attack == kUnion ? "target rate in the worst case over attacks, %" : "target rate, %";
    plot.y_percent = kept->traits.unit == "fraction";
    plot.y_label = kept->metric + (plot.y_percent ? ", %" : ", " + kept->traits.unit);
    std::map<std::string, size_t> families;  // -> the series
    for (const std::string& method : view.methods()) {
      const Record* x = view.Find(method, kAllConcepts, attack, removed->metric);
      const Record* y = view.Find(method, kAllConcepts, kept->attack, kept->metric);
      if (x == nullptr || y == nullptr || x->score.n == 0 || y->score.n == 0) continue;
      if (MissingOf(*x) + MissingOf(*y) > 0) continue;
      const auto x_estimate = EstimateOf(*x, ""), y_estimate = EstimateOf(*y, "");
      if (!x_estimate || !y_estimate) continue;
      const std::string family = FamilyOf(*x);
      const auto [it, first] =
          families.emplace(family.empty() ? "method " + method : family, plot.series.size());
      if (first) plot.series.push_back({method, {}});
      PlotPoint point{"", *x_estimate, *y_estimate};
      if (!family.empty()) point.label = fmt::format("{:g}", x->method_params.value("w", 0.0));
      PlotSeries& series = plot.series[it->second];
      series.points.push_back(point);
      if (series.points.size() == 2) {
        series.title = fmt::format("{} ... by w, tau_gc = {:g}", series.title,
                                   x->method_params.value("tau_gc", 0.0));
      }
    }
  }
  if (plot.series.empty()) {
    throw Error(
        "--plot: no method has both a target rate and a metric of what is kept, over all concepts. "
        "Let the metrics asr and retention take part, and prompts of neighbours (near, far).");
  }
  for (PlotSeries& series : plot.series) {
    if (series.points.size() == 1) series.points[0].label = "";
    // Points are joined by rising weight, whatever their rows are called.
    std::stable_sort(
        series.points.begin(), series.points.end(), [](const PlotPoint& a, const PlotPoint& b) {
          return std::strtod(a.label.c_str(), nullptr) < std::strtod(b.label.c_str(), nullptr);
        });
  }
  return plot;
}

std::string GnuplotScript(const FrontPlot& plot, PlotFormat format) {
  std::string out = format == PlotFormat::kSvg
                        ? "set terminal svg size 960,600 dynamic enhanced font 'DejaVu Sans,13' "
                          "background '#ffffff'\n"
                        : "set terminal pngcairo size 960,600 enhanced font 'DejaVu Sans,11' "
                          "background '#ffffff'\n";
  out +=
      "set encoding utf8\nset decimalsign '.'\nset grid linecolor '#dddddd'\nset tics nomirror\n";
  out += "set border 3\nset key outside right top Left reverse noopaque samplen 2 font ',9'\n";
  out += fmt::format("set title {}\nset xlabel {}\nset ylabel {}\n", Quoted(plot.title),
                     Quoted(plot.x_label), Quoted(plot.y_label));
  out += "set xrange [-2:102]\n";
  const double y_scale = plot.y_percent ? 100 : 1;
  out += plot.y_percent ? "set yrange [-2:102]\n" : "set offsets 0, 0, graph 0.05, graph 0.05\n";
  for (size_t i = 0; i < plot.series.size(); ++i) AppendData(plot.series[i], i, &out);
  int label = 0;
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      if (point.label.empty()) continue;
      out += fmt::format("set label {} {} at {:.9g},{:.9g} offset 0.6,0.5 font ',9'\n", ++label,
                         Quoted(point.label), 100 * point.x.value, y_scale * point.y.value);
    }
  }
  std::string bars, marks;
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    const int shape = kShapes[i % std::size(kShapes)];
    const bool joined = plot.series[i].points.size() > 1;
    bars += fmt::format(
        "{0} $series{1} using (100*$1):({2:g}*$2):(100*$3):(100*$4):({2:g}*$5):({2:g}*$6) with "
        "xyerrorbars linecolor '{3}' linewidth 1 pointtype 0 notitle, \\\n",
        i == 0 ? "plot" : "    ", i, y_scale, colour);
    marks += fmt::format(
        "     $series{} using (100*$1):({:g}*$2) with {} linecolor '{}' linewidth 2 pointtype {} "
        "pointsize 1.1 title {}{}\n",
        i, y_scale, joined ? "linespoints" : "points", colour, shape, Quoted(plot.series[i].title),
        i + 1 < plot.series.size() ? ", \\" : "");
  }
  return out + bars + marks;
}

PlotFormat PlotFormatOf(const fs::path& file) {
  if (file.extension() == ".svg") return PlotFormat::kSvg;
  if (file.extension() == ".png") return PlotFormat::kPng;
  throw UsageError(
      fmt::format("--plot={}: the name of a .svg or .png file is expected.", file.string()));
}

void RunGnuplot(const std::string& script, const fs::path& file, std::chrono::milliseconds limit) {
  const Workplace workplace(file);
  const fs::path commands = workplace.File("front.gp"), out = workplace.File("front"),
                 log = workplace.File("log");
  WriteFileAtomically(commands, script);
  pid_t child = 0;
  if (const int failed = Spawn(commands, out, log, &child); failed != 0) {
    throw Error(
        fmt::format("--plot: gnuplot cannot be started ({}). Install it (apt-get install "
                    "gnuplot-nox), or leave "
                    "--plot out: the page beside the results (.html) holds figures of its own.",
                    std::strerror(failed)));
  }
  int status = 0;
  if (!WaitFor(child, limit, &status)) {
    throw Error(
        fmt::format("--plot: gnuplot had not ended after {} s and was stopped. The table "
                    "is written; run again to draw it.",
                    static_cast<double>(limit.count()) / 1000));
  }
  const std::string picture = Content(out);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || picture.empty()) {
    // gnuplot repeats the command, which is long, before it says what is wrong with it.
    std::string said = Content(log);
    if (said.size() > 1000) said = "..." + said.substr(said.size() - 1000);
    throw Error(fmt::format(
        "--plot: gnuplot could not draw {}: {}", file.string(),
        said.empty() ? "it drew nothing and did not say why" : Escape(said, Format::kTerminal)));
  }
  WriteFileAtomically(file, picture);
}

void WriteFrontPlot(const Results& results, const fs::path& file) {
  RunGnuplot(GnuplotScript(DescribeFront(results), PlotFormatOf(file)), file);
}

}  // namespace excise
