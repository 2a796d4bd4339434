// Holds a judge to pictures whose classes are known, before its word is taken for a table's.
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/data_file.h"
#include "core/error.h"
#include "core/files.h"
#include "core/plural.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/stats.h"
#include "core/text.h"
#include "experiments/flags.h"
#include "judges/judge.h"
#include "models/pictures/picture_file.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string judge = "imagenet", pictures, names;
  std::vector<std::string> settings;
  std::optional<double> published;
  int64_t limit = 0;
};

// "threshold=0.2" of each -> {"threshold": 0.2}
Json ParamsFrom(const std::vector<std::string>& settings) {
  Json params = Json::object();
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(fmt::format("--set {}: expected NAME=VALUE.", setting));
    }
    const std::string text = setting.substr(equals + 1);
    const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    params[setting.substr(0, equals)] = value.is_discarded() ? Json(text) : value;
  }
  return params;
}

std::unique_ptr<Judge> Opened(const Options& options) {
  std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make(options.judge);
  DecodeParams(ParamsFrom(options.settings), *judge, "judge " + options.judge);
  if (const std::string missing = MissingSetting(*judge); !missing.empty()) {
    throw UsageError(fmt::format("The judge '{}' cannot be used: {}. Set it with --set NAME=VALUE.",
                                 options.judge, missing));
  }
  JudgeSource source;
  source.backbone = DataFile("models/emoji/model_index.json").parent_path();
  judge->Open(source);
  return judge;
}

// Folder -> class. By --names, line i of which begins with the folder of the i-th class.
std::map<std::string, std::string> ClassesOfFolders(const Options& options,
                                                    const std::vector<std::string>& classes) {
  std::map<std::string, std::string> known;
  if (options.names.empty()) {
    for (const std::string& name : classes) known[name] = name;
    return known;
  }
  constexpr uint64_t kMostBytes = 1 << 24;
  std::vector<std::string> folders;
  for (const std::string& line : Lines(ReadFile(UserPath(options.names), kMostBytes))) {
    if (!Trimmed(line).empty()) folders.push_back(line.substr(0, line.find_first_of(" \t\r")));
  }
  if (folders.size() != classes.size()) {
    throw UsageError(fmt::format("--names={}: {} lines, but the judge '{}' has {} classes.",
                                 options.names, folders.size(), options.judge, classes.size()));
  }
  for (size_t i = 0; i < folders.size(); ++i) known[folders[i]] = classes[i];
  return known;
}

// (picture, class), in the order of names. Throws UsageError for a folder that is no class.
std::vector<std::pair<fs::path, std::string>> PicturesIn(const Options& options,
                                                         const Judge& judge) {
  const std::vector<std::string> classes = NamesOfKind(judge.traits().scores, "class");
  const std::map<std::string, std::string> known = ClassesOfFolders(options, classes);
  const fs::path root = UserPath(options.pictures);
  std::error_code code;
  if (!fs::is_directory(root, code)) {
    throw UsageError(fmt::format("--pictures={}: there is no such folder.", options.pictures));
  }
  std::vector<std::pair<fs::path, std::string>> pictures;
  for (const auto& folder : fs::directory_iterator(root)) {
    if (!folder.is_directory(code)) continue;
    const std::string name = folder.path().filename().string();
    const auto found = known.find(name);
    if (found == known.end()) {
      throw UsageError(
          fmt::format("{}: '{}' is no class of the judge '{}'.{} Folders are named as its classes, "
                      "or by --names.",
                      root.string(), name, options.judge, DidYouMean(name, classes)));
    }
    std::vector<fs::path> files = PictureFiles(folder);
    if (options.limit > 0 && static_cast<int64_t>(files.size()) > options.limit) {
      files.resize(static_cast<size_t>(options.limit));
    }
    for (const fs::path& file : files) pictures.emplace_back(file, found->second);
  }
  std::sort(pictures.begin(), pictures.end());
  if (pictures.empty()) {
    throw UsageError(fmt::format(
        "--pictures={}: no picture (.png, .jpg) in folders named as classes.", options.pictures));
  }
  return pictures;
}

