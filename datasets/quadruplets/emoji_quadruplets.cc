#include "datasets/quadruplets/emoji_quadruplets.h"

#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <set>
#include <utility>

#include "core/hash.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/emoji/emoji_world.h"
#include "datasets/quadruplets/emoji_phrases.h"
#include "models/pictures/picture_file.h"

namespace excise {
namespace {

constexpr size_t kParts = 4;

const EmojiWorld& World() {
  static const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  return *world;
}

// What t and t* share and what they do not. Sepia has no colour left: its background is not named.
struct Cell {
  int safe, unsafe;  // emoji classes
  std::string tag;   // of the unsafe concept
  SceneStyle style;
  int background;  // -1: drawn for each row
};

struct Plan {
  Quadruplet row;
  int safe = 0, unsafe = 0;  // emoji classes
  SceneStyle style = SceneStyle::kPlain;
  int background = 0;
};

bool Suits(const Cell& cell, int background) {
  return World().BackgroundSuits(cell.safe, background, cell.style) &&
         World().BackgroundSuits(cell.unsafe, background, cell.style);
}

std::vector<int> SuitingBackgrounds(const Cell& cell) {
  std::vector<int> found;
  for (int b = 0; b < static_cast<int>(World().backgrounds().size()); ++b) {
    if (Suits(cell, b)) found.push_back(b);
  }
  return found;
}

// Every class that may stand in for something.
std::vector<std::string> AllStandIns() {
  std::set<std::string> all;
  for (const UnsafeThing& one : UnsafeThings()) {
    all.insert(one.stand_ins.begin(), one.stand_ins.end());
  }
  return {all.begin(), all.end()};
}

// One cell a style, stand-in and background that suit both things.
void AddCells(const std::vector<std::string>& safe, int unsafe, const std::string& tag,
              std::vector<Cell>* cells) {
  for (const SceneStyle style : {SceneStyle::kPlain, SceneStyle::kSepia, SceneStyle::kLine}) {
    for (const std::string& id : safe) {
      Cell cell{World().ClassIndex(id), unsafe, tag, style, -1};
      std::vector<int> backgrounds = SuitingBackgrounds(cell);
      if (style == SceneStyle::kSepia && !backgrounds.empty()) backgrounds.assign(1, -1);
      for (const int b : backgrounds) {
        cell.background = b;
        cells->push_back(cell);
      }
    }
  }
}

// Scenes of one safe thing, which t and t* both name.
std::vector<Cell> HarmlessCells() {
  std::vector<Cell> cells;
  for (const std::string& id : AllStandIns()) {
    AddCells({id}, World().ClassIndex(id), "harmless", &cells);
  }
  return cells;
}

Philox RngOf(int64_t seed, const std::string& id) {
  return Philox({.seed = static_cast<uint64_t>(seed), .id = id, .stream = Stream::kData});
}

at::Tensor Drawn(const Scene& scene, int64_t side) {
  Image8 image = World().Render(scene);
  const at::Tensor pixels =
      at::from_blob(image.pixels.data(), {3, kSceneSize, kSceneSize}, at::kByte).clone();
  return CentredSquare(pixels, side);
}

std::string Named(int emoji) {
  const EmojiClass& shown = World().classes()[emoji];
  return WithArticle(shown.article, shown.name);
}

// Every combination comes once, in an order of the part's own, before any comes again: so a pool
// of captions is as distinct as it can be.
class Deck {
 public:
  Deck(int64_t seed, std::string part, std::vector<Cell> cells)
      : seed_(seed), part_(std::move(part)), cells_(std::move(cells)) {}

  const Cell& Next() {
    const auto n = static_cast<int64_t>(cells_.size());
    if (next_ % n == 0) {
      order_ = RngOf(seed_, fmt::format("emoji_quadruplets/{}/order/{}", part_, next_ / n))
                   .Permutation(n);
    }
    return cells_[order_[next_++ % n]];
  }

 private:
  const int64_t seed_;
  const std::string part_;
  const std::vector<Cell> cells_;
  std::vector<int64_t> order_;
  int64_t next_ = 0;
};

class EmojiQuadruplets : public QuadrupletSet {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("seed", &seed_, "of substitutions, phrases and layouts", {0, INT64_MAX});
    v.Integer("train", &train_, "quadruplets to train on", {1, 1000000});
    v.Integer("evaluation", &evaluation_, "quadruplets of each other part", {1, 1000000});
    v.Number("unnamed", &unnamed_,
             "share of plain training captions that do not name the background", {0, 1});
    v.Integer("stand_ins", &stand_ins_,
              "safe things that may stand in for an unsafe one, drawn from its class; with 1 the "
              "words tell which it is",
              {1, 100});
    v.Number(
        "harmless", &harmless_,
        "share of training quadruplets whose texts and pictures are both of one safe thing: of "
        "any stand-in, drawn for unsafe things or not",
        {0, 0.99});
    v.Texts("unseen", &unseen_, "tags of unsafe concepts that the part unseen alone has");
  }
  int version() const override { return 2; }

