// Ranks of methods over several results files, and how far they hold.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "experiments/flags.h"
#include "experiments/render_as.h"
#include "experiments/results/ranks.h"
#include "experiments/results/read_results.h"
#include "experiments/tables/render.h"
#include "experiments/tables/table_ranks.h"

namespace excise {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string attack = "none", format = "text", out;
};

std::string Rendered(const std::string& format, const Ranks& ranks) {
  if (format == "json") return RanksToJson(ranks).dump(1) + "\n";
  const Document document = DescribeRanks(ranks);
  if (format == "md") return RenderMarkdown(document);
  if (format == "tex") return RenderLatex(document);
  return RenderText(document, OutputColumns());
}

void Rank(const Options& options) {
  RequireOneOf("--format", options.format, {"text", "md", "tex", "json"});
  std::vector<Results> files;
  for (const std::string& name : options.files) files.push_back(LoadResults(UserPath(name)));
  const std::string rendered = Rendered(options.format, RankMethods(files, options.attack));
  if (options.out.empty()) return PrintAs(options.format, rendered);
  const std::filesystem::path file = UserPath(options.out);
  if (file.has_parent_path()) CreateFolders(file.parent_path());
  WriteFileAtomically(file, rendered);
  LogInfo(fmt::format("wrote {}", file.string()));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  CLI::App app(
      "Ranks the methods of several runs of one experiment by removal, retention and their "
      "harmonic mean, and says how far the order holds over concepts, erase seeds and guidance "
      "scales.");
  excise::Options options;
  app.add_option("files", options.files,
                 "results files, FILE.json, that differ in seeds.erase and sampler.guidance alone")
      ->required();
  app.add_option("--attack", options.attack, "under which removal is scored; union: the worst case")
      ->capture_default_str();
  app.add_option("--format", options.format, "text, md, tex or json")->capture_default_str();
  app.add_option("--out", options.out, "write it to this file instead of stdout");
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Rank(options);
  });
}
