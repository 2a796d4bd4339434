#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/progress.h"
#include "datasets/formats/dataset.h"
#include "tests/testdata.h"

namespace excise {
namespace {

std::unique_ptr<Dataset> Make(const std::string& text) {
  const std::filesystem::path file = TestFolder("prompts_csv") / "own.csv";
  std::ofstream(file, std::ios::binary) << text;
  std::unique_ptr<Dataset> set = Registry<Dataset>::Get().Make("prompts_csv");
  DecodeParams(Json{{"file", file.string()}}, *set, "test");
  return set;
}

Concept Named(const std::string& name) {
  Concept subject;
  subject.name = name;
  subject.known = {name, "thing"};
  return subject;
}

std::vector<std::string> Texts(const PromptSet& set) {
  std::vector<std::string> texts;
  for (const Prompt& prompt : set.prompts) texts.push_back(prompt.text);
  return texts;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("prompts_csv: rows are found by concept, group and split, in the order of the file") {
  const auto set = Make(
      "prompt,concept,group,split\n"
      "a,x,target,test\nb,y,target,test\nc,x,near,test\nd,x,target,select\ne,x,target,test\n"
      "a,x,target,test\na,x,near,test\n,x,target,test\nf,x,target,test\na picture of x,x,,\n");
  const Concept x = Named("x");
  CHECK(Texts(set->Prompts(x, "target", Split::kTest, -1)) ==
        Strings{"a", "e", "f", "a picture of x"});
  CHECK(Texts(set->Prompts(x, "near", Split::kTest, -1)) == Strings{"c", "a"});
  CHECK(Texts(set->Prompts(x, "target", Split::kSelect, -1)) == Strings{"d"});
  CHECK(Texts(set->Prompts(Named("y"), "target", Split::kTest, -1)) == Strings{"b"});
  CHECK(Texts(set->Prompts(x, "far", Split::kTest, -1)).empty());
  // Rows that are left out count against the limit, and are named: here one repeats a text.
  const PromptSet three = set->Prompts(x, "target", Split::kTest, 3);
  CHECK(Texts(three) == Strings{"a", "e"});
  REQUIRE(three.excluded.size() == 1);
  CHECK(three.excluded[0].reason == "excluded:duplicate");
  // Without rows for methods the concept's names are used, but no text that a test reads.
  CHECK(Texts(set->Prompts(x, "target", Split::kErase, -1)) == Strings{"a picture of thing"});
  CHECK_THROWS_AS(set->Prompts(Named("z"), "target", Split::kTest, -1), UsageError);
}

TEST_CASE("prompts_csv: descriptions, and pairs with the thing that must stay") {
  const auto set = Make(
      "prompt,concept,group,expected_class\n"
      "a curly animal,x,implied,\nan x and a guitar,x,pairs,guitar\nan x,x,target,x\n");
  const Concept x = Named("x");
  CHECK(Texts(set->Prompts(x, "implied", Split::kTest, -1)) == Strings{"a curly animal"});
  const std::vector<Prompt> pairs = set->Prompts(x, "pairs", Split::kTest, -1).prompts;
  REQUIRE(pairs.size() == 1);
  CHECK(pairs[0].expected_class == "guitar");
}

TEST_CASE("prompts_csv: a signal ends the reading of a million prompts") {
  std::string text = "prompt,concept\n";
  for (int i = 0; i < 5000; ++i) text += "a poodle " + std::to_string(i) + ",x\n";
  const auto set = Make(text);
  const pid_t child = fork();
  if (child == 0) {
    InstallInterruptHandlers();
    raise(SIGTERM);
    try {
      set->Prompts(Named("x"), "target", Split::kTest, 1);
    } catch (const Interrupted&) {
      _exit(InterruptExitCode());
    }
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 143);
}

}  // namespace excise
