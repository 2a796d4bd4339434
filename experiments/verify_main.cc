// Replays the numbers of a results file from nothing and compares them bit for bit.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <thread>

#include "core/digest_cache.h"
#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "experiments/check/verify.h"
#include "experiments/flags.h"

namespace excise {
namespace {

struct Options {
  VerifyRequest request;
  Flags flags;
  std::string file;
  int64_t seed = 1;
};

void Verify(Options* options) {
  VerifyRequest& request = options->request;
  Flags& flags = options->flags;
  if (request.sample < 0) throw UsageError("--sample: 1 record or more, or 0 for all.");
  if (options->seed < 0) throw UsageError("--seed: 0 or more.");
  if (flags.workers < 0) throw UsageError(fmt::format("--workers={}: 1 or more.", flags.workers));
  if (request.sample > 0 && !request.records.empty()) {
    throw UsageError("--sample draws records and --record names them: give one of the two.");
  }
  request.file = UserPath(options->file);
  if (request.file.extension() != ".json") {
    throw UsageError(
        fmt::format("{}: the name of a results file, FILE.json, is expected.", options->file));
  }
  request.seed = static_cast<uint64_t>(options->seed);
  request.scratch = CacheFolder(flags);
  UseDigestsIn(request.scratch);
  request.workers = flags.workers > 0
                        ? flags.workers
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  request.folders = [&](const std::string& backbone) { return FoldersOf(flags, backbone); };
  const Verification verification = VerifyResults(request);
  PrintOut(verification.report);
  if (!verification.verified) throw Error("not verified; the report says what differs.");
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::InstallInterruptHandlers();
  CLI::App app(
      "Replays a results file from nothing, every input hashed anew, and compares records and rows "
      "bit for bit. Exit codes: 0 verified, 1 it differs or cannot be replayed, 2 wrong usage.");
  excise::Options options;
  excise::VerifyRequest& request = options.request;
  app.add_option("file", options.file, "FILE.json; FILE.rows.jsonl lies beside it")->required();
  app.add_option("--sample", request.sample, "replay N records drawn at random (default: all)");
  app.add_option("--seed", options.seed, "of that draw; choose one that the author did not know")
      ->capture_default_str();
  app.add_option("--record", request.records,
                 "replay this one: 'method / concept / attack / metric' (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--set", request.settings,
                 "where a file of the author's is here: methods.mine.folder=DIR (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--images", options.flags.images, "the folder of pictures made elsewhere");
  app.add_option("--concepts_dir", options.flags.concepts_dir,
                 "a folder with concepts of your own");
  app.add_option("--models", options.flags.models, "folder that holds the backbone's folder");
  app.add_option("--cache", options.flags.cache,
                 "where the replay keeps its work until it ends (default: ~/.cache/excise)");
  app.add_option("--device", request.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--workers", options.flags.workers, "threads (default: all cores)");
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Verify(&options);
  });
}
