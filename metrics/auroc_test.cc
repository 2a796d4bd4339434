#include "metrics/auroc.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/json.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::vector<Scored> Pictures(const std::vector<double>& positives,
                             const std::vector<double>& negatives) {
  std::vector<Scored> pictures;
  for (const double score : positives) {
    pictures.push_back({"p" + std::to_string(pictures.size()) + "#0", score, true});
  }
  for (const double score : negatives) {
    pictures.push_back({"n" + std::to_string(pictures.size()) + "#0", score, false});
  }
  return pictures;
}

}  // namespace

TEST_CASE("auroc: by hand") {
  // Pairs won: 3 > 2, 3 > 1, 2 = 2 (half), 2 > 1: 3.5 of 4.
  const std::vector<Scored> pictures = Pictures({3, 2}, {2, 1});
  const Auroc auroc = ComputeAuroc(pictures);
  CHECK(auroc.value == 0.875);
  CHECK(auroc.positives == 2);
  CHECK(auroc.negatives == 2);
  // Placements of positives: 1, 0.75; of negatives: 0.75, 1. Variances 1/32 each, over 2.
  CHECK(auroc.standard_error == Approx(std::sqrt(1.0 / 32)));
  // Their deviations from 0.875, times (2 + 2) / 2, around 0.875.
  CHECK(auroc.pseudo_values == std::vector<double>{1.125, 0.625, 0.625, 1.125});

  CHECK(ComputeAuroc(Pictures({1, 1, 1}, {1, 1})).value == 0.5);
  CHECK(ComputeAuroc(Pictures({1}, {2, 3})).value == 0);
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(ComputeAuroc(Pictures({infinity, 0}, {-infinity, 0})).value == 0.875);

  const Auroc one_class = ComputeAuroc(Pictures({1, 2}, {}));
  CHECK(std::isnan(one_class.value));
  CHECK(one_class.ci.low == 0);
  CHECK(one_class.ci.high == 1);
  CHECK(AurocScore(Pictures({1, 2}, {})).n == 0);
  CHECK(AurocScore(Pictures({1, 2}, {})).parts.at("positives") == 2);
  CHECK(AurocScore({}).n == 0);
  CHECK_THROWS_WITH(ComputeAuroc(Pictures({std::nan("")}, {1})), Catch::Contains("p0#0"));
}

TEST_CASE("auroc: DeLong, Obuchowski and Newcombe as scipy has them") {
  const Json cases = ReadJsonFile(RepoFile("tests/fixtures/auroc.json"));
  REQUIRE(cases.size() == 4);
  for (const Json& one : cases) {
    INFO(one.at("name").get<std::string>());
    std::vector<Scored> pictures;
    for (size_t i = 0; i < one.at("scores").size(); ++i) {
      pictures.push_back({one.at("clusters")[i].get<std::string>() + "#" + std::to_string(i),
                          one.at("scores")[i].get<double>(), one.at("labels")[i].get<bool>()});
    }
    const Auroc auroc = ComputeAuroc(pictures);
    CHECK(auroc.value == Approx(one.at("area").get<double>()).margin(1e-12));
    CHECK(auroc.standard_error == Approx(one.at("error").get<double>()).margin(1e-12));
    CHECK(auroc.ci.low == Approx(one.at("low").get<double>()).margin(1e-7));
    CHECK(auroc.ci.high == Approx(one.at("high").get<double>()).margin(1e-7));
    // What a metric reports: the mean of its per-sample values is the area.
    const Score score = AurocScore(pictures);
    double mean = 0;
    for (const double value : score.per_sample) mean += value / static_cast<double>(score.n);
    CHECK(mean == Approx(auroc.value).margin(1e-12));
    CHECK(score.low <= score.value);
    CHECK(score.value <= score.high);
  }
}

TEST_CASE("auroc: the curve and what it finds at few false alarms") {
  const std::vector<Scored> pictures = Pictures({5, 4, 2}, {4, 1, 1, 0});
  const std::vector<RocPoint> curve = RocCurve(pictures);
  REQUIRE(curve.size() == 6);
  CHECK(curve.front().true_positive_rate == 0);
  CHECK(curve[1].true_positive_rate == Approx(1.0 / 3));  // above 4
  CHECK(curve[1].threshold == 4);
  CHECK(curve[1].false_positive_rate == 0);
  CHECK(curve[3].true_positive_rate == 1);  // above 1
  CHECK(curve[3].false_positive_rate == 0.25);
  CHECK(curve.back().false_positive_rate == 1);
  double area = 0;
  for (size_t i = 1; i < curve.size(); ++i) {
    area += (curve[i].false_positive_rate - curve[i - 1].false_positive_rate) *
            (curve[i].true_positive_rate + curve[i - 1].true_positive_rate) / 2;
  }
  CHECK(area == Approx(ComputeAuroc(pictures).value));
  const Score score = AurocScore(pictures);
  CHECK(score.parts.at("tpr_at_fpr_20") == Approx(1.0 / 3));
}

}  // namespace excise
