// The contract of a data set, run on each one alone.
#include <set>

#include "datasets/concept.h"
#include "datasets/dataset.h"
#include "tests/contract_common.h"
#include "tests/testdata.h"

namespace excise {

TEST_CASE("parameters") { CheckParams<Dataset>(); }

TEST_CASE("card") { CheckCard<Dataset>(); }

// For every concept: prompts are deterministic, a prefix under a smaller limit, named once, and no
// text stands in two splits of a group.
TEST_CASE("splits are disjoint and deterministic") {
  const std::unique_ptr<Dataset> set = Registry<Dataset>::Get().Make(TheOnlyPlugin<Dataset>());
  const std::filesystem::path folder = RepoFile("datasets/concepts");
  const std::vector<std::string> concepts = ListConcepts(folder);
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

}  // namespace excise
