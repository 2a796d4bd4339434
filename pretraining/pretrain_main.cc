// Trains the embedded backbone, its judges and `retrained`, in stages; running it again resumes.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/text.h"
#include "pretraining/stages/recipe.h"

namespace excise {
namespace {

struct Options {
  std::string out = "models/emoji", scratch, concepts = "datasets/concepts";
  std::vector<std::string> stages, settings;
};

std::filesystem::path FromWorkspace(const std::string& path) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  return workspace ? std::filesystem::path(workspace) / path : std::filesystem::path(path);
}

std::filesystem::path DefaultScratch() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache) return std::filesystem::path(cache) / "excise" / "pretrain";
  return std::filesystem::path(home ? home : ".") / ".cache" / "excise" / "pretrain";
}

// "vae_steps=3000" -> {"vae_steps": 3000}
Json SettingsToJson(const std::vector<std::string>& settings) {
  Json object = Json::object();
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) {
      throw UsageError(
          fmt::format("--set {}: expected name=value, as in --set vae_steps=3000.", setting));
    }
    object[setting.substr(0, equals)] = ParseJson(setting.substr(equals + 1), "--set " + setting);
  }
  return object;
}

bool IsDone(const Workshop& shop, const Stage& stage) {
  return std::filesystem::exists((stage.in_scratch ? shop.scratch : shop.out) / stage.product);
}

void CheckStageNames(const std::vector<std::string>& wanted) {
  std::vector<std::string> known;
  for (const Stage& stage : Stages()) known.push_back(stage.name);
  for (const std::string& name : wanted) {
    if (!IsOneOf(name, known)) {
      ThrowUnknownName("stage", name, known);
    }
  }
}

int Run(const Options& options) {
  Workshop shop;
  DecodeParams(SettingsToJson(options.settings), shop.recipe, "--set");
  CheckStageNames(options.stages);
  at::set_num_threads(static_cast<int>(shop.recipe.threads));
  shop.world = EmojiWorld::Load();
  shop.out = FromWorkspace(options.out);
  shop.scratch = options.scratch.empty() ? DefaultScratch() : FromWorkspace(options.scratch);
  shop.concepts = FromWorkspace(options.concepts);
  std::filesystem::create_directories(shop.out);
  std::filesystem::create_directories(shop.scratch);
  WriteSnapshotFiles(shop);
  for (const Stage& stage : Stages()) {
    const bool wanted = options.stages.empty() || IsOneOf(stage.name, options.stages);
    if (!wanted) continue;
    if (IsDone(shop, stage)) {
      LogInfo(fmt::format("{}: done already ({}); remove the file to train it again", stage.name,
                          stage.product.string()));
      continue;
    }
    stage.run(shop, stage);
  }
  return 0;
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  CLI::App app("Trains the embedded emoji backbone from fonts and annotations; resumable.");
  app.add_option("--out", options.out, "snapshot folder");
  app.add_option("--scratch", options.scratch,
                 "checkpoints and loss curves (default: ~/.cache/excise/pretrain)");
  app.add_option("--concepts", options.concepts, "concepts that `retrained` must not see");
  app.add_option("--stage", options.stages, "only these stages, in the recipe's order");
  app.add_option("--set", options.settings, "name=value of the recipe");
  try {
    app.parse(argc, argv);
    excise::InstallInterruptHandlers();
    return excise::Run(options);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    excise::LogInfo(error.what());
    return 2;
  } catch (const excise::UsageError& error) {
    excise::LogInfo(error.what());
    return 2;
  } catch (const excise::Interrupted&) {
    return excise::InterruptExitCode();
  } catch (const std::exception& error) {
    excise::LogInfo(error.what());
    return 1;
  }
}