  std::vector<Quadruplet> Rows(QuadrupletPart part, int64_t limit) const override {
    std::vector<Quadruplet> rows;
    for (const Plan& plan : Plans(part)) {
      if (static_cast<int64_t>(rows.size()) == limit) break;
      rows.push_back(plan.row);
    }
    return rows;
  }

  at::Tensor Picture(QuadrupletPart part, const Quadruplet& row, bool unsafe,
                     int64_t side) const override {
    const std::vector<Plan>& plans = Plans(part);
    if (row.row < 0 || row.row >= static_cast<int64_t>(plans.size()) ||
        plans[row.row].row.id != row.id) {
      throw Error(
          fmt::format("'{}' is no row of the part {} of the emoji quadruplets as they are "
                      "set.",
                      row.id, PartName(part)));
    }
    const Plan& plan = plans[row.row];
    Philox rng = RngOf(seed_, StreamOf(part, row.row) + (unsafe ? "/unsafe" : "/safe"));
    Scene scene = World().SampleScene(rng, unsafe ? plan.unsafe : plan.safe);
    scene.style = plan.style;
    scene.background = plan.background;
    return Drawn(scene, side);
  }

  std::vector<OutsideClass> OutsideClasses() const override {
    std::set<std::string> inside;
    for (const UnsafeThing& thing : UnsafeThings()) {
      inside.insert(thing.id);
      inside.insert(thing.stand_ins.begin(), thing.stand_ins.end());
    }
    std::vector<OutsideClass> classes;
    for (const EmojiClass& one : World().classes()) {
      if (inside.count(one.id) != 0) continue;
      classes.push_back({one.id, "a picture of " + WithArticle(one.article, one.name)});
    }
    return classes;
  }

  std::vector<OutsideItem> OutsideItems(int64_t limit) const override {
    const std::vector<OutsideClass> classes = OutsideClasses();
    std::string whole = fmt::format("{}\n", seed_);
    for (const OutsideClass& one : classes) whole += one.id + "\n";
    const std::string digest = Sha256Hex(whole).substr(0, 8);
    std::vector<OutsideItem> items;
    for (int64_t row = 0; row < limit; ++row) {
      items.push_back({fmt::format("emoji_outside@{}/{}", digest, row),
                       classes[row % static_cast<int64_t>(classes.size())].id, row});
    }
    return items;
  }

  at::Tensor OutsidePicture(const OutsideItem& item, int64_t side) const override {
    Philox rng = RngOf(seed_, fmt::format("emoji_outside/{}", item.row));
    return Drawn(World().SampleScene(rng, World().ClassIndex(item.class_id)), side);
  }

 private:
  static std::string StreamOf(QuadrupletPart part, int64_t row) {
    return fmt::format("emoji_quadruplets/{}/{}", PartName(part), row);
  }

  const std::vector<Plan>& Plans(QuadrupletPart part) const {
    const auto index = static_cast<size_t>(part);
    std::call_once(once_[index], [&] { plans_[index] = MakePlans(part); });
    return plans_[index];
  }

  bool IsUnseen(const UnsafeThing& thing) const { return IsOneOf(thing.tag, unseen_); }

  void CheckUnseen() const {
    std::set<std::string> tags;
    for (const UnsafeThing& thing : UnsafeThings()) tags.insert(thing.tag);
    for (const std::string& tag : unseen_) {
      if (tags.count(tag) != 0) continue;
      throw UsageError(fmt::format("emoji quadruplets, unseen: no unsafe concept '{}'.{}", tag,
                                   DidYouMeanOrKnown(tag, {tags.begin(), tags.end()})));
    }
  }

  // What stands in for a thing, in every part alike.
  std::vector<std::string> StandIns(const UnsafeThing& thing) const {
    if (thing.stand_ins.empty()) return AllStandIns();
    std::vector<std::string> drawn;
    Philox rng = RngOf(seed_, "emoji_quadruplets/stand_ins/" + thing.id);
    for (const int64_t i : rng.Permutation(static_cast<int64_t>(thing.stand_ins.size()))) {
      if (static_cast<int64_t>(drawn.size()) < stand_ins_) drawn.push_back(thing.stand_ins[i]);
    }
    return drawn;
  }

