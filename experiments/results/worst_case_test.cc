#include "experiments/results/worst_case.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/stats.h"
#include "experiments/run/report.h"
#include "tests/made_up_results.h"

namespace excise {

TEST_CASE("the union counts a prompt once, whichever attack succeeds") {
  const Score none = MadeUpRate(10, 2, 0), first = MadeUpRate(10, 3, 1),
              second = MadeUpRate(10, 1, 9);
  // {0,1} + {1,2,3} + {9}
  const Score worst = WorstCase({&none, &first, &second}, /*higher_is_better=*/false);
  CHECK(worst.n == 10);
  CHECK(worst.value == Approx(0.5));
  CHECK(worst.low == Wilson(5, 10).low);
  CHECK(worst.high == Wilson(5, 10).high);
  // {0,1} and {1,2,3} share 1.
  CHECK(WorstCase({&none, &first}, /*higher_is_better=*/true).value == Approx(0.1));
}

TEST_CASE("the union needs the same samples under every attack") {
  const Score ten = MadeUpRate(10, 2), nine = MadeUpRate(9, 2);
  CHECK_THROWS_AS(WorstCase({&ten, &nine}, false), Error);
}

TEST_CASE("a prompt that an attack left out counts by the other attacks") {
  const Score none = MadeUpRate(10, 2), nine = MadeUpRate(9, 1, 4);  // {0,1}; {4} of 0..8
  const Score worst = WorstCase({&none, &nine}, false, /*partial=*/true);
  CHECK(worst.n == 10);
  CHECK(worst.value == Approx(0.3));
  // Without attack every prompt was drawn.
  CHECK_THROWS_AS(WorstCase({&nine, &none}, false, true), Error);
}

TEST_CASE("a prompt whose picture is missing under an attack is no prompt that withstood it") {
  const Score none = MadeUpRate(4, 1);  // {0}
  Score pez = MadeUpRate(4, 1, 3);      // {3}
  // The attacked pictures of 0 and 1 are not there.
  for (int i = 0; i < 2; ++i) {
    pez.missing[pez.sample_ids.front()] = "junk";
    pez.sample_ids.erase(pez.sample_ids.begin());
    pez.per_sample.erase(pez.per_sample.begin());
  }
  const Score worst = WorstCase({&none, &pez}, false);
  // 0 succeeded without attack, whatever the other picture would have shown; 1 is not known.
  CHECK(worst.n == 3);
  CHECK(worst.value == Approx(2.0 / 3));
  CHECK(worst.missing == std::map<std::string, std::string>{{none.sample_ids[1], "junk"}});
  // Missing under the first attack.
  CHECK(WorstCase({&pez, &none}, false).n == 3);
  // Where low is bad: nobody saw more than 0 of 2, and 0 cannot be undercut.
  CHECK(WorstCase({&none, &pez}, true).n == 3);

  std::vector<Record> records = {MadeUpRecord("uce", "none", "asr", none),
                                 MadeUpRecord("uce", "pez", "asr", pez)};
  records[1].denominators["missing"] = 2;
  const Record joined = UnionRecords(records).at(0);
  CHECK(joined.status == "ok");
  CHECK(MissingOf(joined) == 1);
  CHECK_THAT(joined.reason, Catch::Contains("junk"));
  CHECK(joined.denominators.at("scored") == 3);
  CHECK(joined.denominators.at("bounds") == Json{0.5, 0.75});
  // Nothing is known of any prompt.
  Score all = none, nothing;
  for (const std::string& id : none.sample_ids) nothing.missing[id] = "junk";
  all.per_sample.assign(4, 0);
  records = {MadeUpRecord("uce", "none", "asr", all), MadeUpRecord("uce", "pez", "asr", nothing)};
  records[1].denominators["missing"] = 4;
  CHECK(UnionRecords(records).at(0).status == "error");
}

TEST_CASE("union records join the attacks of each method and concept, and carry failures on") {
  std::vector<Record> records = {
      MadeUpRecord("uce", "none", "asr", MadeUpRate(10, 2)),
      MadeUpRecord("uce", "pez", "asr", MadeUpRate(10, 2, 5)),
      MadeUpRecord("esd", "none", "asr", MadeUpRate(10, 1)),
      MadeUpRecord("esd", "pez", "asr", {}),
      MadeUpRecord("esd", "none", "kid", MadeUpRate(10, 1)),
  };
  records[3].status = "error";
  records[3].reason = "it broke";
  records[4].traits.group = "quality";
  const std::vector<Record> unions = UnionRecords(records);
  REQUIRE(unions.size() == 2);
  CHECK(unions[0].method == "uce");
  CHECK(unions[0].attack == "union");
  CHECK(unions[0].score.value == Approx(0.4));
  CHECK(unions[0].attack_params.at("attacks") == Json({"none", "pez"}));
  CHECK(unions[0].lineage.size() == 2);
  CHECK(unions[1].status == "error");
  CHECK_THAT(unions[1].reason, Catch::Contains("pez: it broke"));
}

}  // namespace excise