struct Tally {
  int64_t right = 0, none = 0, n = 0;
  std::map<std::pair<std::string, std::string>, int64_t> mistaken;  // (class, said)
  std::vector<std::string> unread;
};

Tally Asked(const Judge& judge, const std::vector<std::pair<fs::path, std::string>>& pictures) {
  const NoGrad no_grad;
  Tally tally;
  Progress progress("judge", static_cast<int64_t>(pictures.size()), "pictures");
  for (const auto& [file, class_id] : pictures) {
    if (InterruptRequested()) throw Interrupted{};
    progress.Advance();
    at::Tensor picture;
    try {
      picture = ReadPicture(file);
    } catch (const Error& error) {
      tally.unread.push_back(error.what());
      continue;
    }
    const std::string said = judge.Report(picture.unsqueeze(0)).verdicts.at(0).class_id;
    ++tally.n;
    tally.right += said == class_id ? 1 : 0;
    tally.none += said.empty() ? 1 : 0;
    if (said != class_id) ++tally.mistaken[{class_id, said}];
  }
  return tally;
}

std::string Percent(double rate) { return fmt::format("{:.1f} %", 100 * rate); }

std::string Told(const Options& options, const Tally& tally) {
  const auto n = static_cast<double>(tally.n);
  const Interval interval = Wilson(tally.right, tally.n);
  std::string text = fmt::format(
      "judge {}: {} named rightly, {} of {} [{} to {}, 95 %]; none of its classes: {}\n",
      options.judge, Percent(static_cast<double>(tally.right) / n), tally.right,
      Plural(tally.n, "picture"), Percent(interval.low), Percent(interval.high),
      Percent(static_cast<double>(tally.none) / n));
  if (options.published) {
    const double published = *options.published / 100;
    const bool inside = interval.low <= published && published <= interval.high;
    text += fmt::format("published: {}, {} that interval\n", Percent(published),
                        inside ? "inside" : "outside");
  }
  std::vector<std::pair<int64_t, std::string>> worst;
  for (const auto& [pair, count] : tally.mistaken) {
    worst.emplace_back(
        -count, fmt::format("{} for {}", pair.second.empty() ? "none" : pair.second, pair.first));
  }
  std::sort(worst.begin(), worst.end());
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(worst.size(), kShown); ++i) {
    text += fmt::format("{:>6}  {}\n", -worst[i].first, worst[i].second);
  }
  if (!tally.unread.empty()) {
    text += fmt::format(
        "{} not read and counted nowhere, as: {}\n",
        Plural(static_cast<int64_t>(tally.unread.size()), "picture was", "pictures were"),
        tally.unread.front());
  }
  return text;
}

void Run(const Options& options) {
  if (options.published && (*options.published < 0 || *options.published > 100)) {
    throw UsageError("--published: a percentage, 0 to 100.");
  }
  const std::unique_ptr<Judge> judge = Opened(options);
  const auto pictures = PicturesIn(options, *judge);
  const Tally tally = Asked(*judge, pictures);
  if (tally.n == 0) {
    throw Error(fmt::format("None of {} could be read, as: {}",
                            Plural(static_cast<int64_t>(pictures.size()), "picture"),
                            tally.unread.front()));
  }
  PrintOut(Told(options, tally));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::InstallInterruptHandlers();
  CLI::App app(
      "Asks a judge about pictures whose classes are known: how many it names rightly, and what it "
      "takes for what. Folders are named as the judge's classes.");
  excise::Options options;
  app.add_option("--judge", options.judge, "which judge")->capture_default_str();
  app.add_option("--set", options.settings, "a parameter of the judge, NAME=VALUE (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--pictures", options.pictures, "a folder of folders of PNG or JPEG files")
      ->required();
  app.add_option("--names", options.names,
                 "a file whose i-th line begins with the folder of the judge's i-th class, as "
                 "ImageNet's LOC_synset_mapping.txt");
  app.add_option("--published", options.published, "a published percentage, to print beside it");
  app.add_option("--limit", options.limit, "at most that many pictures a class; 0: all")
      ->check(CLI::NonNegativeNumber);
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Run(options);
  });
}
