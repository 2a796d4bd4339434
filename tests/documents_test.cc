// What documents say of the programs, held to the programs: the READMEs' lists are the cards, every
// command is one that its program takes, every parameter is one that a plug-in has. Nothing is
// computed.
#include "tests/documents.h"

#include <CLI/CLI.hpp>
#include <catch2/catch.hpp>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/card.h"
#include "core/error.h"
#include "core/params.h"
#include "core/registry.h"
#include "core/text.h"
#include "datasets/formats/dataset.h"
#include "datasets/quadruplets/quadruplets.h"
#include "experiments/flags.h"
#include "experiments/formats/experiment.h"
#include "experiments/lab/selection.h"
#include "experiments/listing.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "metrics/metric.h"
#include "tests/source_tree.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Names = std::set<std::string>;

std::string Guide(const std::string& name) {
  for (const DocumentFile& document : ReadGuides()) {
    if (document.name == name) return document.text;
  }
  return "";
}

Names FieldsOf(Parameterised& source) {
  const Json values = EncodeParams(source);
  Names fields;
  for (const auto& [name, value] : values.items()) fields.insert(name);
  return fields;
}

// What may be set of the plug-in `name`; empty: there is none.
template <class Base>
Names FieldsOfPlugin(const std::string& name) {
  if (!Registry<Base>::Get().Contains(name)) return {};
  Names fields = FieldsOf(*Registry<Base>::Get().Make(name));
  fields.insert({"plugin", "preset"});
  return fields;
}

template <class Base>
Names FieldsOfKind() {
  Names all;
  for (const std::string& name : Registry<Base>::Get().Names()) {
    all.merge(FieldsOf(*Registry<Base>::Get().Make(name)));
  }
  return all;
}

// The fields of a section that --set takes: "methods.NAME", "sampler", "prompts.params", ...
Names FieldsOfSection(const std::string& section, const std::string& plugin) {
  if (section == "methods") return FieldsOfPlugin<Method>(plugin);
  if (section == "attacks") {
    Names fields = FieldsOfPlugin<Attack>(plugin);
    fields.insert("found_on");  // the experiment's own, of any attack
    return fields;
  }
  if (section == "metrics") return FieldsOfPlugin<Metric>(plugin);
  if (section == "judge") return {"plugin", "params"};
  if (section == "judge.params") return FieldsOfKind<Judge>();
  if (section == "prompts.params") return FieldsOfKind<Dataset>();
  if (section == "quadruplets.params") return FieldsOfKind<QuadrupletSet>();
  PromptCounts prompts;
  SamplerSettings sampler;
  Seeds seeds;
  QuadrupletSettings quadruplets;
  if (section == "prompts") return FieldsOf(prompts);
  if (section == "sampler") return FieldsOf(sampler);
  if (section == "seeds") return FieldsOf(seeds);
  return FieldsOf(quadruplets);
}

// Of the plug-ins of a room alone, where the document is the room's own; else of all.
Names FieldsFor(const std::string& document) {
  const std::string room = document.substr(0, document.find('/'));
  if (room == "methods") return FieldsOfKind<Method>();
  if (room == "attacks") return FieldsOfKind<Attack>();
  if (room == "judges") return FieldsOfKind<Judge>();
  if (room == "metrics") return FieldsOfKind<Metric>();
  Names all = FieldsOfKind<Dataset>();
  if (room == "datasets") return all;
  all.merge(FieldsOfKind<Method>());
  all.merge(FieldsOfKind<Attack>());
  all.merge(FieldsOfKind<Judge>());
  all.merge(FieldsOfKind<Metric>());
  for (const char* section : {"prompts", "sampler", "seeds", "quadruplets"}) {
    all.merge(FieldsOfSection(section, ""));
  }
  return all;
}

// The parameters of the plug-ins that a table's command names, as a run would read them; files of
// the user, which are not here, left out.
template <class Base>
void CheckSelection(const Selection& selection) {
  for (const std::string& name :
       ChosenNames(selection, Base::kKind, {}, Registry<Base>::Get().Names())) {
    const Chosen chosen = Resolve(selection, Base::kKind, name);
    const std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(chosen.plugin);
    Json params = WithPreset(PresetsOf(*plugin), selection, chosen, Base::kKind);
    const Json without_files = EncodeParams(*plugin, PathForm::kLeftOut);
    for (const std::string& field : FieldsOf(*plugin)) {
      if (!without_files.contains(field)) params.erase(field);
    }
    DecodeParams(params, *plugin, Base::kKind + (" '" + name + "'"));
  }
}

void CheckTableCommand(const std::filesystem::path& table,
                       const std::vector<std::string>& arguments) {
  const std::string file = table.string();
  std::vector<const char*> argv = {"table", file.c_str()};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  const int argc = static_cast<int>(argv.size());
  Flags flags;
  CLI::App app;
  AddFlags(app, &flags);
  app.parse(argc, argv.data());
  RefuseEmptyValues(argc, argv.data());
  if (!flags.list.empty()) List(flags.list, /*width=*/100);
  CheckFlags(ChooseShard(flags.shard), &flags);
  const Experiment experiment = LoadExperiment(table, flags.choices);
  CheckSelection<Method>(experiment.methods);
  CheckSelection<Attack>(experiment.attacks);
  CheckSelection<Metric>(experiment.metrics);
  CHECK(Registry<Dataset>::Get().Contains(experiment.prompts.dataset));
  if (experiment.judge.plugin.empty()) return;
  DecodeParams(experiment.judge.params, *Registry<Judge>::Get().Make(experiment.judge.plugin),
               "judge");
}

