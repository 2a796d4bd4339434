#include "experiments/page/exhibits.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/progress.h"
#include "experiments/run/stored.h"
#include "models/pictures/image_io.h"

namespace excise {
namespace {

constexpr int64_t kThumbnailSide = 128;

// In this order: a small page has the first ones, where what is removed stands beside what must
// stay.
struct Shown {
  const char* group;
  size_t prompt;
};
using Round = std::vector<Shown>;
const std::vector<Round>& Rounds() {
  static const std::vector<Round> rounds = {
      {{"target", 0}, {"near", 0}}, {{"far", 0}}, {{"target", 1}}};
  return rounds;
}

// A whole picture, no side above kThumbnailSide.
at::Tensor Thumbnail(const at::Tensor& image) {
  const int64_t height = image.size(1), width = image.size(2), side = std::max(height, width);
  if (side <= kThumbnailSide) return image;
  const auto scaled = [&](int64_t n) { return std::max<int64_t>(1, n * kThumbnailSide / side); };
  return at::adaptive_avg_pool2d(image.to(at::kFloat), {scaled(height), scaled(width)})
      .round()
      .clamp(0, 255)
      .to(at::kByte);
}

class Gatherer {
 public:
  Gatherer(const Lab& lab, const Grid& grid, Store& store, const std::vector<Row>& rows,
           int64_t picture_bytes)
      : lab_(lab), grid_(grid), store_(store), bytes_left_(picture_bytes) {
    // Of a row's edits the first one's pictures are shown.
    const int64_t first = lab.experiment.seeds.erase;
    for (const Row& row : rows) {
      if (row.erase_seed.value_or(first) != first) continue;
      rows_[{row.method, row.subject, row.attack, row.group, row.root_id, row.replicate}] = &row;
    }
    for (const Unit& unit : grid.units()) {
      for (size_t i = 0; i < unit.prompts.size(); ++i) {
        if (unit.replicate != 0) continue;
        shots_[{unit.method, unit.subject, unit.attack, unit.group, unit.prompts[i].root_id}] = {
            &unit, i};
      }
    }
  }

  Exhibits Gather() {
    Exhibits exhibits;
    for (const size_t row : lab_.Rows()) exhibits.methods.push_back(lab_.methods[row].name);
    for (const Concept& subject : lab_.concepts) {
      exhibits.galleries.push_back(
          {subject.name, subject.title, subject.sensitivity != "benign_proxy", {}});
    }
    for (const Round& round : Rounds()) AddRound(round, &exhibits);
    for (size_t attack = 0; attack < lab_.attacks.size(); ++attack) {
      if (lab_.attacks[attack].name != kUnmodified) AddBudget(attack, &exhibits.budgets);
    }
    return exhibits;
  }

 private:
  using Place = std::tuple<size_t, size_t, size_t, std::string, std::string>;
  using RowKey =
      std::tuple<std::string, std::string, std::string, std::string, std::string, int64_t>;
  struct Shot {
    const Unit* unit;
    size_t index;
  };

  // The same round for every concept: all of it or, in the first round, as many as fit.
  void AddRound(const Round& round, Exhibits* exhibits) {
    std::vector<std::vector<PictureColumn>> columns(lab_.concepts.size());
    int64_t total = 0, left_out = 0;
    for (size_t subject = 0; subject < lab_.concepts.size(); ++subject) {
      const bool small = total > bytes_left_;
      for (size_t i = 0; !small && i < round.size(); ++i) {
        for (PictureColumn& column : ColumnsOf(round[i], subject)) {
          columns[subject].push_back(std::move(column));
        }
      }
      int64_t bytes = 0, pictures = 0;
      for (const PictureColumn& column : columns[subject]) {
        for (const Picture& picture : column.rows) {
          bytes += static_cast<int64_t>(picture.png.size());
          pictures += picture.png.empty() ? 0 : 1;
        }
      }
      if (small || total + bytes > bytes_left_) {
        left_out += std::max<int64_t>(pictures, 1);
        columns[subject].clear();
        if (&round != &Rounds()[0]) return;
        exhibits->pictures_left_out += left_out;
        left_out = 0;
        continue;
      }
      total += bytes;
    }
    bytes_left_ -= total;
    for (size_t subject = 0; subject < columns.size(); ++subject) {
      for (PictureColumn& column : columns[subject]) {
        exhibits->galleries[subject].columns.push_back(std::move(column));
      }
    }
  }

