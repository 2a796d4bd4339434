#include "experiments/tune_plot.h"

#include <fmt/format.h>

#include "experiments/check/trial_scores.h"
#include "experiments/page/trials_figure.h"
#include "methods/method.h"

namespace excise {
namespace {

double RateOf(const Json& count) {
  return Count{count.at("hits").get<int64_t>(), count.at("n").get<int64_t>()}.Rate();
}

TrialPanel PanelOf(const Tuning& tuning) {
  TrialPanel panel{tuning.name, {}};
  for (size_t i = 0; i < tuning.trials.size(); ++i) {
    const Trial& trial = tuning.trials[i];
    if (trial.failed) continue;
    std::string said = fmt::format("trial {}", i);
    for (const auto& [field, values] : tuning.space) {
      said += fmt::format(", {} {}", field, trial.params.at(field).dump());
    }
    panel.trials.push_back({RateOf(trial.parts.at("removed")), RateOf(trial.parts.at("kept")), said,
                            tuning.complete && i == tuning.chosen});
  }
  return panel;
}

}  // namespace

std::string TrialsSvg(const std::vector<Tuning>& tunings) {
  std::vector<TrialPanel> panels;
  for (const Tuning& tuning : tunings) {
    if (tuning.kind == Method::kKind && !tuning.space.empty()) panels.push_back(PanelOf(tuning));
  }
  if (panels.empty()) return "";
  return SvgFile(TrialsFigure("Trials: removal against retention", panels));
}

}  // namespace excise
