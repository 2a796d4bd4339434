#include "experiments/listing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "core/card.h"
#include "core/error.h"
#include "core/params.h"
#include "core/registry.h"
#include "core/text.h"
#include "datasets/formats/dataset.h"
#include "experiments/formats/experiment.h"
#include "experiments/tables/text_layout.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "metrics/metric.h"

namespace excise {
namespace {

// Text whose lines all begin with `indent` spaces.
std::string Indented(const std::string& text, size_t indent, size_t width) {
  std::string out;
  for (const std::string& line : Lines(Wrapped(text, width > indent + 20 ? width - indent : 20))) {
    out += std::string(indent, ' ') + line + "\n";
  }
  return out;
}

// As a shell takes it for one word.
std::string Quoted(const std::string& word) {
  const bool plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return isalnum(c) ||
           std::string_view("_-+=.,:/@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

// The default as --set takes it; a text that would be read as another value is a JSON string.
std::string SettingValue(const Json& value) {
  if (!value.is_string()) return value.dump();
  const std::string text = value;
  return Json::accept(text) ? value.dump() : text;
}

// "--set SECTION.FIELD=DEFAULT" and what it means, for each.
std::string Settings(Parameterised& source, const std::string& section, size_t width) {
  const Json values = EncodeParams(source),
             without_files = EncodeParams(source, PathForm::kLeftOut);
  std::string text;
  for (const std::string& line : Lines(DescribeParams(source))) {  // "name (about): help"
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const bool file = !without_files.contains(name);
    text += "    --set " + section + "." + name + "=" +
            (file ? "PATH" : Quoted(SettingValue(values.at(name)))) + "\n";
    text += Indented(line.substr(space + 1), 8, width);
  }
  return text;
}

struct Listed {
  std::string kind, name, what, details;
};

template <class Base, class About>
void Add(const std::string& section, size_t width, const About& about, std::vector<Listed>* all) {
  const std::string kind = Base::kKind;
  for (const std::string& name : Registry<Base>::Get().Names()) {
    const std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
    const Card* card = FindCard(kind, name);
    std::string text =
        fmt::format("\n{} {} (version {}){}\n", kind, name, plugin->version(), about(*plugin));
    if (card != nullptr) {
      text += Indented("what: " + card->what, 4, width) +
              Indented("paper: " + card->paper, 4, width) +
              Indented("caveats: " + card->caveats, 4, width);
    }
    text += Settings(*plugin, section.empty() ? kind + "s." + name : section, width);
    all->push_back({kind, name, card == nullptr ? "" : card->what, std::move(text)});
  }
}

std::vector<Listed> Plugins(size_t width) {
  std::vector<Listed> all;
  Add<Method>(
      "", width,
      [](const Method& method) {
        const std::vector<std::string> uses = method.traits().uses;
        return uses.empty() ? "" : fmt::format(", uses {}", fmt::join(uses, ", "));
      },
      &all);
  Add<Attack>(
      "", width,
      [](const Attack& attack) {
        const AttackTraits traits = attack.traits();
        return fmt::format(", {}", !traits.ForEachMethod()              ? "transfer"
                                   : traits.gradients || traits.weights ? "white box"
                                                                        : "black box");
      },
      &all);
  Add<Metric>(
      "", width,
      [](const Metric& metric) {
        const MetricTraits traits = metric.traits();
        return fmt::format(", {}, {}, {} is better", traits.group, traits.unit,
                           traits.higher_is_better ? "higher" : "lower");
      },
      &all);
  Add<Judge>(
      "judge.params", width,
      [](const Judge&) { return ", named by concepts, or by --set judge.plugin=NAME"; }, &all);
  Add<Dataset>(
      "prompts.params", width,
      [](const Dataset&) { return ", chosen by --set prompts.dataset=NAME"; }, &all);
  return all;
}

std::string ExperimentSettings(size_t width) {
  PromptCounts prompts;
  SamplerSettings sampler;
  Seeds seeds;
  QuadrupletSettings quadruplets;
  quadruplets.set = "emoji";  // without a set there are none, and nothing else can be set
  return "\nof an experiment; its file and profile have other defaults\n" +
         Settings(prompts, "prompts", width) + Settings(sampler, "sampler", width) +
         Settings(seeds, "seeds", width) + Settings(quadruplets, "quadruplets", width);
}

std::string Overview(const std::vector<Listed>& plugins, size_t width) {
  size_t longest = 0;
  for (const Listed& one : plugins) longest = std::max(longest, one.name.size());
  std::string text, kind;
  for (const Listed& one : plugins) {
    if (one.kind != kind) text += fmt::format("{}{}s\n", kind.empty() ? "" : "\n", one.kind);
    kind = one.kind;
    std::string line = fmt::format("  {:<{}}  {}", one.name, longest, one.what);
    if (TextWidth(line) > width) {
      line = std::string(FirstCharacters(line, width - 3)) + "...";
    }
    text += line + "\n";
  }
  return text + "\n" +
         Wrapped(
             "Cards and settings: --list=NAME, --list=methods (attacks, metrics, judges, "
             "datasets), "
             "--list=settings.",
             width);
}

}  // namespace

std::string List(const std::string& what, size_t width) {
  const std::vector<Listed> plugins = Plugins(width);
  if (what == "all") return Overview(plugins, width);
  std::string text = what == "settings" ? ExperimentSettings(width) : "";
  std::vector<std::string> known = {"methods", "attacks",  "metrics",
                                    "judges",  "datasets", "settings"};
  for (const Listed& one : plugins) {
    if (what == one.kind + "s" || what == one.name) text += one.details;
    known.push_back(one.name);
  }
  if (!text.empty()) return text.substr(1);
  throw UsageError(fmt::format(
      "--list={}: no such plug-in.{} --list alone names all; --list=methods (attacks, metrics, "
      "judges, datasets, settings) tells of one kind.",
      what, DidYouMean(what, known)));
}

}  // namespace excise
