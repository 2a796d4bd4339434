#include "experiments/formats/protocol.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/data_file.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "experiments/formats/experiment.h"
#include "judges/judge.h"
#include "metrics/metric.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

fs::path Bundled() { return DataFile("protocols/README.md").parent_path(); }

fs::path Written(const std::string& name, const Json& json) {
  const fs::path file = TestFolder("protocol_" + name) / (name + ".json");
  std::ofstream(file) << json.dump();
  return file;
}

Json Good() {
  return {{"title", "Two prompts"},
          {"paper", "none"},
          {"source", "none"},
          {"deviations", {"everything"}},
          {"files",
           {{{"setting", "prompts.params.file"},
             {"name", "two.csv"},
             {"what", "somewhere, two.csv"},
             {"sha256", Sha256Hex("prompt,seed\na,1\nb,2\n")}}}},
          {"experiment",
           {{"prompts", {{"dataset", "prompts_csv"}, {"target", 2}}},
            {"metrics", {{"only", {"asr"}}, {"exclude", Json::array()}}},
            {"sampler", {{"steps", 7}, {"noise", "torch_cpu"}}}}}};
}

Experiment Following(const Json& protocol, const ExperimentChoices& more = {}) {
  ExperimentChoices choices = more;
  choices.protocol = protocol;
  return LoadExperiment(DataFile("experiments/table1.json"), choices);
}

}  // namespace

TEST_CASE(
    "every protocol is an experiment whose plug-ins, concepts and files are as they should be") {
  const std::vector<std::string> names = ListProtocols(Bundled());
  REQUIRE(names.size() >= 9);
  for (const std::string& name : names) {
    INFO(name);
    const Protocol protocol = LoadProtocol(Bundled() / (name + ".json"));
    CHECK(protocol.name == name);
    CHECK_FALSE(protocol.deviations.empty());
    const fs::path folder = TestFolder("protocol_files");
    Json settings = protocol.experiment;
    bool list = false;
    for (const ProtocolFile& file : protocol.files) {
      CHECK_FALSE(file.what.empty());
      list = list || (file.setting == "prompts.params.file" && file.sha256.size() == 64);
      std::ofstream(folder / file.name) << "prompt\n";
      std::string place = "/" + file.setting;
      std::replace(place.begin(), place.end(), '.', '/');
      settings[Json::json_pointer(place)] = (folder / file.name).string();
    }
    CHECK(list);
    const Experiment e = Following(settings);
    for (const std::string& subject : e.concepts) {
      const Concept known = LoadConcept(DataFile("datasets/concepts/real/" + subject + ".json"));
      CHECK(known.name == subject);
    }
    DecodeParams(e.judge.params, *Registry<Judge>::Get().Make(e.judge.plugin), name);
    DecodeParams(e.dataset_params, *Registry<Dataset>::Get().Make(e.prompts.dataset), name);
    for (const std::string& metric : e.metrics.only)
      CHECK(Registry<Metric>::Get().Contains(metric));
    // The list's digest stands where it is checked, and where it is asked for.
    CHECK(e.dataset_params.at("sha256") == protocol.files[0].sha256);
    CHECK(e.dataset_params.at("rows").get<int64_t>() >= e.prompts.target);
  }
}

TEST_CASE("a protocol's settings stand over the profile's, and what is changed is told") {
  const fs::path file = Written("two", Good());
  std::ofstream(file.parent_path() / "two.csv") << "prompt,seed\na,1\nb,2\n";
  const Json settings = ProtocolSettings(LoadProtocol(file), file.parent_path());
  const Experiment e = Following(settings);
  CHECK(e.sampler.steps == 7);
  CHECK(e.sampler.noise == "torch_cpu");
  CHECK(e.dataset_params.at("file") == (file.parent_path() / "two.csv").string());
  CHECK(e.protocol.at("name") == "two");
  CHECK(e.protocol.at("sha256") == Sha256HexOfFile(file));
  CHECK_THAT(e.caveat, Contains("Protocol two: Two prompts.") && Contains("everything"));
  CHECK_FALSE(e.protocol.contains("changed"));
  CHECK(ExperimentToJson(e).at("protocol") == e.protocol);
  CHECK(ExperimentToJson(e).at("sampler").at("noise") == "torch_cpu");

  ExperimentChoices choices;
  choices.settings = {"sampler.steps=8", "sampler.guidance=9", "seeds.noise=4"};
  choices.limit = 1;
  const Experiment other = Following(settings, choices);
  CHECK(other.protocol.at("changed") == Json({"--limit", "sampler.guidance", "sampler.steps"}));
  CHECK_THAT(other.caveat, Contains("another protocol: --limit, sampler.guidance, sampler.steps."));
  // Written as it is read, so that results can be replayed.
  CHECK(MakeExperiment(ExperimentToJson(Following(settings))
                           .patch(Json::parse(R"([{"op": "remove", "path": "/profile"}])")),
                       "again", {})
            .protocol == e.protocol);
  // Who follows none has nothing new in keys or results.
  const Json none = ExperimentToJson(Following(Json::object()));
  CHECK_FALSE(none.contains("protocol"));
  CHECK_FALSE(none.at("sampler").contains("noise"));
  CHECK_FALSE(none.at("sampler").contains("own_guidance"));
}

TEST_CASE("what the user lacks is listed, file by file, with the digest") {
  Json two = Good();
  two["files"].push_back(
      {{"setting", "judge.params.weights"}, {"name", "net.safetensors"}, {"what", "a network"}});
  const fs::path file = Written("lacking", two);
  const Protocol protocol = LoadProtocol(file);
  const fs::path folder = TestFolder("protocol_lacking_files");
  const std::string sha = protocol.files[0].sha256;
  CHECK_THROWS_WITH(ProtocolSettings(protocol, folder),
                    Contains("two.csv: is not there: somewhere, two.csv. SHA-256 " + sha) &&
                        Contains("net.safetensors: is not there: a network"));
  std::ofstream(folder / "two.csv") << "prompt,seed\na,1\nb,3\n";
  std::ofstream(folder / "net.safetensors") << "any";
  CHECK_THROWS_WITH(ProtocolSettings(protocol, folder), Contains("two.csv: is another file") &&
                                                            Contains(sha) &&
                                                            !Contains("net.safetensors"));
  CHECK_THROWS_WITH(ProtocolSettings(protocol, {}), Contains("--protocol_files"));
}

TEST_CASE("a protocol's file with mistakes is refused, naming the place") {
  const auto refused = [](const char* pointer, const Json& value, const std::string& word) {
    Json json = Good();
    json[Json::json_pointer(pointer)] = value;
    INFO(json.dump());
    CHECK_THROWS_WITH(LoadProtocol(Written("wrong", json)), Contains(word));
  };
  refused("/titel", "x", "Did you mean 'title'");
  refused("/title", 3, "/title: expected text");
  refused("/deviations", "x", "/deviations: expected a list");
  refused("/deviations/0", 3, "/deviations: expected texts");
  refused("/files/0/name", "../two.csv", "/files/0/name");
  refused("/files/0/name", "", "/files/0/name");
  refused("/files/0/sha256", "abc", "no SHA-256");
  refused("/files/0/sha", "abc", "unknown key 'sha'");
  refused("/experiment", 3, "/experiment: expected an object");
  refused("/experiment/name", "x", "/experiment");
  const fs::path junk = TestFolder("protocol_junk") / "junk.json";
  std::ofstream(junk) << "{";
  CHECK_THROWS_WITH(LoadProtocol(junk), Contains("junk.json"));
}

}  // namespace excise
