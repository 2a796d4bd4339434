// Prints a results file again, in any format and without a run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "experiments/flags.h"
#include "experiments/page/page_figures.h"
#include "experiments/render_as.h"
#include "experiments/results/read_results.h"

namespace excise {
namespace {

struct Options {
  std::string file, format = "text", out, plot;
};

// Writes all of it before it says so.
void Write(const std::string& name, const std::string& content) {
  const std::filesystem::path file = UserPath(name);
  if (file.has_parent_path()) CreateFolders(file.parent_path());
  WriteFileAtomically(file, content);
  LogInfo(fmt::format("wrote {}", file.string()));
}

void Render(const Options& options) {
  RequireOneOf("--format", options.format, FormatNames());
  const std::filesystem::path file = UserPath(options.file);
  if (file.extension() != ".json") {
    throw UsageError(
        fmt::format("{}: the name of a results file, FILE.json, is expected.", options.file));
  }
  const Results results = LoadResults(file);
  const std::string rendered =
      RenderAs(options.format, DescribeTable(results), results, ExhibitsWithoutStore());
  if (!options.plot.empty()) {
    for (const auto& [name, figure] : PlotFiles(results)) {
      Write(PlotPath(options.plot, name).string(), figure);
    }
  }
  if (!options.out.empty()) return Write(options.out, rendered);
  PrintAs(options.format, rendered);
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::InstallInterruptHandlers();
  CLI::App app(
      "Prints a results file again as this version renders it, without a run. The page (html) has "
      "neither sample pictures nor what attacks spent: these are in the store of the run, and the "
      "table's program shows them.");
  excise::Options options;
  app.add_option("file", options.file,
                 "FILE.json; figures by budget need FILE.rows.jsonl beside it")
      ->required();
  app.add_option("--format", options.format, "text, md, tex, html, csv or json")
      ->capture_default_str();
  app.add_option("--out", options.out, "write it to this file instead of stdout");
  app.add_option("--plot", options.plot, "write the plot of the table's program, as FILE.svg");
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Render(options);
  });
}
