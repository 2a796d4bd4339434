// Measures every bar that the embedded backbone must reach, on scenes, captions and noise that no
// training saw. Exit code 1 when a bar is missed or could not be measured.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/text.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"
#include "pretraining/bars/bars_bench.h"
#include "pretraining/bars/bars_report.h"

namespace excise {
namespace {

struct Options {
  std::string model = "models/emoji", concepts = "datasets/concepts";
  std::string sheet, out, card, from;
  std::vector<std::string> only;
  int64_t n = 16, steps = 20;
  double guidance = 3;
  uint64_t seed = 1;
  int workers = 0;
  bool markdown = false, details = false;
};

// Defaults are paths of the repository; others are as the user typed them.
std::filesystem::path Find(const std::string& path, bool is_default) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (is_default && workspace != nullptr) return std::filesystem::path(workspace) / path;
  return UserPath(path);
}

std::vector<std::string> Groups(const Options& options) {
  const std::vector<std::string> known = BarGroups();
  for (const std::string& name : options.only) {
    if (!IsOneOf(name, known)) {
      ThrowUnknownName("group of bars", name, known);
    }
  }
  return options.only.empty() ? known : options.only;
}

Json Measure(const Options& options) {
  BenchOptions bench_options;
  bench_options.model = Find(options.model, options.model == Options().model);
  bench_options.concepts = Find(options.concepts, options.concepts == Options().concepts);
  if (!options.sheet.empty()) bench_options.sheet = UserPath(options.sheet);
  bench_options.n = options.n;
  bench_options.workers = options.workers;
  bench_options.seed = options.seed;
  bench_options.sampler.steps = options.steps;
  bench_options.sampler.guidance_scale = options.guidance;
  UseOneThreadPerWorker();
  const NoGrad no_grad;
  const Bench bench = OpenBench(bench_options);
  const std::vector<std::string> groups = Groups(options);
  const auto wants = [&](const char* group) { return IsOneOf(group, groups); };
  BarReport report;
  if (wants("judge")) MeasureJudges(bench, &report);
  if (wants("vae")) MeasureVae(bench, &report);
  if (wants("clip")) MeasureClips(bench, &report);
  if (wants("pictures") || wants("aliases") || wants("retrained")) {
    MeasurePictures(bench, groups, &report);
  }
  Json json = report.ToJson(groups);
  json["snapshot"] = DescribeSnapshot(bench_options.model);
  json["protocol"] = {{"n", options.n},
                      {"seed", options.seed},
                      {"classes", bench.world->classes().size()},
                      {"scheduler", bench.base ? bench.base->scheduler.name : "ddim"},
                      {"steps", options.steps},
                      {"guidance", options.guidance},
                      {"numerics", Numerics()}};
  return json;
}

Json ReadReport(const std::filesystem::path& path) {
  Json report = ReadJsonFile(path);
  for (const char* key : {"bars", "tables", "snapshot", "protocol"}) {
    if (report.is_object() && report.contains(key)) continue;
    throw Error(fmt::format("{}: '{}' is missing: --from reads a file that --out wrote.",
                            path.string(), key));
  }
  return report;
}

void Write(const std::string& path, const std::string& text) {
  WriteFileAtomically(UserPath(path), text);
  LogInfo(fmt::format("wrote {}", UserPath(path).string()));
}

void Run(const Options& options) {
  InstallInterruptHandlers();
  if (!options.card.empty() && options.from.empty() && !options.only.empty()) {
    throw UsageError("--card tells of all bars: leave --only out.");
  }
  Groups(options);  // a wrong name is found before anything is loaded
  const Json report = options.from.empty() ? Measure(options) : ReadReport(UserPath(options.from));
  if (!options.out.empty()) Write(options.out, report.dump(2) + "\n");
  if (!options.card.empty()) Write(options.card, RenderModelCard(report));
  PrintOut(RenderBars(report, options.markdown));
  if (options.details) PrintOut(RenderDetails(report, options.markdown));
  const int missed = CountBars(report, "missed"), absent = CountBars(report, "not_there");
  if (missed + absent == 0) return;
  throw Error(
      fmt::format("{} of {} bars are missed and {} could not be measured: a table on this "
                  "backbone would prove little. The rows above say by how much; train the "
                  "stages concerned longer (//models:pretrain_emoji --set ...).",
                  missed, report["bars"].size(), absent));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  CLI::App app("Measures whether the embedded emoji backbone reaches its bars.");
  app.add_option("--model", options.model, "snapshot folder")->capture_default_str();
  app.add_option("--concepts", options.concepts, "folder of concepts")->capture_default_str();
  app.add_option("--only", options.only, "judge, vae, clip, pictures, aliases, retrained")
      ->delimiter(',');
  app.add_option("--n", options.n,
                 "generated pictures a class (scenes for judges 4 n, for the others 2 n)")
      ->capture_default_str();
  app.add_option("--steps", options.steps, "sampler steps")->capture_default_str();
  app.add_option("--guidance", options.guidance, "classifier-free guidance")->capture_default_str();
  app.add_option("--seed", options.seed, "of scenes, captions and noise")->capture_default_str();
  app.add_option("--workers", options.workers, "threads; 0 = all cores")->capture_default_str();
  app.add_option("--out", options.out, "FILE.json: bars, tables, digests");
  app.add_option("--card", options.card, "README.md of the snapshot folder");
  app.add_option("--from", options.from, "print an earlier --out file instead of measuring");
  app.add_option("--sheet", options.sheet, "folder for PNG sheets of what was drawn");
  app.add_flag("--markdown", options.markdown, "tables in Markdown");
  app.add_flag("--details", options.details, "tables by concept, class, style, garbage");
  return excise::RunProgram(app, argc, argv, [&] { excise::Run(options); });
}
