#include "experiments/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "core/data_file.h"
#include "core/digest_cache.h"
#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/program.h"
#include "core/text.h"
#include "experiments/formats/protocol.h"
#include "experiments/render_as.h"
#include "experiments/run/runner.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Names(const std::string& list, const char* flag) {
  std::vector<std::string> names;
  for (size_t start = 0; !list.empty() && start <= list.size();) {
    const size_t comma = std::min(list.find(',', start), list.size());
    const std::string name = list.substr(start, comma - start);
    if (name.empty()) throw UsageError(fmt::format("{}={}: an empty name.", flag, list));
    names.push_back(name);
    start = comma + 1;
  }
  return names;
}

// Which of these were given: those that read, write or check a whole table.
std::vector<std::string> FlagsOfWholeRuns(const Flags& f) {
  const std::pair<const char*, bool> all[] = {{"--check", !f.check.empty()},
                                              {"--out", !f.out.empty()},
                                              {"--plot", !f.plot.empty()},
                                              {"--update_golden", f.update_golden},
                                              {"--update_reference", f.update_reference != 0},
                                              {"--export_prompts", !f.export_prompts.empty()},
                                              {"--export_models", !f.export_models.empty()}};
  std::vector<std::string> given;
  for (const auto& [flag, is_given] : all) {
    if (is_given) given.push_back(flag);
  }
  return given;
}

// What a part of a table cannot give. A check of nothing would pass.
void RequireWholeRun(const ShardChoice& part, const Flags& f) {
  const std::string given = fmt::format("{}", fmt::join(FlagsOfWholeRuns(f), ", "));
  if (!given.empty() && part.shard.count > 1 && !part.origin.empty()) {
    throw UsageError(fmt::format(
        "{} needs a whole run, and {} makes this one part {} of {}. If the variables were left "
        "over, `unset {}`; or pass --shard=0/1 for the whole run.",
        given, part.origin, part.shard.index, part.shard.count, fmt::join(part.variables, " ")));
  }
  if (!given.empty() && (part.shard.count > 1 || f.stage != StageNames().back())) {
    throw UsageError(
        fmt::format("{} needs a whole run, without --stage and without a --shard.", given));
  }
  if (!f.dry_run && !f.explain) return;
  // Whoever asks for a verdict must not take a plan for one.
  if (!f.check.empty() || f.update_golden || f.update_reference != 0) {
    throw UsageError(
        "--check, --update_golden and --update_reference need a run, and --dry_run and --explain "
        "do none.");
  }
}

std::string Absolute(const std::string& path) {
  std::error_code failed;
  const fs::path canonical = fs::weakly_canonical(UserPath(path), failed);
  return failed ? UserPath(path).string() : canonical.string();
}

// Whether --models names another folder for the backbone than the one that comes along.
bool OtherBackbone(const Flags& f, const std::string& backbone) {
  const char* index = "model_index.json";
  const fs::path standard = ModelsFolder(Flags(), backbone) / backbone / index;
  std::error_code ignored;
  return !f.models.empty() && fs::exists(standard, ignored) &&
         !fs::equivalent(standard, UserPath(f.models) / backbone / index, ignored);
}

}  // namespace

