#include "experiments/formats/experiment.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "datasets/formats/concept.h"
#include "experiments/check/committed.h"
#include "experiments/formats/picture_manifest.h"
#include "experiments/formats/results_file.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

const char kGood[] = R"({
  "name": "good", "concepts": ["poodle"], "reference_rows": ["none"],
  "methods": {"exclude": ["esd"], "params": {"uce": {"lambda": 0.5}}},
  "prompts": {"target": 5, "near": 3},
  "sampler": {"steps": 10},
  "profiles": {"small": {"sampler": {"steps": 2}, "golden": true}}
})";

Experiment Load(const std::string& text, const ExperimentChoices& choices = {}) {
  const std::filesystem::path file = TestFolder("experiment") / "given.json";
  std::ofstream(file) << text;
  return LoadExperiment(file, choices);
}

Experiment Set(const std::string& setting) {
  ExperimentChoices choices;
  choices.settings = {setting};
  return Load(kGood, choices);
}

// `kGood` with the text `from` replaced.
std::string Edited(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("an experiment is read with defaults, and a profile overrides single keys") {
  const Experiment plain = Load(kGood);
  CHECK(plain.name == "good");
  CHECK(plain.sampler.steps == 10);
  CHECK(plain.sampler.guidance == 3);
  CHECK(plain.prompts.far == 8);
  CHECK_FALSE(plain.golden);
  CHECK(plain.methods.exclude == std::vector<std::string>{"esd"});
  CHECK(plain.methods.params.at("uce") == Json{{"lambda", 0.5}});
  ExperimentChoices choices;
  choices.profile = "small";
  const Experiment small = Load(kGood, choices);
  CHECK(small.sampler.steps == 2);
  CHECK(small.prompts.target == 5);
  CHECK(small.golden);
  CHECK(ExperimentToJson(small).at("profile") == "small");
}

TEST_CASE("a section of quadruplets: defaults, flags, limit; without it nothing is said of it") {
  CHECK(Load(kGood).quadruplets.set.empty());
  CHECK_FALSE(ExperimentToJson(Load(kGood)).contains("quadruplets"));
  const std::string text =
      Edited("{", R"({"quadruplets": {"set": "emoji", "unseen": 90, "params": {"seed": 3}}, )");
  const Experiment e = Load(text);
  CHECK(e.quadruplets.set == "emoji");
  CHECK(e.quadruplets.part == "test");
  CHECK(e.quadruplets.pool == 1000);
  CHECK(e.quadruplets.unseen == 90);
  CHECK(e.quadruplet_params == Json{{"seed", 3}});
  // Paths of the user are no part of it: inputs say what was read.
  CHECK_FALSE(ExperimentToJson(e).at("quadruplets").contains("params"));
  ExperimentChoices choices;
  choices.settings = {"quadruplets.pool=50", "quadruplets.params.seed=4"};
  CHECK(Load(text, choices).quadruplets.pool == 50);
  CHECK(Load(text, choices).quadruplet_params == Json{{"seed", 4}});
  choices.limit = 7;
  CHECK(Load(text, choices).quadruplets.pool == 7);
  CHECK(Load(text, choices).quadruplets.unseen == 7);
  CHECK(Load(text, choices).quadruplets.zero_shot == 0);
  CHECK_THROWS_WITH(Load(Edited("{", R"({"quadruplets": {"pool": 5}, )")), Contains("'set'"));
  CHECK_THROWS_WITH(Load(Edited("{", R"({"quadruplets": {"set": "emoji", "parts": "test"}, )")),
                    Contains("Did you mean 'part'"));
  CHECK_THROWS_WITH(Load(Edited("{", R"({"quadruplets": {"set": "emoji", "part": "train"}, )")),
                    Contains("validation"));
}

TEST_CASE("concepts that are removed together: lists in the experiment's order, and only if any") {
  const auto removals = [](const std::string& lists, const ExperimentChoices& choices = {}) {
    const std::string concepts = R"("concepts": ["poodle", "sepia", "weapons", "smoking"])";
    return Load(Edited(R"("concepts": ["poodle"])", concepts + R"(, "removals": )" + lists),
                choices);
  };
  using Lists = std::vector<std::vector<std::string>>;
  CHECK(Load(kGood).removals.empty());
  CHECK_FALSE(ExperimentToJson(Load(kGood)).contains("removals"));
  const Experiment both = removals(R"([["smoking", "sepia"], ["weapons", "poodle"]])");
  CHECK(both.removals == Lists{{"poodle", "weapons"}, {"sepia", "smoking"}});
  CHECK(ExperimentToJson(both).at("removals") == Json(both.removals));
  // One alone is no list.
  CHECK(removals(R"([["weapons", "poodle"], ["sepia"]])").removals == Lists{{"poodle", "weapons"}});
  CHECK_FALSE(ExperimentToJson(removals("[]")).contains("removals"));
  CHECK(removals(R"([["smoking"]])").removals.empty());

  // Of what does not take part nothing is removed.
  const std::string three = R"([["weapons", "poodle", "smoking"]])";
  ExperimentChoices choices;
  choices.concepts = {"smoking", "poodle"};
  CHECK(removals(three, choices).removals == Lists{{"smoking", "poodle"}});
  choices.concepts = {"poodle", "sepia"};
  CHECK(removals(three, choices).removals.empty());
  choices.concepts = {"poodle", "weapons", "poodle"};
  CHECK(removals(three, choices).removals == Lists{{"poodle", "weapons"}});
}

TEST_CASE("mistakes in lists of concepts are usage errors that name the place") {
  const auto refuses = [](const std::string& lists, const std::string& message) {
    INFO(lists);
    const std::string text =
        Edited(R"("concepts": ["poodle"])",
               R"("concepts": ["poodle", "weapons", "sepia"], "removals": )" + lists);
    CHECK_THROWS_AS(Load(text), UsageError);
    CHECK_THROWS_WITH(Load(text), Contains(message));
  };
  refuses(R"([["poodle", "weapon"]])",
          "given.json/removals/0/1: 'weapon' is not among \"concepts\". Did you mean 'weapons'?");
  refuses(R"([["poodle", "smoking"]])", "Known: poodle, weapons, sepia.");
  refuses(R"([["poodle", "weapons"], ["sepia", "poodle"]])",
          "given.json/removals/1/1: 'poodle' stands at given.json/removals/0/0 already");
  refuses(R"([["poodle", "poodle"]])", "/removals/0/1: 'poodle' stands at");
  refuses(R"([["poodle", "weapons"], []])", "given.json/removals/1: names no concept");
  refuses(R"([["poodle", 3]])", "given.json/removals/0/1: expected the name of a concept");
  refuses(R"(["poodle", "weapons"])", "given.json/removals/0: expected lists of concepts");
  refuses(R"({"poodle": "weapons"})", "given.json/removals: expected lists of concepts");
  refuses("null", "given.json/removals: expected lists of concepts");
}

TEST_CASE("the floor of recovery is a reference row") {
  const auto with = [](const std::string& floor) {
    return Edited("\"reference_rows\": [\"none\"]",
                  "\"reference_rows\": [\"none\", \"mine\"], \"floor\": \"" + floor + "\"");
  };
  CHECK(ExperimentToJson(Load(with("mine"))).at("floor") == "mine");
  CHECK_FALSE(ExperimentToJson(Load(kGood)).contains("floor"));
  CHECK_THROWS_WITH(Load(with("mime")),
                    Contains("given.json/floor: 'mime'") && Contains("Did you mean 'mine'"));
}

TEST_CASE("flags change an experiment") {
  CHECK(Set("sampler.guidance=5").sampler.guidance == 5);
  CHECK(Set("methods.esd.lr=1e-4").methods.params.at("esd") == Json{{"lr", 1e-4}});
  CHECK(Set("prompts.dataset=mine").prompts.dataset == "mine");
  ExperimentChoices choices;
  choices.limit = 4;
  choices.methods = {"uce"};
  const Experiment limited = Load(kGood, choices);
  CHECK(limited.prompts.target == 4);
  CHECK(limited.prompts.near == 3);
  CHECK(limited.methods.only == std::vector<std::string>{"uce"});
  choices.limit = -1;
  CHECK_THROWS_WITH(Load(kGood, choices), Contains("--limit=-1"));
}

TEST_CASE("mistakes in an experiment are usage errors that name the place") {
  const auto refuses = [](const std::string& from, const std::string& to,
                          const std::string& message) {
    INFO(from << " -> " << to);
    CHECK_THROWS_AS(Load(Edited(from, to)), UsageError);
    CHECK_THROWS_WITH(Load(Edited(from, to)), Contains(message));
  };
  refuses("\"sampler\"", "\"samplr\"", "Did you mean 'sampler'?");
  refuses("\"steps\": 10", "\"step\": 10", "Did you mean 'steps'?");
  refuses("\"steps\": 10", "\"steps\": \"ten\"", "given.json/sampler");
  refuses("\"steps\": 10", "\"steps\": 0", "/steps");
  refuses("[\"poodle\"]", "[]", "names nothing to remove");
  refuses("[\"poodle\"]", "\"poodle\"", "expected a list of names");
  refuses("\"name\": \"good\"", "\"name\": \"../up\"", "letters, digits");
  refuses("\"name\": \"good\",", "", "letters, digits");
  refuses("\"exclude\"", "\"excluded\"", "Did you mean 'exclude'?");
  refuses("{\"uce\": {\"lambda\": 0.5}}", "3", "methods/params");
  refuses("\"target\": 5", "\"target\": 0", "/target");
  refuses("\"golden\": true", "\"name\": \"b\"", "profiles/small");
  refuses("{\"small\": {\"sampler\": {\"steps\": 2}, \"golden\": true}}", "[]", "/profiles");
  refuses("\"prompts\"", "\"surrogate\": \"victim\", \"prompts\"", "neither 'base'");
}

TEST_CASE("unknown profiles and settings are refused with a suggestion") {
  ExperimentChoices choices;
  choices.profile = "smal";
  CHECK_THROWS_WITH(Load(kGood, choices), Contains("Did you mean 'small'?"));
  CHECK_THROWS_WITH(Set("sampler.guidence=5"), Contains("Did you mean 'guidance'?"));
  CHECK_THROWS_WITH(Set("samplr.guidance=5"), Contains("Did you mean 'sampler'?"));
  CHECK_THROWS_WITH(Set("sampler.guidance"), Contains("path=value"));
  CHECK_THROWS_AS(Set("sampler.guidance=high"), UsageError);
  CHECK_THROWS_AS(Set("name.x=1"), UsageError);
}

TEST_CASE("the experiments of the repository can be read in every profile") {
  const std::filesystem::path file = RepoFile("experiments/table1.json");
  for (const char* profile : {"default", "smoke", "full", "all"}) {
    ExperimentChoices choices;
    choices.profile = profile;
    CHECK(LoadExperiment(file, choices).name == "table1");
  }
  // At least 120 paired prompts a cell.
  ExperimentChoices whole;
  whole.profile = "full";
  const Experiment table = LoadExperiment(file, whole);
  CHECK(static_cast<int64_t>(table.concepts.size()) * table.prompts.target >= 120);
}

TEST_CASE("what is committed was computed with the profiles as they are") {
  for (const char* profile : {"full", "adaptive", "adaptive_all"}) {
    INFO(profile);
    ExperimentChoices choices;
    choices.profile = profile;
    const Experiment e = LoadExperiment(RepoFile("experiments/table1.json"), choices);
    const Json committed = ReadResults(RepoFile("results/" + CommittedName("table1", profile)));
    CHECK(committed.at("experiment") == ExperimentToJson(e));
  }
}

TEST_CASE("an experiment may name its judge, with parameters") {
  CHECK(Load(kGood).judge.plugin.empty());
  CHECK_FALSE(ExperimentToJson(Load(kGood)).contains("judge"));
  const auto judged = [](const std::string& judge) {
    return Load(Edited("\"sampler\":", "\"judge\": " + judge + ", \"sampler\":"));
  };
  const Experiment e = judged(R"({"plugin": "x", "params": {"threshold": 0.5}})");
  CHECK(e.judge.plugin == "x");
  CHECK(e.judge.params == Json{{"threshold", 0.5}});
  // Written as it is read, so that results can be replayed.
  CHECK(ExperimentToJson(e).at("judge") == Json{{"plugin", "x"}, {"params", {{"threshold", 0.5}}}});
  ExperimentChoices choices;
  choices.settings = {"judge.plugin=y", "judge.params.threshold=0.25"};
  CHECK(Load(kGood, choices).judge.plugin == "y");
  CHECK(Load(kGood, choices).judge.params == Json{{"threshold", 0.25}});
  CHECK_THROWS_WITH(judged("{}"), Contains("/judge: 'plugin' is missing"));
  CHECK_THROWS_WITH(judged(R"({"plugin": 3})"), Contains("/judge/plugin: expected text"));
  CHECK_THROWS_WITH(judged(R"({"plugin": "x", "params": 3})"),
                    Contains("/judge/params: expected an object"));
  CHECK_THROWS_WITH(judged(R"({"plugin": "x", "params": {"a": {"b": 1}}})"),
                    Contains("/judge/params/a: expected a value"));
  CHECK(judged(R"({"plugin": "x", "params": {"m": [{"plugin": "y", "t": [1, 2]}]}})")
            .judge.params.at("m")[0]
            .at("plugin") == "y");
  CHECK_THROWS_WITH(judged(R"({"plugin": "x", "params": {"a": [{"b": {"c": 1}}]}})"),
                    Contains("/judge/params/a: expected a value"));
  CHECK_THROWS_WITH(judged(R"({"plugn": "x"})"), Contains("Did you mean 'plugin'"));
  CHECK_THROWS_WITH(judged("\"emoji\""), Contains("/judge: expected an object"));
}

TEST_CASE("overrides named default hold where no profile is asked for, and nowhere else") {
  const std::string text = Edited("\"profiles\": {", R"("profiles": {
      "default": {"sampler": {"steps": 3}}, "full": {}, )");
  CHECK(Load(text).sampler.steps == 3);
  CHECK(Load(text).profile == "default");
  ExperimentChoices choices;
  for (const char* profile : {"full", "small"}) {
    choices.profile = profile;
    const Json json = ExperimentToJson(Load(text, choices));
    CHECK(json.at("profile") == profile);
    CHECK(json.at("sampler").at("steps") == (choices.profile == "full" ? 10 : 2));
  }
  choices.profile = "smal";
  CHECK_THROWS_WITH(Load(text, choices), Contains("Known: default, full, small."));
}

TEST_CASE("a pipe as experiment, concept, manifest, results or rows is refused, not waited for") {
  const std::filesystem::path folder = TestFolder("pipes");
  for (const char* name : {"pipe.json", "manifest.json", "good.rows.jsonl"}) {
    REQUIRE(mkfifo((folder / name).c_str(), 0600) == 0);
  }
  CHECK_THROWS_WITH(LoadExperiment(folder / "pipe.json", {}), Contains("is a pipe"));
  CHECK_THROWS_WITH(LoadConcept(folder / "pipe.json"), Contains("is a pipe"));
  CHECK_THROWS_WITH(ReadPictureManifest(folder), Contains("a folder with manifest.json"));
  CHECK_THROWS_WITH(ReadResults(folder / "pipe.json"), Contains("is a pipe"));
  CHECK_THROWS_WITH(ReadResultRows(folder / "good.json"), Contains("is a pipe"));
}

TEST_CASE("erase seeds: a number, or a list of different ones") {
  const auto seeds = [](const std::string& erase) {
    return Load(Edited("{", R"({"seeds": {"attack": 5, "erase": )" + erase + "}, "));
  };
  using Seeds = std::vector<int64_t>;
  const Experiment one = seeds("7"), three = seeds("[7, 2, 30]");
  CHECK(one.seeds.erase == 7);
  CHECK(one.seeds.more_erase.empty());
  CHECK(three.seeds.erase == 7);
  CHECK(three.seeds.more_erase == Seeds{2, 30});
  CHECK(three.seeds.attack == 5);
  CHECK(ExperimentToJson(three).at("seeds").at("erase") == Json{7, 2, 30});
  // A list of one is the number.
  CHECK(ExperimentToJson(seeds("[7]")) == ExperimentToJson(one));
  CHECK(ExperimentToJson(one).at("seeds").at("erase") == 7);
  CHECK(Set("seeds.erase=[1,2]").seeds.more_erase == Seeds{2});
  CHECK_THROWS_WITH(seeds("[]"), Contains("/seeds/erase") && Contains("no seed"));
  CHECK_THROWS_WITH(seeds("[1, 1]"), Contains("1 is there twice"));
  CHECK_THROWS_WITH(seeds("[1, -1]"), Contains("-1 is no seed"));
  CHECK_THROWS_WITH(seeds("[1, 1.5]"), Contains("1.5 is no seed"));
  CHECK_THROWS_WITH(seeds("[1, \"2\"]"), Contains("is no seed"));
  CHECK_THROWS_WITH(seeds("[1, 9223372036854775808]"), Contains("is no seed"));
  CHECK_THROWS_AS(seeds("-1"), UsageError);
}

}  // namespace excise
