#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "judges/judge.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("the judge emoji is read from the backbone's folder, its oracle if it is there") {
  const std::unique_ptr<Judge> judge = TinyJudge(/*oracle=*/true);
  CHECK(NamesOfKind(judge->traits().scores, "class") == std::vector<std::string>{"poodle", "dog"});
  CHECK(NamesOfKind(judge->traits().scores, "style") ==
        std::vector<std::string>{"plain", "sepia", "line"});
  CHECK(judge->traits().rejects);
  CHECK_FALSE(judge->traits().threshold.has_value());
  CHECK(judge->oracle_digest() != judge->digest());
  CHECK(AskOracle(*judge, ToUint8(TinyImages(2, 8)), TinyConcept()).size() == 2);
  CHECK_THROWS_WITH(TinyJudge(/*oracle=*/false)->oracle_digest(), Catch::Contains("judges/oracle"));
}

TEST_CASE("a backbone without judges can be scored by another judge, and the error says so") {
  JudgeSource source;
  source.backbone = TestFolder("no_judges");
  CHECK_THROWS_WITH(Registry<Judge>::Get().Make("emoji")->Open(source),
                    Catch::Contains("judges/reporting: is not there") &&
                        Catch::Contains("--set judge.plugin=NAME"));
}

}  // namespace excise