void AddFlags(CLI::App& app, Flags* f) {
  app.add_option("table", f->bundled, "the experiment's JSON file");
  app.add_option("--experiment", f->experiment, "another JSON file");
  app.add_option("--profile", f->choices.profile, "which profile of the file: default, smoke, ...")
      ->capture_default_str();
  app.add_option("--methods", f->methods, "only these, comma-separated (none always takes part)");
  app.add_option("--attacks", f->attacks, "only these, comma-separated (none always takes part)");
  app.add_option("--concepts", f->concepts, "only these, comma-separated");
  app.add_option("--metrics", f->metrics, "only these, comma-separated");
  app.add_option("--set", f->choices.settings,
                 "changes a setting: sampler.guidance=5, methods.esd.lr=1e-4 (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--limit", f->choices.limit, "at most that many prompts a concept and group");
  app.add_option("--device", f->device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--dtype", f->dtype, "in which pictures are drawn: fp32, bf16, or fp16 on CUDA")
      ->capture_default_str();
  app.add_option("--models", f->models, "folder that holds the backbone's folder");
  app.add_option("--cache", f->cache, "folder of the store (default: ~/.cache/excise)");
  app.add_option(
      "--out", f->out,
      "results file, FILE.json; rows and tables (md, tex, csv, html) are written beside it");
  app.add_option("--format", f->format, "what is printed: text, md, tex, html, csv or json")
      ->capture_default_str();
  app.add_option(
      "--plot", f->plot,
      "write the page's figure of what each method lets through against the near neighbours "
      "it keeps, as FILE.svg");
  app.add_option("--images", f->images,
                 "score pictures made by other software: a folder with manifest.json");
  app.add_option("--reuse", f->reuse,
                 "take what this results file has of the table, FILE.json with its rows beside it, "
                 "instead of computing it again (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--export_prompts", f->export_prompts,
                 "write FILE.csv or FILE.jsonl and initial latents for other software, and stop; "
                 "found:FILE: what attacks found, as prompt_file reads it");
  app.add_flag("--sensitive_texts", f->sensitive_texts,
               "with --export_prompts=found:FILE: texts of sensitive concepts, too, of data of "
               "your own");
  app.add_option("--export_models", f->export_models,
                 "write the edited models as snapshot folders under this one, and stop");
  app.add_option("--protocol", f->protocol,
                 "measure as a paper does: a name of protocols/, or your FILE.json");
  app.add_option("--protocol_files", f->protocol_files,
                 "the folder of the files that the protocol asks for");
  app.add_option("--concepts_dir", f->concepts_dir, "a folder with concepts of your own");
  app.add_option("--shard", f->shard, "i/n: do part i of n; then run once more without it");
  app.add_option("--workers", f->workers, "threads (default: all cores)");
  app.add_option("--model_memory", f->model_memory,
                 "MiB of edited models that are kept in memory beside those in use")
      ->capture_default_str();
  app.add_option("--stage", f->stage,
                 fmt::format("stop after a stage: {}", fmt::join(StageNames(), ", ")));
  app.add_flag("--dry_run", f->dry_run,
               "say what would be done, and how long it would take; nothing is done or written");
  app.add_flag("--explain", f->explain,
               "say why what is missing is missing; nothing is done or written");
  app.add_flag("--force", f->force, "recompute what is stored, and compare");
  app.add_option("--list", f->list,
                 "name all plug-ins; --list=NAME, --list=methods: their cards and settings")
      ->expected(0, 1)
      ->default_str("all");
  app.add_option(
         "--check", f->check,
         "golden or reference: compare a fresh run with results/checks/golden or reference; "
         "published: what papers print, against the committed results, without a run")
      ->expected(0, 1)
      ->default_str("golden");
  app.add_option("--user_data", f->user_data,
                 "for --check=published: a folder with your copies of prompt files and CLIP's "
                 "tokenizer");
  app.add_option("--results", f->results,
                 "for --check=published: results of yours in the place of the committed ones");
  app.add_option("--update_reference", f->update_reference,
                 "write results/checks/reference from that many erase seeds, and stop");
  app.add_flag("--update_golden", f->update_golden, "write results/checks/golden (recomputes)");
}

std::vector<std::string> ArgumentsOfNumbers(int argc, const char* const* argv) {
  const std::vector<std::string> deciding = {
      "--experiment", "--profile",  "--methods", "--attacks",     "--concepts",
      "--metrics",    "--set",      "--limit",   "--device",      "--dtype",
      "--models",     "--protocol", "--images",  "--concepts_dir"};
  std::vector<std::string> kept;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (std::find(deciding.begin(), deciding.end(), word.substr(0, word.find('='))) ==
        deciding.end()) {
      continue;
    }
    const bool apart = word.find('=') == std::string::npos && i + 1 < argc;
    kept.push_back(apart ? word + "=" + argv[++i] : word);
  }
  return kept;
}

