// The contract of a data set, run on each one alone.
#include <fstream>
#include <set>

#include "core/csv.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "tests/contract_common.h"
#include "tests/testdata.h"

namespace excise {

namespace {

// A data set that takes the user's prompts gets four in each split of every concept.
std::unique_ptr<Dataset> Smoke(const std::vector<std::string>& concepts) {
  const std::filesystem::path file = TestFolder("dataset_files") / "prompts.csv";
  std::ofstream out(file);
  out << CsvLine({"concept", "split", "prompt"});
  for (const std::string& name : concepts) {
    for (const Split split : {Split::kErase, Split::kAttackSeed, Split::kSelect, Split::kTest}) {
      for (const char* word : {"one", "two", "three", "four"}) {
        out << CsvLine({name, SplitName(split), name + " " + SplitName(split) + " " + word});
      }
    }
  }
  out.close();
  return MakeForSmoke<Dataset>({{"file", file.string()}});
}

}  // namespace

TEST_CASE("parameters") { CheckParams<Dataset>(); }

TEST_CASE("card") { CheckCard<Dataset>(); }

// For every concept: prompts are deterministic, a prefix under a smaller limit, named once, and no
// text stands in two splits of a group.
TEST_CASE("splits are disjoint and deterministic") {
  const std::filesystem::path folder = RepoFile("datasets/concepts");
  const std::vector<std::string> concepts = ListConcepts(folder);
  const std::unique_ptr<Dataset> set = Smoke(concepts);
  REQUIRE_FALSE(concepts.empty());
  for (const std::string& name : concepts) {
    const Concept subject = LoadConcept(folder / (name + ".json"));
    std::set<std::string> texts, ids;
    for (const Split split : {Split::kErase, Split::kAttackSeed, Split::kSelect, Split::kTest}) {
      INFO(name << " " << SplitName(split));
      const std::vector<Prompt> prompts = set->Prompts(subject, "target", split, 8).prompts;
      const std::vector<Prompt> again = set->Prompts(subject, "target", split, 8).prompts;
      const std::vector<Prompt> fewer = set->Prompts(subject, "target", split, 3).prompts;
      REQUIRE_FALSE(prompts.empty());
      REQUIRE(prompts.size() <= 8);
      REQUIRE(again.size() == prompts.size());
      REQUIRE(fewer.size() == std::min<size_t>(3, prompts.size()));
      for (size_t i = 0; i < prompts.size(); ++i) {
        CHECK(prompts[i].id == again[i].id);
        CHECK(prompts[i].text == again[i].text);
        if (i < fewer.size()) CHECK(prompts[i].id == fewer[i].id);
        CHECK(prompts[i].root_id == prompts[i].id);
        CHECK_FALSE(prompts[i].text.empty());
        CHECK(texts.insert(prompts[i].text).second);
        CHECK(ids.insert(prompts[i].id).second);
      }
    }
  }
}

// A data set that is asked for other things before gives the same prompts.
TEST_CASE("prompts do not depend on what was asked before") {
  const std::filesystem::path folder = RepoFile("datasets/concepts");
  const std::vector<std::string> names = ListConcepts(folder);
  const auto texts = [&](const Dataset& set, const std::string& name, const std::string& group) {
    std::string all;
    const Concept subject = LoadConcept(folder / (name + ".json"));
    for (const Prompt& prompt : set.Prompts(subject, group, Split::kTest, 6).prompts) {
      all += prompt.id + " " + prompt.text + "\n";
    }
    return all;
  };
  const std::unique_ptr<Dataset> asked = Smoke(names), fresh = Smoke(names);
  std::string forwards, backwards;
  for (const std::string& name : names) {
    for (const char* group : {"target", "near", "far"}) forwards += texts(*asked, name, group);
  }
  for (const std::string& name : names) {
    for (const char* group : {"far", "near", "target"}) texts(*fresh, name, group);
  }
  for (const std::string& name : names) {
    for (const char* group : {"target", "near", "far"}) backwards += texts(*fresh, name, group);
  }
  CHECK_FALSE(forwards.empty());
  CHECK(forwards == backwards);
}

}  // namespace excise