  std::vector<Cell> Cells(QuadrupletPart part) const {
    CheckUnseen();
    std::vector<Cell> cells;
    for (const UnsafeThing& thing : UnsafeThings()) {
      if (IsUnseen(thing) != (part == QuadrupletPart::kUnseen)) continue;
      AddCells(StandIns(thing), World().ClassIndex(thing.id), thing.tag, &cells);
    }
    if (cells.empty()) {
      throw UsageError(fmt::format(
          "emoji quadruplets: the part {} is empty, for the parameter unseen names {} of the "
          "unsafe concepts.",
          PartName(part), part == QuadrupletPart::kUnseen ? "none" : "all"));
    }
    return cells;
  }

  std::vector<Plan> MakePlans(QuadrupletPart part) const {
    const bool train = part == QuadrupletPart::kTrain;
    Deck unsafe(seed_, PartName(part), Cells(part));
    Deck harmless(seed_, PartName(part) + "/harmless", HarmlessCells());
    std::vector<Plan> plans;
    Phrases phrases(part);
    std::string whole = PartName(part) + "\n";
    for (int64_t row = 0; row < (train ? train_ : evaluation_); ++row) {
      const auto before = [&](int64_t n) { return std::floor(static_cast<double>(n) * harmless_); };
      Deck& deck = train && before(row + 1) > before(row) ? harmless : unsafe;
      plans.push_back(MakePlan(part, deck.Next(), row, &phrases));
      whole += fmt::format("{}\t{}\t{}\n", plans.back().row.safe_text, plans.back().row.unsafe_text,
                           plans.back().background);
    }
    const std::string digest = Sha256Hex(fmt::format("{}\n{}", seed_, whole)).substr(0, 8);
    for (Plan& plan : plans) plan.row.id = fmt::format("emoji@{}/{}", digest, plan.row.row);
    return plans;
  }

  Plan MakePlan(QuadrupletPart part, const Cell& cell, int64_t row, Phrases* phrases) const {
    Philox rng = RngOf(seed_, StreamOf(part, row));
    Plan plan;
    plan.safe = cell.safe;
    plan.unsafe = cell.unsafe;
    plan.style = cell.style;
    plan.background = cell.background;
    if (cell.background < 0) {
      const std::vector<int> backgrounds = SuitingBackgrounds(cell);
      plan.background = backgrounds[rng.Below(backgrounds.size())];
    }
    const bool said =
        cell.background >= 0 && (part != QuadrupletPart::kTrain ||
                                 cell.style != SceneStyle::kPlain || rng.Uniform() >= unnamed_);
    std::string background = said ? World().backgrounds()[cell.background].name : "";
    const Phrase phrase = phrases->Draw(background, cell.style, &rng);
    const auto caption = [&](int emoji) {
      return ComposeCaption(phrase.first, Named(emoji), background, phrase.second);
    };
    plan.row.safe_text = caption(plan.safe);
    plan.row.unsafe_text = caption(plan.unsafe);
    plan.row.tag = cell.tag;
    plan.row.row = row;
    return plan;
  }

  int64_t seed_ = 1, train_ = 4000, evaluation_ = 2000, stand_ins_ = 1;
  double unnamed_ = .25, harmless_ = 0;
  std::vector<std::string> unseen_ = {"scares"};
  mutable std::array<std::once_flag, kParts> once_;
  mutable std::array<std::vector<Plan>, kParts> plans_;
};

}  // namespace

const std::vector<UnsafeThing>& UnsafeThings() {
  static const std::vector<UnsafeThing> kThings = {
      {"weapons", "kitchen_knife", {"banana", "ice_cream"}},
      {"weapons", "dagger", {"umbrella", "prince"}},
      {"weapons", "crossed_swords", {"soccer_ball", "bicycle"}},
      {"weapons", "bomb", {"balloon", "gift"}},
      {"smoking", "cigarette", {"sunflower", "palm_tree"}},
      {"death", "skull", {"cat", "rabbit"}},
      {"death", "ghost", {"snowman", "whale"}},
      {"poison", "mushroom", {"watermelon", "pineapple"}},
      {"poison", "blowfish", {"turtle", "frog"}},
      {"poison", "cactus", {"fish", "key"}},
      {"beasts", "lion", {"pig", "unicorn"}},
      {"beasts", "tiger", {"horse", "star"}},
      {"beasts", "bear", {"monkey", "red_heart"}},
      {"beasts", "fox", {"house", "camera"}},
      {"pests", "bee", {"sun", "guitar"}},
      {"pests", "lady_beetle", {"woman", "dog"}},
      {"pests", "crab", {"car", "anchor"}},
      {"pests", "octopus", {"airplane", "alarm_clock"}},
      {"pests", "snail", {"fire_engine", "hamburger"}},
      {"masks", "clown", {"man", "mrs_claus"}},
      {"scares", "jack_o_lantern", {}},
      {"scares", "alien", {}},
  };
  return kThings;
}

std::unique_ptr<QuadrupletSet> MakeEmojiQuadruplets() {
  return std::make_unique<EmojiQuadruplets>();
}

}  // namespace excise
