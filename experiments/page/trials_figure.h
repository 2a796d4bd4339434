// The figure of the tuning: what each trial removes against what it keeps.
#pragma once

#include <string>
#include <vector>

#include "experiments/page/svg.h"

namespace excise {

// Shares, of pictures: without the concept, and of what must stay that stays.
struct TrialDot {
  double removal = 0, retention = 0;
  std::string said;  // on hovering and for screen readers
  bool chosen = false;
};
struct TrialPanel {
  std::string label;  // the method
  std::vector<TrialDot> trials;
};

// A panel a method, two beside each other: a dot a trial and a diamond for the choice, the front
// (trials that no other one surpasses in both), and the curve on which the harmonic mean of both
// shares is the choice's.
Drawing TrialsFigure(const std::string& title, const std::vector<TrialPanel>& panels);

}  // namespace excise
