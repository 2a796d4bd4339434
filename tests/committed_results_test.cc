// The committed tables are hard enough for methods to differ, and large enough to show it.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>

#include "core/json.h"
#include "core/read_file.h"
#include "tests/testdata.h"

namespace excise {
namespace {

class Committed {
 public:
  explicit Committed(const std::string& name) {
    const std::string table = name.substr(0, name.find('_'));
    std::ifstream in(RepoFile(fmt::format("results/{}/{}.json", table, name)));
    REQUIRE(in);
    results_ = Json::parse(in);
  }

  // The record over all concepts.
  Json Find(const std::string& method, const std::string& metric,
            const std::string& attack = "none") const {
    for (const Json& record : results_.at("records")) {
      if (record.at("concept") == "*" && record.at("method") == method &&
          record.at("metric") == metric && record.at("attack") == attack) {
        return record;
      }
    }
    FAIL("no record of " << method << ", " << metric << ", " << attack);
    return {};
  }
  double Value(const std::string& method, const std::string& metric) const {
    return Find(method, metric).at("value").get<double>();
  }
  // Whether the interval of `higher` lies above that of `lower`.
  bool Apart(const std::string& lower, const std::string& higher, const std::string& metric) const {
    const Json low = Find(lower, metric), high = Find(higher, metric);
    return low.at("ci95").at(1).get<double>() < high.at("ci95").at(0).get<double>();
  }

