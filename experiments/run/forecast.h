// How long a run takes here: what its missing work computes, in passes of the models, and what a
// pass takes on this machine.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "experiments/lab/lab.h"
#include "models/nets/work.h"

namespace excise {

// Seconds of a call of one row, and of one of `rows` rows.
struct PassTime {
  double one = 0, many = 0;
};

struct PassTimes {
  int64_t rows = 4;
  std::map<Pass, PassTime> times;
  // Of one call: linear in the rows, and never less than a tenth of a row's. 0 for a pass that was
  // not measured.
  double Call(Pass pass, double call_rows) const;
  double Seconds(const Work& work) const;
};

// Pictures by the experiment's sampler in batches of `batch`, in passes of the models.
Work DrawingWork(const SamplerSettings& sampler, double streams, double pictures, double batch);
// The same work without Pass::kPicture.
Work InModelPasses(const SamplerSettings& sampler, const Work& work);

// Measured on the lab's models by all workers at once, as a run computes, for about `seconds`
// seconds where single calls are short. 0: two calls of one row each, of which the faster counts.
PassTimes MeasurePasses(const Lab& lab, std::set<Pass> passes, int workers, double seconds);

// Wall time of a stage: its units, given as seconds on one worker, are handed out to `workers`.
double WallSeconds(const std::vector<double>& units, int workers);

// "45 s", "4 min 10 s", "2 h 5 min".
std::string InWords(double seconds);

// What was estimated of a run's stages, corrected by those that are over.
class Forecast {
 public:
  Forecast() = default;
  // Stages in the order in which they run, with wall seconds.
  explicit Forecast(std::vector<std::pair<std::string, double>> stages)
      : stages_(std::move(stages)) {}
  double Total() const;
  // A stage is over. What is left to say: how long it took and how long the others will, in the
  // proportion in which those that are over came out. "" where nothing much was estimated, or is
  // left.
  std::string After(const std::string& stage, double seconds);

 private:
  std::vector<std::pair<std::string, double>> stages_;  // not over yet
  double estimated_ = 0, taken_ = 0;                    // of those that are over
};

// "took 1 min 52 s; peak memory 640 MiB", of this process.
std::string CostLine(double seconds);

}  // namespace excise
