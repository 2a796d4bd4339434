#include "experiments/run/forecast.h"

#include <catch2/catch.hpp>

#include "tests/tiny_lab.h"

namespace excise {
namespace {

// Calls, rows and pass of the only entry of `work` that is of `pass`.
Passes Only(const Work& work, Pass pass) {
  Passes found;
  int count = 0;
  for (const Passes& one : work) {
    if (one.pass != pass) continue;
    found = one;
    ++count;
  }
  REQUIRE(count == 1);
  return found;
}

}  // namespace

TEST_CASE("a call's time is linear in its rows") {
  PassTimes times;
  times.rows = 8;
  times.times[Pass::kUNet] = {0.010, 0.045};  // 5 ms a row
  times.times[Pass::kText] = {0.010, 0.003};  // a measurement gone wrong
  CHECK(times.Call(Pass::kUNet, 1) == Approx(0.010));
  CHECK(times.Call(Pass::kUNet, 3) == Approx(0.020));
  CHECK(times.Call(Pass::kUNet, 8) == Approx(0.045));
  CHECK(times.Call(Pass::kUNet, 16) == Approx(0.085));
  CHECK(times.Call(Pass::kText, 100) == Approx(0.001));  // never negative
  CHECK(times.Call(Pass::kVision, 8) == 0);              // nobody needs it
  CHECK(times.Seconds({{Pass::kUNet, 10, 8}, {Pass::kText, 2, 1}}) == Approx(0.47));
  CHECK(times.Seconds({}) == 0);
}

TEST_CASE("pictures are text, steps of the U-Net and a decoded latent, in padded batches") {
  SamplerSettings sampler;
  sampler.steps = 8;
  sampler.unit_size = 4;
  const Work ten = DrawingWork(sampler, 2, 10, 4);
  CHECK(Only(ten, Pass::kUNet).calls == 24);  // 3 batches of 8 steps
  CHECK(Only(ten, Pass::kUNet).rows == 8);    // with and without the prompt
  CHECK(Only(ten, Pass::kDecoder).calls == 3);
  CHECK(Only(ten, Pass::kText).rows == 4);
  CHECK(Only(DrawingWork(sampler, 3, 4, 4), Pass::kUNet).rows == 12);

  const Work twenty = InModelPasses(sampler, {{Pass::kPicture, 1, 20}, {Pass::kJudge, 1, 2}});
  CHECK(Only(twenty, Pass::kUNet).calls == 40);
  CHECK(Only(twenty, Pass::kUNet).rows == 8);
  CHECK(Only(twenty, Pass::kJudge).rows == 2);
  // An attack's own: one at a time.
  const Work three = InModelPasses(sampler, {{Pass::kPicture, 3, 1}});
  CHECK(Only(three, Pass::kUNet).calls == 24);
  CHECK(Only(three, Pass::kUNet).rows == 2);
}

TEST_CASE("a stage takes its share of the work, and no less than its longest unit") {
  CHECK(WallSeconds({}, 2) == 0);
  CHECK(WallSeconds({2, 2, 2}, 2) == 3);
  CHECK(WallSeconds({3, 1, 1}, 2) == 3);
  CHECK(WallSeconds({3, 1, 1}, 1) == 5);
}

TEST_CASE("times are said in words") {
  CHECK(InWords(0.2) == "1 s");
  CHECK(InWords(59.4) == "59 s");
  CHECK(InWords(59.6) == "1 min");
  CHECK(InWords(112) == "1 min 52 s");
  CHECK(InWords(7500) == "2 h 5 min");
  CHECK_THAT(CostLine(75), Catch::Matches("took 1 min 15 s; peak memory [1-9][0-9]* MiB"));
}

TEST_CASE("what is left is told in the proportion in which the stages so far came out") {
  Forecast forecast({{"erase", 10}, {"attack", 30}, {"generate", 20}});
  CHECK(forecast.Total() == 60);
  CHECK(forecast.After("rows", 1).empty());  // not estimated
  // Twice as long as estimated, so the other 50 s will be 100.
  CHECK(forecast.After("erase", 20) == "erase took 20 s (estimated: 10 s); about 1 min 40 s left");
  // 50 s for 40: the last 20 will be 25.
  CHECK(forecast.After("attack", 30) == "attack took 30 s (estimated: 30 s); about 25 s left");
  CHECK(forecast.After("generate", 20).empty());
  CHECK(forecast.Total() == 0);

  Forecast short_first({{"erase", 0.2}, {"attack", 30}});
  CHECK(short_first.After("erase", 4).empty());
  CHECK(Forecast().After("erase", 4).empty());
}

TEST_CASE("every pass can be measured, by several workers at once") {
  const std::unique_ptr<Lab> lab = TinyLab();
  const std::set<Pass> passes = {Pass::kUNet,         Pass::kUNetGradient, Pass::kText,
                                 Pass::kTextGradient, Pass::kVision,       Pass::kDecoder};
  const PassTimes times = MeasurePasses(*lab, passes, 2, 0);
  CHECK(times.times.size() == passes.size());
  for (const auto& [pass, time] : times.times) {
    INFO(static_cast<int>(pass));
    CHECK(time.one > 0);
    CHECK(time.many > 0);
  }
}

}  // namespace excise
