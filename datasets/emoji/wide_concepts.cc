#include "datasets/emoji/wide_concepts.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "core/random.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr size_t kMostNear = 8, kFar = 8, kPreserve = 10;

Image8 PlainPicture(const EmojiWorld& world, int emoji) {
  Scene scene;
  scene.emoji = emoji;
  const std::vector<Background>& backgrounds = world.backgrounds();
  const auto gray = std::find_if(backgrounds.begin(), backgrounds.end(),
                                 [](const Background& one) { return one.name == "gray"; });
  scene.background = static_cast<int>(gray - backgrounds.begin());
  return world.Render(scene);
}

int64_t SquaredDistance(const Image8& a, const Image8& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    const int64_t difference = int64_t{a.pixels[i]} - b.pixels[i];
    sum += difference * difference;
  }
  return sum;
}

// The other classes of the category, the most alike first.
std::vector<int> Alike(const EmojiWorld& world, int subject) {
  const std::vector<EmojiClass>& classes = world.classes();
  const Image8 picture = PlainPicture(world, subject);
  std::vector<std::pair<int64_t, int>> found;
  for (int i = 0; i < static_cast<int>(classes.size()); ++i) {
    if (i == subject || classes[i].category != classes[subject].category) continue;
    found.emplace_back(SquaredDistance(picture, PlainPicture(world, i)), i);
  }
  std::sort(found.begin(), found.end());
  std::vector<int> alike;
  for (const auto& [distance, index] : found) alike.push_back(index);
  return alike;
}

std::set<std::string> WordsOf(const std::string& name) {
  std::istringstream in(LowerAscii(name));
  std::set<std::string> words;
  for (std::string word; in >> word;) {
    if (word != "and") words.insert(word);
  }
  return words;
}

bool SharesWord(const std::string& one, const std::string& other) {
  const std::set<std::string> words = WordsOf(one);
  const std::set<std::string> others = WordsOf(other);
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return others.count(word) != 0; });
}

std::vector<std::string> HeldOut(const EmojiWorld& world, int subject) {
  const EmojiClass& shown = world.classes()[subject];
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    const bool known = LowerAscii(name) == LowerAscii(shown.name) || IsOneOf(name, names);
    if (known || world.ClassNamed(name) != subject) return false;
    names.push_back(name);
    return true;
  };
  for (const std::string& name : shown.foreign_names) add(name);
  for (const std::string& keyword : shown.keywords) {
    if (add(keyword)) break;
  }
  return names;
}

// `targets`: class ids that no concept may be told to preserve.
Concept WideConcept(const EmojiWorld& world, const std::string& id,
                    const std::set<std::string>& targets) {
  const std::vector<EmojiClass>& classes = world.classes();
  const int subject = world.ClassIndex(id);
  const EmojiClass& shown = classes[subject];
  const std::vector<int> alike = Alike(world, subject);
  const std::string anchor = classes[alike.front()].name;
  Concept made;
  made.name = id;
  made.title = fmt::format("{} -> {}", shown.name, anchor);
  made.category = shown.category == "person" ? "identity" : "object";
  made.sensitivity = "benign_proxy";
  made.known = {shown.name};
  made.held_out = HeldOut(world, subject);
  made.anchor = anchor;
  made.judge = {"class", {id}, {classes[alike.front()].id}, "emoji"};
  std::set<int> used = {subject};
  for (size_t i = 0; i < std::min(alike.size(), kMostNear); ++i) {
    made.neighbours.near.push_back(classes[alike[i]].name);
    used.insert(alike[i]);
  }
  for (int i = 0; i < static_cast<int>(classes.size()); ++i) {
    if (used.count(i) != 0 || !SharesWord(classes[i].name, shown.name)) continue;
    made.neighbours.lexical.push_back(classes[i].name);
    used.insert(i);
  }
  Philox rng({.seed = 1, .id = id, .stream = Stream::kOrder});
  for (const int64_t i : rng.Permutation(static_cast<int64_t>(classes.size()))) {
    if (used.count(static_cast<int>(i)) != 0) continue;
    const bool other_kind = classes[i].category != shown.category;
    if (other_kind && made.neighbours.far.size() < kFar) {
      made.neighbours.far.push_back(classes[i].name);
    } else if (made.preserve.size() < kPreserve && targets.count(classes[i].id) == 0) {
      made.preserve.push_back(classes[i].name);
    }
  }
  return made;
}

}  // namespace

const std::vector<std::string>& WideClasses() {
  static const std::vector<std::string> kClasses = {
      "unicorn", "horse",       "blowfish",       "octopus", "mrs_claus", "woman",
      "crown",   "alarm_clock", "fork_and_knife", "pick",    "red_apple", "banana",
      "rose",    "palm_tree",   "fire_engine",    "car",     "robot",     "alien"};
  return kClasses;
}

std::vector<Concept> WideConcepts(const EmojiWorld& world, const std::vector<Concept>& others) {
  std::set<std::string> targets(WideClasses().begin(), WideClasses().end());
  for (const Concept& other : others) {
    targets.insert(other.judge.target.begin(), other.judge.target.end());
  }
  std::vector<Concept> made;
  for (const std::string& id : WideClasses()) made.push_back(WideConcept(world, id, targets));
  return made;
}

}  // namespace excise