void RequireOneOf(const char* flag, const std::string& value,
                  const std::vector<std::string>& known) {
  if (IsOneOf(value, known)) return;
  throw UsageError(fmt::format("{}={}: unknown.{}", flag, value, DidYouMeanOrKnown(value, known)));
}

void RefuseEmptyValues(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool flag = StartsWith(word, "--") && word.find('=') + 1 == word.size();
    if (!word.empty() && !flag) continue;
    throw UsageError(
        fmt::format("{}: an empty value. Give one, or leave the flag out; a shell variable that is "
                    "not set leaves nothing behind.",
                    flag     ? word
                    : i == 1 ? "''"
                             : argv[i - 1]));
  }
}

void CheckFlags(const ShardChoice& part, Flags* flags) {
  Flags& f = *flags;
  RequireOneOf("--format", f.format, FormatNames());
  RequireOneOf("--stage", f.stage, StageNames());
  RequireOneOf("--check", f.check, {"", "golden", "reference", "published"});
  if (f.workers < 0) throw UsageError(fmt::format("--workers={}: 1 or more.", f.workers));
  if (f.model_memory < 0 || f.model_memory > int64_t{1} << 30) {
    throw UsageError(fmt::format("--model_memory={}: MiB, 0 or more.", f.model_memory));
  }
  if (f.update_reference != 0 && (f.update_reference < 2 || f.update_reference > 100)) {
    throw UsageError(fmt::format(
        "--update_reference={}: 2 to 100 erase seeds; one tells no spread.", f.update_reference));
  }
  if (!f.user_data.empty() && f.check != "published") {
    throw UsageError("--user_data is for --check=published.");
  }
  if (!f.results.empty() && f.check != "published") {
    throw UsageError("--results is for --check=published.");
  }
  if (!f.out.empty() && fs::path(f.out).extension() != ".json") {
    throw UsageError(fmt::format("--out={}: the name of a .json file is expected.", f.out));
  }
  if (!f.plot.empty() && fs::path(f.plot).extension() != ".svg") {
    throw UsageError(fmt::format(
        "--plot={}: the name of a .svg file is expected; other programs make other formats of it.",
        f.plot));
  }
  if (!f.reuse.empty() &&
      (!f.check.empty() || f.force || f.update_golden || f.update_reference != 0 ||
       !f.export_prompts.empty() || !f.export_models.empty())) {
    throw UsageError(
        "--reuse takes numbers from a file, and --check, --force, --update_golden, "
        "--update_reference, --export_prompts and --export_models compute all of them. Leave one "
        "of the two out.");
  }
  if (f.sensitive_texts && FoundFile(f).empty()) {
    throw UsageError("--sensitive_texts is for --export_prompts=found:FILE.");
  }
  RequireWholeRun(part, f);
  f.choices.methods = Names(f.methods, "--methods");
  f.choices.attacks = Names(f.attacks, "--attacks");
  f.choices.concepts = Names(f.concepts, "--concepts");
  f.choices.metrics = Names(f.metrics, "--metrics");
}

std::string FoundFile(const Flags& f) {
  constexpr std::string_view kFound = "found:";
  if (f.export_prompts.compare(0, kFound.size(), kFound) != 0) return "";
  const std::string file = f.export_prompts.substr(kFound.size());
  if (file.empty()) throw UsageError("--export_prompts=found:FILE needs the name of a file.");
  return file;
}