// Whether a program of the repository, or Bazel, takes the flag.
bool IsFlag(const std::string& flag) {
  static const std::vector<SourceFile> sources = ReadSourceTree();
  if (flag == "--config" || flag == "--jobs") return true;
  for (const SourceFile& source : sources) {
    const bool program = !EndsWith(source.name, "_test.cc");
    if (program && source.text.find('"' + flag + '"') != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("the rooms' lists of methods and attacks are the cards' first lines") {
  const std::regex item("- `\\w+`: .*");
  for (const char* kind : {"method", "attack"}) {
    std::string expected, found;
    for (const std::string& name : CardNames(kind)) {
      expected += "- `" + name + "`: " + FindCard(kind, name)->what + "\n";
    }
    const std::string list = Guide(std::string(kind) + "s/README.md");
    for (const std::string& line : Lines(list.substr(list.find("\n## The ")))) {
      if (std::regex_match(line, item)) found += line + "\n";
    }
    INFO("Copy these lines into " << kind << "s/README.md:\n" << expected);
    CHECK(found == expected);
  }
}

TEST_CASE("the README names every plug-in") {
  const std::string readme = Guide("README.md");
  const auto named = [&](const std::string& start) {
    const size_t at = readme.find("\n" + start + " (");
    REQUIRE(at != std::string::npos);
    return CodeSpans(readme.substr(at, readme.find("\n\n", at) - at));
  };
  CHECK(named("Methods") == CardNames("method"));
  CHECK(named("Attacks") == CardNames("attack"));
  std::vector<std::string> rest = CardNames("metric");
  for (const char* kind : {"dataset", "judge"}) {
    for (const std::string& name : CardNames(kind)) rest.push_back(name);
  }
  CHECK(named("Metrics") == rest);
}

TEST_CASE("every table's command in a document is one that the program takes") {
  size_t commands = 0;
  for (const DocumentFile& guide : ReadGuides()) {
    for (const BazelRun& run : BazelRuns(guide.text)) {
      const std::string name = run.label.substr(run.label.find(':') + 1);
      const std::string table = "experiments/" + name + ".json";
      std::string text = run.label;
      for (const std::string& argument : run.arguments) text += " " + argument;
      INFO(guide.name << ": " << text);
      if (StartsWith(run.label, "//experiments:table")) {
        CHECK_NOTHROW(CheckTableCommand(RepoFile(table), run.arguments));
        ++commands;
      }
      for (const std::string& argument : run.arguments) {
        if (StartsWith(argument, "--")) CHECK(IsFlag(argument.substr(0, argument.find('='))));
      }
    }
  }
  CHECK(commands >= 20);
}

TEST_CASE("the check of commands sees what is wrong") {
  const auto table = RepoFile("experiments/table1.json");
  CHECK_NOTHROW(CheckTableCommand(table, {"--methods=uce", "--set", "methods.uce.lambda=0.5"}));
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {"--method=uce"},
           {"--methods=ucee"},
           {"--set", "methods.uce.lamda=0.5"},
           {"--set", "methods.uce.lambda=much"},
           {"--set", "sampler.guidence=5"},
           {"--set", "judge.plugin=emojy"},
           {"--set", "judge.plugin=emoji", "--set", "judge.params.threshold=0.5"},
           {"--profile=no_such"},
           {"--list=no_such"},
           {"--check=no_such"}}) {
    CHECK_THROWS(CheckTableCommand(table, wrong));
  }
}

TEST_CASE("flags that documents name are some program's") {
  for (const DocumentFile& guide : ReadGuides()) {
    for (const std::string& span : CodeSpans(guide.text)) {
      if (!StartsWith(span, "--")) continue;
      INFO(guide.name << ": " << span);
      CHECK(IsFlag(span.substr(0, span.find_first_of("= *"))));
    }
  }
}

TEST_CASE("parameters that documents set are the registry's") {
  const std::regex setting(
      "\\b(methods|attacks|metrics|sampler|seeds|prompts\\.params|prompts|quadruplets\\.params|"
      "quadruplets|judge\\.params|judge)\\.(?:(\\w+)\\.)?(\\w+)=");
  size_t settings = 0;
  for (const DocumentFile& guide : ReadGuides()) {
    for (std::sregex_iterator it(guide.text.begin(), guide.text.end(), setting), end; it != end;
         ++it) {
      const std::string section = (*it)[1], field = (*it)[3];
      std::string plugin = (*it)[2];
      // A row of the reader's own says in the same document which plug-in it is.
      std::smatch own;
      const std::regex says(section + "\\." + plugin + "\\.plugin=(\\w+)");
      if (!plugin.empty() && std::regex_search(guide.text, own, says)) plugin = own[1];
      INFO(guide.name << ": " << it->str());
      CHECK(FieldsOfSection(section, plugin).count(field) == 1);
      ++settings;
    }
  }
  CHECK(settings >= 10);
}

TEST_CASE("parameters that documents show with a value are the registry's") {
  // `variant: paper`, `lambda = 0`, `"tokens": "all"`.
  const std::regex shown("\"?([a-z]\\w*)\"?(: | = )\\S.*");
  size_t parameters = 0;
  for (const DocumentFile& guide : ReadGuides()) {
    const Names fields = FieldsFor(guide.name);
    for (const std::string& span : CodeSpans(guide.text)) {
      std::smatch match;
      if (!std::regex_match(span, match, shown)) continue;
      INFO(guide.name << ": " << span);
      CHECK(fields.count(match[1]) == 1);
      ++parameters;
    }
  }
  CHECK(parameters >= 5);
}

}  // namespace excise
