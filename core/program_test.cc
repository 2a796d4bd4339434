#include "core/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "core/text.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

// What `body` writes to file descriptor 1 or 2.
std::string Caught(int descriptor, const std::function<void()>& body) {
  const std::string path = (TestFolder("program") / "caught").string();
  std::fflush(nullptr);
  const int saved = dup(descriptor), file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  dup2(file, descriptor);
  body();
  std::fflush(nullptr);
  dup2(saved, descriptor);
  close(saved);
  close(file);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct Outcome {
  int code;
  std::string prompt, message;
  int64_t steps;
};

// Runs a program with --prompt (required), --negative_prompt and --steps, its stderr caught.
Outcome RunWith(
    std::vector<std::string> arguments, const std::function<void()>& body = [] {}) {
  arguments.insert(arguments.begin(), "program");
  std::vector<const char*> argv;
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  Outcome outcome{-1, "unset", "", 20};
  std::string negative;
  CLI::App app("test");
  app.add_option("--prompt", outcome.prompt)->required();
  app.add_option("--negative_prompt", negative);
  app.add_option("--steps", outcome.steps);

  outcome.message = Caught(
      2, [&] { outcome.code = RunProgram(app, static_cast<int>(argv.size()), argv.data(), body); });
  return outcome;
}

std::string Printed(const std::function<void()>& print) { return Caught(1, print); }

}  // namespace

TEST_CASE("values are taken letter by letter") {
  const std::string value = GENERATE(as<std::string>{}, "", "a cat", "[a,b]", "\"q\"", "'q'", "{}",
                                     "-x", "--x", "a=b", "%%", "@f", "a,b", " ", "пудель");
  INFO(value);
  const Outcome outcome = RunWith({"--prompt=" + value, "--steps=3"});
  CHECK(outcome.code == 0);
  CHECK(outcome.prompt == value);
  CHECK(outcome.steps == 3);
  CHECK(outcome.message.empty());
  if (!StartsWith(value, "-")) CHECK(RunWith({"--prompt", value}).prompt == value);
}

TEST_CASE("wrong command lines exit 2 with the nearest flag") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--promt=x"}, "Unknown flag '--promt'. Did you mean '--prompt'?"},
      {{"--prompt=x", "--stepz", "3"}, "Did you mean '--steps'?"},
      {{"--prompt=x", "--zzzzzzzzzzzz"}, "Unknown flag '--zzzzzzzzzzzz'. See --help."},
      {{"--prompt=a", "cat"}, "Unknown argument 'cat'"},
      {{"--prompt=x", "--steps=many"}, "--steps"},
      {{"--prompt=x", "--prompt=y"}, "--prompt"},
      {{}, "--prompt is required"},
      {{"--prompt=x", "--st\x1b[31m"}, "\\x1b"},
  };
  for (const auto& [arguments, message] : cases) {
    bool ran = false;
    const Outcome outcome = RunWith(arguments, [&] { ran = true; });
    INFO(outcome.message);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.message, Contains(message));
    CHECK(outcome.message.find('\x1b') == std::string::npos);
    CHECK_FALSE(ran);
  }
}

TEST_CASE("what the body throws decides the exit code") {
  const auto code = [](const std::function<void()>& body) { return RunWith({"--prompt=x"}, body); };
  CHECK(code([] { throw UsageError("bad flag"); }).code == 2);
  CHECK(code([] { throw Error("bad file"); }).code == 1);
  CHECK(code([] { throw Error("bad file"); }).message == "error: bad file\n");
  CHECK(code([] { throw std::runtime_error("first line\nstack trace"); }).message ==
        "error: first line\n");
  CHECK(code([] { throw std::bad_alloc(); }).code == 1);
}

TEST_CASE("paths are the user's") {
  unsetenv("BUILD_WORKING_DIRECTORY");
  CHECK(UserPath("a/b") == "a/b");
  setenv("BUILD_WORKING_DIRECTORY", "/home/user", 1);
  CHECK(UserPath("a/b") == "/home/user/a/b");
  CHECK(UserPath("/a/b") == "/a/b");
  unsetenv("BUILD_WORKING_DIRECTORY");
}

TEST_CASE("a report on stdout is safe to print, and a document is what it is") {
  const std::string text = "a \x1b[2J\u202e b\nnext\n";
  CHECK(Printed([&] { PrintOut(text); }) == "a \\x1b[2J\\u202e b\nnext\n");
  CHECK(Printed([&] { PrintDocument(text); }) == text);
  CHECK(Printed([] { PrintOut(std::to_string(OutputColumns())); }) == "100");
}

TEST_CASE("an error is safe to print, whatever it quotes") {
  const Outcome file = RunWith({"--prompt=x"}, [] {
    throw Error(
        "a\x1b[31m\u202e.json: bad.\n  its \x9b second line\nverified: every byte is the same.");
  });
  CHECK(file.code == 1);
  CHECK(file.message ==
        "error: a\\x1b[31m\\u202e.json: bad.\n  its \\x9b second line\\nverified: every "
        "byte is the same.\n");
  const Outcome flag = RunWith({"--prompt=x", "--\x1b]0;owned\x07"});
  CHECK(flag.code == 2);
  CHECK_THAT(flag.message, Contains("\\x1b]0;owned\\x07"));
}

TEST_CASE("arguments are echoed up to 200 characters, and what a file holds not without end") {
  const std::string much(5000, 'a');
  for (const std::string& argument : {"--" + much, "--steps=" + much, much}) {
    const Outcome outcome = RunWith({"--prompt=x", argument});
    INFO(outcome.message);
    CHECK(outcome.code == 2);
    CHECK(outcome.message.size() < 600);
    CHECK_THAT(outcome.message, Contains(std::string(190, 'a')) && Contains("bytes)"));
  }
  // A part of an argument, as messages quote it.
  const Outcome part = RunWith({"--prompt=x", "--negative_prompt=b," + much}, [&] {
    throw UsageError("--negative_prompt: '" + much + "' is unknown. Known: b.");
  });
  CHECK(part.message.size() < 400);
  CHECK_THAT(part.message, Contains("is unknown. Known: b."));
  const Outcome file = RunWith({"--prompt=x"}, [] { throw Error(std::string(1 << 20, 'k')); });
  CHECK(file.message.size() < 5000);
}

TEST_CASE("LibTorch's want of memory is told in our words") {
  const Outcome outcome = RunWith({"--prompt=a"}, [] {
    // models/tensors/threads_test.cc holds it to these words.
    throw std::runtime_error(
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you "
        "tried");
  });
  CHECK(outcome.code == 1);
  CHECK_THAT(outcome.message, Contains("error: out of memory") && Contains("--workers"));
}

TEST_CASE("a crash is told, and the signal ends the process") {
  for (const int signal : {SIGSEGV, SIGABRT}) {
    int status = 0;
    const std::string message = Caught(2, [&] {
      const pid_t child = fork();
      if (child == 0) {
        CLI::App app("test");
        const char* argv[] = {"program"};
        RunProgram(app, 1, argv, [signal] { raise(signal); });
        _exit(0);
      }
      waitpid(child, &status, 0);
    });
    INFO(message);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == signal));
    CHECK_THAT(message, Contains("error: crashed") && Contains("memory"));
  }
}

}  // namespace excise
