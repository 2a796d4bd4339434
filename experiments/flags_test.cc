#include "experiments/flags.h"

#include <catch2/catch.hpp>
#include <functional>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
using Change = std::function<void(Flags*)>;

// What torchrun's variables come to.
ShardChoice Launched() {
  ShardChoice part;
  part.shard = {1, 4};
  part.origin = "torchrun (RANK=1, WORLD_SIZE=4)";
  part.variables = {"RANK", "WORLD_SIZE"};
  return part;
}

void Check(const ShardChoice& part, const Change& change) {
  Flags flags;
  change(&flags);
  CheckFlags(part, &flags);
}

}  // namespace

TEST_CASE("a part of a table is never checked, written, drawn or committed") {
  const std::pair<const char*, Change> needing[] = {
      {"--check", [](Flags* f) { f->check = "golden"; }},
      {"--out", [](Flags* f) { f->out = "t.json"; }},
      {"--plot", [](Flags* f) { f->plot = "t.svg"; }},
      {"--update_golden", [](Flags* f) { f->update_golden = true; }},
      {"--update_reference", [](Flags* f) { f->update_reference = 3; }},
      {"--export_prompts", [](Flags* f) { f->export_prompts = "p.csv"; }},
      {"--export_models", [](Flags* f) { f->export_models = "models"; }}};
  for (const auto& [flag, change] : needing) {
    CAPTURE(flag);
    CHECK_NOTHROW(Check(ChooseShard("0/1"), change));
    CHECK_THROWS_AS(Check(Launched(), change), UsageError);
    CHECK_THROWS_WITH(Check(Launched(), change),
                      Contains(flag) && Contains("RANK=1, WORLD_SIZE=4") &&
                          Contains("`unset RANK WORLD_SIZE`") && Contains("--shard=0/1"));
    CHECK_THROWS_WITH(Check(ChooseShard("1/4"), change),
                      Contains(flag) && Contains("needs a whole run"));
    const auto erase_alone = [&, change = change](Flags* f) {
      change(f);
      f->stage = "erase";
    };
    CHECK_THROWS_WITH(Check(ChooseShard("0/1"), erase_alone), Contains("needs a whole run"));
  }
  CHECK_NOTHROW(Check(Launched(), [](Flags*) {}));
  for (const char* other : {"front.png", "front", "svg"}) {
    CHECK_THROWS_WITH(Check(ChooseShard("0/1"), [&](Flags* f) { f->plot = other; }),
                      Contains(other) && Contains("a .svg file is expected"));
  }
}

TEST_CASE("a plan is no verdict") {
  for (const Change& looks :
       {Change([](Flags* f) { f->dry_run = true; }), Change([](Flags* f) { f->explain = true; })}) {
    const auto with = [&](const Change& asks) {
      return [&looks, asks](Flags* f) {
        looks(f);
        asks(f);
      };
    };
    const ShardChoice whole = ChooseShard("0/1");
    CHECK_THROWS_AS(Check(whole, with([](Flags* f) { f->check = "golden"; })), UsageError);
    CHECK_THROWS_AS(Check(whole, with([](Flags* f) { f->update_golden = true; })), UsageError);
    CHECK_THROWS_AS(Check(whole, with([](Flags* f) { f->update_reference = 3; })), UsageError);
    CHECK_NOTHROW(Check(whole, with([](Flags* f) { f->out = "t.json"; })));
  }
}

TEST_CASE("a flag whose value is empty is refused") {
  const auto words = [](const std::vector<const char*>& some) {
    std::vector<const char*> all = {"table"};
    all.insert(all.end(), some.begin(), some.end());
    RefuseEmptyValues(static_cast<int>(all.size()), all.data());
  };
  CHECK_THROWS_AS(words({"--cache="}), UsageError);
  CHECK_THROWS_WITH(words({"--limit=3", "--cache", ""}), Contains("--cache: an empty value"));
  CHECK_THROWS_AS(words({"--check="}), UsageError);
  CHECK_THROWS_AS(words({""}), UsageError);
  CHECK_NOTHROW(words({"--check", "--cache=a", "--set", "methods.mine.folder=", "--set=a.b="}));
}

TEST_CASE("a selection's results have a name of their own") {
  Experiment experiment;
  experiment.name = "table1";
  const auto name = [&](const Change& change) {
    Flags flags;
    change(&flags);
    return ResultsName(experiment, SelectionOf(flags, "emoji"));
  };
  CHECK(name([](Flags*) {}) == "table1-default.json");
  // Neither of these makes other numbers.
  CHECK(name([](Flags* f) {
          f->workers = 7;
          f->format = "tex";
          f->cache = "elsewhere";
          f->force = true;
        }) == "table1-default.json");
  CHECK(name([](Flags* f) {
          f->models =
              RepoFile("models/emoji/model_index.json").parent_path().parent_path().string();
        }) == "table1-default.json");

  const std::filesystem::path folder = TestFolder("selections");
  const std::string first = folder / "first.json", second = folder / "second.json";
  WriteFileAtomically(first, "{}");
  WriteFileAtomically(second, "{\"name\": \"table1\"}");
  const Change selections[] = {[](Flags* f) { f->methods = "uce"; },
                               [](Flags* f) { f->methods = "uce,esd"; },
                               [](Flags* f) { f->attacks = "uce"; },
                               [](Flags* f) { f->concepts = "poodle"; },
                               [](Flags* f) { f->metrics = "asr"; },
                               [](Flags* f) { f->choices.limit = 1; },
                               [](Flags* f) { f->choices.limit = 2; },
                               [](Flags* f) { f->choices.settings = {"a=1"}; },
                               [](Flags* f) {
                                 f->choices.settings = {"a=1", "b=2"};
                               },
                               [](Flags* f) { f->device = "cuda"; },
                               [](Flags* f) { f->dtype = "bf16"; },
                               [](Flags* f) { f->images = "drawn"; },
                               [](Flags* f) { f->concepts_dir = "drawn"; },
                               [](Flags* f) { f->models = "/other/models"; },
                               [&](Flags* f) { f->experiment = first; },
                               [&](Flags* f) { f->experiment = second; }};
  std::set<std::string> names = {"table1-default.json"};
  for (const Change& selection : selections) {
    const std::string own = name(selection);
    CAPTURE(own);
    CHECK(names.insert(own).second);
    CHECK(own == name(selection));
    CHECK(own.size() == std::string("table1-default-1a2b3c4d.json").size());
  }
}

TEST_CASE("--protocol names one that comes along, or a file, and asks for its files") {
  const auto taken = [](const std::string& protocol, const std::string& files) {
    Flags flags;
    flags.protocol = protocol;
    flags.protocol_files = files;
    TakeProtocol(&flags);
    return flags;
  };
  CHECK(taken("", "").choices.protocol.empty());
  CHECK_THROWS_WITH(taken("uda_chuch_50", "x"), Catch::Contains("Did you mean 'uda_church_50'"));
  CHECK_THROWS_WITH(taken("", "x"), Catch::Contains("--protocol_files is for --protocol"));
  CHECK_THROWS_WITH(taken("uda_church_50", "/nowhere"),
                    Catch::Contains("church.csv: is not there") &&
                        Catch::Contains("4987e201148cfa3b") &&
                        Catch::Contains("resnet50.safetensors"));
  CHECK_THROWS_WITH(taken("/nowhere/mine.json", "x"), Catch::Contains("mine.json"));
}

}  // namespace excise
