// Quadruplets from captions and a substitution table, in ViSU's layout.
#include <CLI/CLI.hpp>
#include <string>

#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "datasets/quadruplets/quadruplet_builder.h"

namespace excise {
namespace {

struct Options {
  std::string captions, substitutions, out;
  uint64_t seed = 1;
};

void Run(const Options& options) {
  const std::vector<Caption> captions = ReadCaptions(UserPath(options.captions));
  const std::filesystem::path table = UserPath(options.substitutions);
  const BuiltQuadruplets built = BuildQuadruplets(
      captions, ParseSubstitutions(ReadJsonFile(table), table.string()), options.seed);
  std::string counts;
  for (const auto& [what, n] : built.counts) {
    counts += (counts.empty() ? "" : ", ") + what + " " + std::to_string(n);
  }
  LogInfo(counts);
  if (built.rows.empty()) {
    throw Error(options.captions +
                ": no caption has exactly one word of the table, so there is "
                "nothing to write (" +
                counts + ").");
  }
  WriteFileAtomically(UserPath(options.out), built.rows.dump(1) + "\n");
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  CLI::App app(
      "Makes quadruplets from captions: in each caption that has one word of the table, the word\n"
      "is replaced by one of its safe or unsafe stand-ins. Writes texts, ids and the paths at "
      "which\n"
      "the unsafe pictures are to be put; no picture is made.");
  app.add_option("--captions", options.captions,
                 "COCO's captions (.json), or .csv or .jsonl with a column caption")
      ->required();
  app.add_option("--substitutions", options.substitutions,
                 "JSON: {\"weapons\": {\"unsafe\": [\"dagger\"], \"safe\": [\"umbrella\"]}}")
      ->required();
  app.add_option("--out", options.out, "FILE.json, as SPLIT/visu_NAME.json")->required();
  app.add_option("--seed", options.seed, "of the words drawn");
  return excise::RunProgram(app, argc, argv, [&] { excise::Run(options); });
}