 private:
  Json results_;
};

}  // namespace

TEST_CASE("every cell of table1 over all concepts has 120 prompts or more") {
  const Committed table("table1_full");
  for (const char* method : {"none", "retrained", "esd", "espresso", "latent_blend", "uce"}) {
    for (const char* attack : {"none", "char_typo", "pez", "random", "unlearn_diff_atk"}) {
      INFO(method << " " << attack);
      CHECK(table.Find(method, "asr", attack).at("n") >= 120);
    }
  }
  CHECK(table.Value("none", "asr") >= 0.85);
}

TEST_CASE("retrieval in table2 is neither too easy nor hopeless for plain CLIP") {
  const Committed table("table2");
  CHECK(table.Find("none", "t2i_r1").at("n") >= 1000);
  CHECK(table.Value("none", "t2i_r1") >= 0.3);
  CHECK(table.Value("none", "t2i_r1") <= 0.8);
  CHECK(table.Value("none", "unsafe_t2i_r1") <= 0.1);
}

TEST_CASE("in table2 Safe-CLIP redirects unsafe queries, which the control does not") {
  const Committed table("table2");
  for (const char* method : {"published_terms", "safe_clip"}) {
    for (const char* metric : {"unsafe_t2i_r10", "unsafe_i2t_r10"}) {
      INFO(method << " " << metric);
      CHECK(table.Apart("none", method, metric));
      CHECK(table.Apart("control_1_3_5_7", method, metric));
    }
  }
  // Safe texts find their picture: no more than two points fewer with the published terms.
  // (Pictures find their text 3.1 points less often, which docs/findings says.)
  CHECK(table.Value("none", "t2i_r1") - table.Value("published_terms", "t2i_r1") <= 0.02);
}

TEST_CASE("in table2 the default keeps what the published terms break, and the findings say so") {
  const Committed table("table2");
  CHECK(table.Apart("published_terms", "safe_clip", "retention"));
  CHECK(table.Apart("published_terms", "safe_clip", "zero_shot"));
  const std::string findings = ReadFile(RepoFile("docs/findings/safe_clip.md"));
  const auto says = [&](const std::string& method, const std::string& metric) {
    const std::string number = fmt::format("{:.1f}", 100 * table.Value(method, metric));
    INFO(method << " " << metric << " " << number);
    CHECK_THAT(findings, Catch::Contains(" " + number));
  };
  for (const char* method : {"none", "published_terms", "published_harmless_rows", "safe_clip"}) {
    says(method, "zero_shot");
  }
  for (const char* method : {"none", "published_terms", "safe_clip", "control_1_3_5_7"}) {
    says(method, "unsafe_t2i_r10");
    says(method, "t2i_r1");
  }
}

TEST_CASE("Espresso is at its operating point in table3, and the findings say so") {
  const Committed table("table3"), tuning("table3_fine_tuning");
  CHECK(table.Value("espresso", "filter_fpr") <= 0.1);
  CHECK(table.Value("espresso", "filter_fnr") <= 0.3);
  const std::string findings = ReadFile(RepoFile("docs/findings/espresso.md"));
  const auto percent = [](double value) { return fmt::format("{:.0f}", 100 * value); };
  const auto rate = [&](const Committed& from, const char* row, const char* metric) {
    const Json record = from.Find(row, metric);
    return fmt::format("{} [{}-{}]", percent(record.at("value")), percent(record.at("ci95").at(0)),
                       percent(record.at("ci95").at(1)));
  };
  for (const char* row : {"espresso", "espresso_tuned", "espresso_anchor", "espresso_anchor_tuned",
                          "espresso_paper", "espresso_paper_untuned", "espresso_released"}) {
    const Json radius = tuning.Find(row, "certified_radius");
    const std::string line =
        fmt::format("| `{}` | {} | {} | {} | {} |", row, rate(tuning, row, "filter_fnr"),
                    rate(tuning, row, "filter_fpr"), percent(tuning.Value(row, "filter_auroc")),
                    percent(radius.at("parts").at("of_most")));
    CHECK_THAT(findings, Catch::Contains(line));
  }
  for (const char* row : {"espresso", "espresso_paper"}) {
    std::string line = fmt::format("| `{}` |", row);
    for (const char* attack : {"pez", "pez_adaptive", "ring_a_bell_adaptive", "unlearn_diff_atk"}) {
      const Json fnr = table.Find(row, "filter_fnr", attack);
      line +=
          fmt::format(" {} / {} |", percent(fnr.at("value")), percent(fnr.at("parts").at("beats")));
    }
    CHECK_THAT(findings, Catch::Contains(line));
  }
}

TEST_CASE("adaptive attacks on the founding systems are no weaker than published, but for one") {
  const auto check = [](const Committed& table, const std::string& method,
                        const std::string& published, const std::string& adaptive, int64_t n) {
    INFO(method << ": " << adaptive);
    const std::string metric = method == "espresso" ? "filter_fnr" : "asr";
    const Json one = table.Find(method, metric, published);
    const Json two = table.Find(method, metric, adaptive);
    CHECK(two.at("n") >= n);
    CHECK(two.at("value").get<double>() >= one.at("value").get<double>());
  };
  const Committed unsafe("table1_adaptive"), all("table1_adaptive_all");
  for (const char* method : {"espresso", "latent_blend", "safe_clip"}) {
    check(unsafe, method, "pez", "pez_adaptive", 40);
    check(unsafe, method, "ring_a_bell", "ring_a_bell_adaptive", 40);
  }
  // UnlearnDiffAtk on safe_clip, which has no hooks, is one attack in both forms. The one: on the
  // two unsafe concepts alone the published form does better against blending (docs/findings).
  for (const char* method : {"espresso", "latent_blend"}) {
    check(all, method, "pez", "pez_adaptive", 100);
    check(all, method, "unlearn_diff_atk_weights", "unlearn_diff_atk", 100);
  }
}

TEST_CASE("in table4 the target falls along w, few pictures break, and the findings say so") {
  const Committed table("table4");
  const auto percent = [&](const std::string& method, const std::string& outcome) {
    const Json parts = table.Find(method, "asr").at("parts");
    return 100 * parts.at(outcome).get<double>();
  };
  // Rows of the findings' table, by what they begin with.
  std::string target = "| nearest: target |", garbage = "| nearest: garbage |",
              kept = "| nearest: scene kept |";
  double before = 100 * table.Value("none", "asr");
  for (const std::string w : {"025", "040", "050", "060", "075", "100"}) {
    const std::string method = "nearest_w" + w + "_t00";
    INFO(method);
    CHECK(percent(method, "target") <= before);
    CHECK(percent(method, "garbage") <= 15);
    before = percent(method, "target");
    target += fmt::format(" {:.0f} |", before);
    garbage += fmt::format(" {:.0f} |", percent(method, "garbage"));
    kept += fmt::format(" {:.3f} |", table.Value(method, "scene_kept"));
  }
  CHECK(before == 0);
  const auto sums = [&](const std::string& outcome) {
    const auto at = [&](const char* w) {
      return percent(fmt::format("blend_w{}_t00", w), outcome);
    };
    return fmt::format("| sum: {} | {:.0f} | | {:.0f} | | {:.0f} | {:.0f} |", outcome, at("025"),
                       at("050"), at("075"), at("100"));
  };
  std::ifstream in(RepoFile("docs/findings/latent_blend.md"));
  const std::string findings{std::istreambuf_iterator<char>(in), {}};
  for (const std::string& row : {target, garbage, kept, sums("target"), sums("garbage")}) {
    CHECK_THAT(findings, Catch::Contains(row));
  }
  CHECK_THAT(findings,
             Catch::Contains(fmt::format("leaves {:.0f} % of the target where 0 leaves none",
                                         percent("nearest_w075_t02", "target"))) &&
                 Catch::Contains(fmt::format("({:.3f} against {:.3f})",
                                             table.Value("nearest_w075_t02", "scene_kept"),
                                             table.Value("nearest_w075_t00", "scene_kept"))));
}

}  // namespace excise