  std::vector<PictureColumn> ColumnsOf(const Shown& shown, size_t subject) {
    std::vector<PictureColumn> columns;
    const auto prompts = lab_.prompts[subject].find(shown.group);
    if (prompts == lab_.prompts[subject].end() || shown.prompt >= prompts->second.size()) return {};
    const std::string& root = prompts->second[shown.prompt].root_id;
    for (size_t attack = 0; attack < lab_.attacks.size(); ++attack) {
      PictureColumn column{lab_.attacks[attack].name, shown.group, {}, {}};
      bool any = false;
      for (const size_t method : lab_.Rows()) {
        std::string prompt;
        column.rows.push_back(PictureOf({method, subject, attack, shown.group, root}, &prompt));
        column.prompts.push_back(std::move(prompt));
        any = any || !column.rows.back().png.empty();
      }
      if (any) columns.push_back(std::move(column));
    }
    return columns;
  }

  // Without PNG where no such picture was made.
  Picture PictureOf(const Place& place, std::string* text) {
    Picture picture;
    const auto shot = shots_.find(place);
    if (shot == shots_.end()) return picture;
    const auto [unit, index] = shot->second;
    const auto row =
        rows_.find({lab_.methods[unit->method].name, lab_.concepts[unit->subject].name,
                    lab_.attacks[unit->attack].name, unit->group, unit->prompts[index].root_id, 0});
    if (row == rows_.end()) return picture;
    *text = row->second->prompt;
    picture.outcome = row->second->outcome;
    picture.class_id = row->second->class_id;
    if (picture.outcome == "error" || picture.outcome == "blocked") return picture;
    try {
      if (const auto artifact = store_.Find(unit->key)) {
        const at::Tensor image =
            ReadPictures(*artifact, lab_, *unit).images[static_cast<int64_t>(index)];
        picture.png = EncodePng(Thumbnail(image), "a picture");
      }
    } catch (const std::exception& error) {
      LogWarning(fmt::format("a sample picture is left out: {}", error.what()));
    }
    return picture;
  }

  void AddBudget(size_t attack, std::vector<AttackBudget>* budgets) {
    AttackBudget budget;
    budget.attack = lab_.attacks[attack].name;
    std::vector<Trajectory> trajectories;
    for (const Crafting& crafting : grid_.craftings()) {
      if (crafting.attack != attack) continue;
      try {
        const Prompt& seed = grid_.PromptOf(crafting);
        const Json key = AttackKey(lab_, attack, crafting.method, crafting.subject, seed);
        const auto artifact = store_.Find(key);
        if (artifact) trajectories.push_back(ReadTrajectory(*artifact, seed));
      } catch (const std::exception& error) {
        LogWarning(fmt::format("an attack's trajectory is left out: {}", error.what()));
      }
    }
    budget.prompts = static_cast<int64_t>(trajectories.size());
    for (const Trajectory& trajectory : trajectories) {
      const Ledger& ledger = trajectory.back().ledger;
      const auto share = [&](int64_t n) {
        return static_cast<double>(n) / static_cast<double>(trajectories.size());
      };
      budget.victim_queries += share(ledger.victim_queries);
      budget.candidate_evaluations += share(ledger.candidate_evaluations);
      budget.gradient_steps += share(ledger.gradient_steps);
      budget.unet_evaluations += share(ledger.unet_evaluations);
      budget.text_evaluations += share(ledger.text_evaluations);
    }
    budget.progress = Progress(trajectories);
    budgets->push_back(std::move(budget));
  }

  // The mean over prompts of the best score so far, at up to 40 budgets that all searches reached
  // the first candidate of.
  static std::vector<std::pair<double, double>> Progress(
      const std::vector<Trajectory>& trajectories) {
    int64_t from = 0, to = 0;
    for (const Trajectory& trajectory : trajectories) {
      from = std::max(from, trajectory.front().ledger.candidate_evaluations);
      to = std::max(to, trajectory.back().ledger.candidate_evaluations);
    }
    std::vector<std::pair<double, double>> points;
    if (to <= from) return points;
    const int64_t steps = std::min<int64_t>(40, to - from);
    for (int64_t i = 0; i <= steps; ++i) {
      const int64_t budget = from + (to - from) * i / steps;
      double sum = 0;
      for (const Trajectory& trajectory : trajectories) {
        double best = trajectory.front().score;
        for (const Candidate& candidate : trajectory) {
          if (candidate.ledger.candidate_evaluations > budget) break;
          best = std::max(best, candidate.score);
        }
        sum += best;
      }
      points.emplace_back(static_cast<double>(budget),
                          sum / static_cast<double>(trajectories.size()));
    }
    return points;
  }

  const Lab& lab_;
  const Grid& grid_;
  Store& store_;
  int64_t bytes_left_;
  std::map<RowKey, const Row*> rows_;
  std::map<Place, Shot> shots_;  // by the root of the prompt: an attack may leave some out
};

}  // namespace

Exhibits GatherExhibits(const Lab& lab, const Grid& grid, Store& store,
                        const std::vector<Row>& rows, int64_t picture_bytes) {
  return Gatherer(lab, grid, store, rows, picture_bytes).Gather();
}

}  // namespace excise
