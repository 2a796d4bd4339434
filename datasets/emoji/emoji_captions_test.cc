#include "datasets/emoji/emoji_captions.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <set>

namespace excise {
namespace {

const EmojiWorld& World() {
  static const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  return *world;
}

Philox Rng(std::string_view id) { return Philox({.seed = 9, .id = id, .stream = Stream::kData}); }

struct Drawn {
  Scene scene;
  CaptionPlan plan;
};

std::vector<Drawn> Draw(int n, CaptionPart part, std::string_view id) {
  Philox rng = Rng(id);
  std::vector<Drawn> out;
  for (int i = 0; i < n; ++i) {
    Drawn one{World().SampleScene(rng), {}};
    one.plan = PlanCaption(World().classes()[one.scene.emoji], one.scene.style,
                           World().backgrounds()[one.scene.background].name, rng, part);
    out.push_back(std::move(one));
  }
  return out;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("composing a caption") {
  const auto& templates = CaptionTemplates();
  auto find = [&](const char* frame) {
    for (size_t i = 0; i < templates.size(); ++i) {
      if (templates[i].frame == frame) return static_cast<int>(i);
    }
    FAIL(frame);
    return -1;
  };
  const int sepia = StyleWordNamed("sepia"), antique = StyleWordNamed("antique");
  CHECK(ComposeCaption(find("*"), "a poodle", "", -1) == "a poodle");
  CHECK(ComposeCaption(find("picture of"), "a poodle", "", -1) == "a picture of a poodle");
  CHECK(ComposeCaption(find("image of"), "a poodle", "", -1) == "an image of a poodle");
  CHECK(ComposeCaption(find("picture of"), "a poodle", "", sepia) == "a sepia picture of a poodle");
  CHECK(ComposeCaption(find("picture of"), "a poodle", "", antique) ==
        "an antique picture of a poodle");
  CHECK(ComposeCaption(find("* alone"), "a poodle", "", sepia) == "a poodle alone in sepia");
  CHECK(Contains(ComposeCaption(find("*"), "a poodle", "orange", -1), "on an orange background"));
  CHECK(StyleWordNamed("baroque") == -1);
  CHECK(WithArticle("auto", "alien") == "an alien");
  CHECK(WithArticle("", "Santa Claus") == "Santa Claus");
}

TEST_CASE("shares over 20,000 captions") {
  const int n = 20000;
  const std::vector<Drawn> all = Draw(n, CaptionPart::kTrain, "shares");
  std::array<double, 4> kinds{};
  double typos = 0, backgrounds = 0;
  std::map<SceneStyle, std::pair<double, double>> unnamed;  // style -> {not named, all}
  for (const Drawn& one : all) {
    kinds[static_cast<int>(one.plan.kind)] += 1.0 / n;
    typos += one.plan.typo ? 1.0 / n : 0;
    backgrounds += one.plan.background.empty() ? 0 : 1.0 / n;
    auto& [dropped, total] = unnamed[one.scene.style];
    dropped += one.plan.style_word < 0;
    total += 1;
  }
  CHECK(kinds[static_cast<int>(NamingKind::kKeywords)] >= .25);
  CHECK(kinds[static_cast<int>(NamingKind::kKeywords)] < .34);
  CHECK(kinds[static_cast<int>(NamingKind::kForeign)] == Approx(.20).margin(.03));
  CHECK(kinds[static_cast<int>(NamingKind::kCategory)] == Approx(.04).margin(.006));
  CHECK(typos >= .05);
  CHECK(typos <= .10);
  CHECK(backgrounds == Approx(.45).margin(.03));
  for (const SceneStyle style : {SceneStyle::kSepia, SceneStyle::kLine}) {
    CHECK(unnamed[style].first / unnamed[style].second == Approx(.35).margin(.06));
  }
  CHECK(unnamed[SceneStyle::kPlain].first / unnamed[SceneStyle::kPlain].second ==
        Approx(.88).margin(.02));
}

TEST_CASE("captions say what the scene shows") {
  int typos = 0;
  for (const Drawn& one : Draw(6000, CaptionPart::kTrain, "truth")) {
    const EmojiClass& subject = World().classes()[one.scene.emoji];
    const std::string& text = one.plan.text;
    INFO(text);
    if (!one.plan.background.empty()) {
      REQUIRE(one.plan.background == World().backgrounds()[one.scene.background].name);
      REQUIRE(Contains(text, one.plan.background + " background"));
    } else {
      REQUIRE_FALSE(Contains(text, "background"));
    }
    if (one.plan.style_word >= 0) {
      const StyleWord& word = StyleWords()[one.plan.style_word];
      REQUIRE(word.style == one.scene.style);
      REQUIRE((Contains(text, word.adjective) || Contains(text, word.suffix)));
    }
    auto named = [&](const std::vector<std::string>& words) {
      return std::any_of(words.begin(), words.end(),
                         [&](const std::string& word) { return Contains(text, word); });
    };
    if (one.plan.typo) {
      ++typos;
      if (one.plan.kind == NamingKind::kName) {
        REQUIRE_FALSE(Contains(text + " ", " " + subject.name + " "));
      }
      continue;
    }
    if (one.plan.kind == NamingKind::kName) REQUIRE(Contains(text, subject.name));
    if (one.plan.kind == NamingKind::kKeywords) REQUIRE(named(subject.keywords));
    if (one.plan.kind == NamingKind::kForeign) REQUIRE(named(subject.foreign_names));
    if (one.plan.kind == NamingKind::kCategory) REQUIRE(Contains(text, subject.category));
  }
  REQUIRE(typos > 300);
}

TEST_CASE("the parts of the combinations are disjoint, and both are there") {
  std::set<std::string> train;
  auto key = [](const Drawn& one) {
    return std::to_string(one.plan.template_index) + "|" + one.plan.background + "|" +
           std::to_string(one.plan.style_word);
  };
  for (const Drawn& one : Draw(20000, CaptionPart::kTrain, "train")) train.insert(key(one));
  std::set<std::string> test;
  for (const Drawn& one : Draw(20000, CaptionPart::kTest, "test")) test.insert(key(one));
  std::vector<std::string> both;
  std::set_intersection(train.begin(), train.end(), test.begin(), test.end(),
                        std::back_inserter(both));
  CHECK(both.empty());
  const double share = double(test.size()) / double(test.size() + train.size());
  CHECK(share > .2);
  CHECK(share < .4);
}

TEST_CASE("no test caption with the right name can be a training caption") {
  const auto& backgrounds = World().backgrounds();
  std::set<std::string> trained;
  const int templates = static_cast<int>(CaptionTemplates().size());
  const int styles = static_cast<int>(StyleWords().size());
  for (int t = 0; t < templates; ++t) {
    for (int s = -1; s < styles; ++s) {
      for (size_t b = 0; b <= backgrounds.size(); ++b) {
        const std::string background = b < backgrounds.size() ? backgrounds[b].name : "";
        if (PartOf(t, background, s) != CaptionPart::kTrain) continue;
        trained.insert(ComposeCaption(t, "a poodle", background, s));
      }
    }
  }
  Philox rng = Rng("withheld");
  const int poodle = World().ClassIndex("poodle");
  int checked = 0;
  for (int i = 0; i < 4000; ++i) {
    const Scene scene = World().SampleScene(rng, poodle);
    const std::string text = World().Caption(scene, rng, CaptionPart::kTest);
    if (!Contains(text, "a poodle")) continue;
    ++checked;
    REQUIRE(trained.count(text) == 0);
  }
  REQUIRE(checked > 1000);
  // And the training part does give such texts.
  int hits = 0;
  for (int i = 0; i < 400; ++i) {
    const Scene scene = World().SampleScene(rng, poodle);
    hits += static_cast<int>(trained.count(World().Caption(scene, rng, CaptionPart::kTrain)));
  }
  REQUIRE(hits > 100);
}

TEST_CASE("a caption is a function of its stream") {
  Philox a = Rng("same"), b = Rng("same");
  const Scene one = World().SampleScene(a), two = World().SampleScene(b);
  REQUIRE(World().Caption(one, a, CaptionPart::kTrain) ==
          World().Caption(two, b, CaptionPart::kTrain));
}

}  // namespace
}  // namespace excise
