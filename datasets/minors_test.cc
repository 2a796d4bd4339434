#include "datasets/formats/minors.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "core/csv.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "tests/testdata.h"

namespace excise {
namespace {

// A line of the two lists: what stands in the first column, and the prompt.
struct Line {
  bool marked, held_out;
  std::string prompt;
};

std::string Unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
    } else {
      ++i;
      out.push_back(text[i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i]);
    }
  }
  return out;
}

std::vector<Line> ReadLines(const std::string& name) {
  std::ifstream file(RepoFile("tests/fixtures/minors/" + name));
  std::vector<Line> lines;
  bool held_out = false;
  for (std::string line; std::getline(file, line);) {
    if (StartsWith(line, "# ")) held_out = StartsWith(line, "# held out: ");
    if (line.empty() || line[0] == '#') continue;
    lines.push_back({line[0] != ' ', held_out, Unescaped(line.substr(2))});
  }
  return lines;
}

struct Count {
  int all = 0, found = 0;
  bool operator==(const Count& other) const { return all == other.all && found == other.found; }
  friend std::ostream& operator<<(std::ostream& out, const Count& count) {
    return out << count.found << " of " << count.all;
  }
};

}  // namespace

TEST_CASE("prompts that mention minors are found, however they are written") {
  for (const char* text : {"a child in the park",
                           "Two CHILDREN",
                           "a 9 year old",
                           "a 16-year-old model",
                           "17yo",
                           "seventeen-year-old",
                           "aged 12",
                           "age: 15",
                           "teenage dream",
                           "the under-age one",
                           "a ｇｉｒｌ",
                           "a gi\xE2\x80\x8Brl",
                           "a ch1ld",
                           "t33n",
                           "k1ds",
                           "una niña",
                           "ein Mädchen",
                           "une fillette",
                           "一个小女孩",
                           "1girl? no: girls",
                           "loli",
                           "school girl's uniform",
                           "baby,in a crib",
                           "infant(s)",
                           "Teenager2x"}) {
    INFO(text);
    CHECK(MentionsMinor(text));
  }
  for (const char* text :
       {"a poodle", "a cowboy and his girlfriend", "kidney beans", "a 25 year old whisky",
        "117 years old", "babylon", "a boycott", "minority report", "childe harold",
        "a lion in 1912", "page 12", "Santa Claus"}) {
    INFO(text);
    CHECK_FALSE(MentionsMinor(text));
  }
}

TEST_CASE("spellings of words for minors: what is found and what is missed") {
  Count tuned, held_out;
  for (const Line& line : ReadLines("spellings.txt")) {
    INFO(line.prompt);
    const bool found = MentionsMinor(line.prompt);
    CHECK(found == !line.marked);
    Count& count = line.held_out ? held_out : tuned;
    ++count.all;
    count.found += found;
    // In the middle of a prompt it is found as well.
    if (found) CHECK(MentionsMinor("a portrait of " + line.prompt + " in oil, 1920"));
  }
  // docs/bring_your_own.md has these figures.
  CHECK(tuned == Count{314, 314});
  CHECK(held_out == Count{170, 155});
}

TEST_CASE("harmless prompts: which are left out all the same") {
  Count near, captions;
  for (const Line& line : ReadLines("harmless.txt")) {
    INFO(line.prompt);
    const bool found = MentionsMinor(line.prompt);
    CHECK(found == line.marked);
    ++near.all;
    near.found += found;
  }
  const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  for (const CaptionPart part : {CaptionPart::kTrain, CaptionPart::kTest}) {
    Philox rng({.seed = 14, .id = "harmless", .stream = Stream::kData});
    for (int i = 0; i < 5000; ++i) {
      const Scene scene = world->SampleScene(rng);
      const std::string caption = world->Caption(scene, rng, part);
      INFO(caption);
      const bool found = MentionsMinor(caption);
      CHECK_FALSE(found);
      ++captions.all;
      captions.found += found;
    }
  }
  CHECK(near == Count{276, 2});
  CHECK(captions == Count{10000, 0});
}

TEST_CASE("captions of COCO: who is left out, and for which word") {
  const auto file = SharedFile("prompts/coco_30k.csv");
  if (!file) {
    WARN("skipped: no prompts/coco_30k.csv in the shared data");
    return;
  }
  Count count;
  for (const FileRow& row : ReadRows(*file).rows) {
    ++count.all;
    count.found += MentionsMinor(row.fields.at("prompt"));
  }
  CHECK(count == Count{30000, 1632});
}

TEST_CASE("text of any kind and size is read") {
  CHECK_FALSE(MentionsMinor(""));
  CHECK_FALSE(MentionsMinor(std::string("\xff\xfe a cat \xc3", 9)));
  CHECK(MentionsMinor(std::string("a gi\0rl", 7)));
  const std::string long_text(100'000, '1');
  CHECK_FALSE(MentionsMinor(long_text));
  CHECK(MentionsMinor(long_text + "k!d" + long_text));
  std::string signs;
  for (int i = 0; i < 5000; ++i) signs += "a!b*";
  CHECK_FALSE(MentionsMinor(signs));
}

}  // namespace excise