std::map<std::string, std::string> SelectionOf(const Flags& f, const std::string& backbone) {
  std::map<std::string, std::string> selection;
  const auto add = [&](const char* flag, const std::string& value, const std::string& standard) {
    if (value != standard) selection[flag] = value;
  };
  const Flags whole;
  add("--methods", f.methods, whole.methods);
  add("--attacks", f.attacks, whole.attacks);
  add("--concepts", f.concepts, whole.concepts);
  add("--metrics", f.metrics, whole.metrics);
  add("--set", fmt::format("{}", fmt::join(f.choices.settings, "\n")), "");
  add("--limit", std::to_string(f.choices.limit), std::to_string(whole.choices.limit));
  add("--device", f.device, whole.device);
  add("--dtype", f.dtype, whole.dtype);
  add("--protocol", f.choices.protocol.empty() ? "" : f.choices.protocol.at("protocol").dump(), "");
  add("--images", f.images.empty() ? "" : Absolute(f.images), "");
  add("--concepts_dir", f.concepts_dir.empty() ? "" : Absolute(f.concepts_dir), "");
  // A file of the user is known by what it says: one that was edited is another experiment.
  add("--experiment", f.experiment.empty() ? "" : Sha256HexOfFile(ExperimentFile(f)), "");
  if (OtherBackbone(f, backbone)) add("--models", Absolute(f.models), "");
  return selection;
}

std::string ResultsName(const Experiment& experiment,
                        const std::map<std::string, std::string>& selection) {
  std::string name = fmt::format("{}-{}", experiment.name, experiment.profile);
  std::string text;
  for (const auto& [flag, value] : selection) text += flag + "=" + value + "\n";
  if (!selection.empty()) name += "-" + Sha256Hex(text).substr(0, 8);
  return name + ".json";
}

void TakeProtocol(Flags* f) {
  if (f->protocol.empty()) {
    if (f->protocol_files.empty()) return;
    throw UsageError("--protocol_files is for --protocol.");
  }
  fs::path file = UserPath(f->protocol);
  if (fs::path(f->protocol).extension() != ".json") {
    const fs::path folder = DataFile("protocols/README.md").parent_path();
    const std::vector<std::string> known = ListProtocols(folder);
    if (!IsOneOf(f->protocol, known)) ThrowUnknownName("protocol", f->protocol, known);
    file = folder / (f->protocol + ".json");
  }
  f->choices.protocol = ProtocolSettings(
      LoadProtocol(file), f->protocol_files.empty() ? fs::path() : UserPath(f->protocol_files));
}

fs::path ExperimentFile(const Flags& f) {
  if (!f.experiment.empty()) return UserPath(f.experiment);
  if (f.bundled.empty()) {
    throw UsageError("No experiment. Name a JSON file: --experiment=experiments/table1.json.");
  }
  std::error_code ignored;
  if (fs::exists(f.bundled, ignored)) return f.bundled;
  if (fs::exists(UserPath(f.bundled), ignored)) return UserPath(f.bundled);
  return DataFile(f.bundled);
}

fs::path CacheFolder(const Flags& f) {
  if (!f.cache.empty()) return UserPath(f.cache);
  if (const fs::path own = UserCacheFolder(); !own.empty()) return own;
  throw UsageError("There is no HOME to keep the store in. Name a folder with --cache=DIR.");
}

fs::path ModelsFolder(const Flags& f, const std::string& backbone) {
  if (!f.models.empty()) return UserPath(f.models);
  try {
    return DataFile("models/" + backbone).parent_path();
  } catch (const Error&) {
    return "models";  // OpenLab says what is missing and what to do
  }
}

Folders FoldersOf(const Flags& f, const std::string& backbone) {
  Folders folders{ModelsFolder(f, backbone), DataFile("datasets/concepts")};
  if (!f.concepts_dir.empty()) folders.own_concepts = UserPath(f.concepts_dir);
  if (!f.images.empty()) folders.pictures = UserPath(f.images);
  return folders;
}

fs::path CommittedFile(const std::string& relative, bool write) {
  const std::string path = "results/" + relative;
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr) return fs::path(workspace) / path;
  return write ? fs::path(path) : DataFile(path);
}

}  // namespace excise
