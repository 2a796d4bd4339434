#include "experiments/run/key_changes.h"

#include <catch2/catch.hpp>
#include <string>

namespace excise {
namespace {

using Lines = std::vector<std::string>;

Json EraseKeyOf(const std::string& backbone) {
  return {{"stage", "erase"},
          {"plugin", "esd"},
          {"version", 2},
          {"params", {{"lr", 1e-5}, {"iterations", 150}}},
          {"numerics", {{"isa", "AVX2"}, {"fingerprint", std::string(64, 'f')}}},
          {"seeds", {{"erase", 1}}},
          {"inputs",
           {{"backbone", backbone},
            {"prompts", {{"poodle", {{"target", {"a poodle", "the poodle"}}}}}},
            {"sampler", {{"steps", 20}, {"guidance", 3.0}}},
            {"concepts", {{{"name", "poodle"}, {"known_names", {"poodle"}}}}}}}};
}

}  // namespace

TEST_CASE("a changed key is described in words, with short values") {
  const Json key = EraseKeyOf(std::string(64, 'a'));
  CHECK(KeyChanges(key, key) == Lines{});
  CHECK(KeyChanges(key, EraseKeyOf("b" + std::string(63, 'a'))) ==
        Lines{"the weights of the backbone: aaaaaaaa before, baaaaaaa now"});
  const auto changed = [&](const char* pointer, const Json& value) {
    Json other = key;
    other[Json::json_pointer(pointer)] = value;
    const Lines lines = KeyChanges(key, other);
    REQUIRE(lines.size() == 1);
    return lines.front();
  };
  CHECK(changed("/params/lr", 2e-5) == "the setting lr: 1e-05 before, 2e-05 now");
  CHECK(changed("/inputs/sampler/steps", 8) == "sampler.steps: 20 before, 8 now");
  CHECK(changed("/seeds/erase", 7) == "seeds.erase: 1 before, 7 now");
  CHECK(changed("/version", 3) == "the plug-in's version: 2 before, 3 now");
  CHECK(changed("/numerics/isa", "AVX512") ==
        "how this machine computes (isa): 'AVX2' before, 'AVX512' now");
  CHECK(changed("/inputs/files/lora", std::string(64, 'c')) ==
        "the content of the file that 'lora' names: none before, cccccccc now");
  CHECK(changed("/inputs/concepts/0/known_names/1", "puddle") ==
        "the concept's file (known_names): none before, 'puddle' now");
  CHECK(changed("/inputs/prompts/poodle/target/1", "my poodle") ==
        "the prompts: 'the poodle' before, 'my poodle' now");
  CHECK(changed("/inputs/models/base_clip", "x") ==
        "the weights of the backbone's own CLIP: none before, 'x' now");
}

TEST_CASE("a list that changed is one line, and text from files is safe and short") {
  Json before = {{"stage", "generate"}, {"plugin", "sampler"}, {"params", {{"steps", 20}}}};
  before["inputs"]["prompts"] = {{{"id", "a"}, {"text", "a poodle"}}, {{"id", "b"}, {"text", "x"}}};
  Json now = before;
  now["params"]["steps"] = 8;
  now["inputs"]["prompts"][0]["text"] = "\x1b[2J" + std::string(500, 'y');
  now["inputs"]["prompts"][1]["text"] = "other";
  const Lines lines = KeyChanges(before, now);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].find("the prompts: 'a poodle' before, '\\x1b[2Jyyy") == 0);
  CHECK(lines[0].find("(and 1 further difference)") != std::string::npos);
  CHECK(lines[0].size() < 150);
  CHECK(lines[1] == "sampler.steps: 20 before, 8 now");
}

}  // namespace excise
