#include "tests/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {

std::string ReadBytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

Process::Process(const char* variable, const std::vector<std::string>& arguments,
                 const ProcessSetup& setup)
    : keeps_out_(setup.out.empty()) {
  const char* given = std::getenv(variable);
  if (given == nullptr) throw Error(std::string(variable) + " is not set; the build sets it.");
  static std::atomic<int> count{0};
  folder_ = TestFolder("process_" + std::to_string(count++));
  const std::string program = std::filesystem::absolute(given).string();
  const std::string out = keeps_out_ ? (folder_ / "out").string() : setup.out;
  const std::string err = (folder_ / "err").string(), in = (folder_ / "in").string();
  std::ofstream(in, std::ios::binary) << setup.input;
  std::vector<const char*> words = {program.c_str()};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  words.push_back(nullptr);
  child_ = fork();
  if (child_ < 0) throw Error("cannot run " + program);
  if (child_ > 0) return;
  unsetenv("BUILD_WORKSPACE_DIRECTORY");
  unsetenv("BUILD_WORKING_DIRECTORY");
  // As `bazel run`, which starts programs elsewhere.
  if (!setup.where.empty()) setenv("BUILD_WORKING_DIRECTORY", setup.where.c_str(), 1);
  if (freopen(in.c_str(), "r", stdin) == nullptr) _exit(99);
  if (freopen(out.c_str(), "w", stdout) == nullptr) _exit(99);
  if (freopen(err.c_str(), "w", stderr) == nullptr) _exit(99);
  if (setup.in_child) setup.in_child();
  execv(words[0], const_cast<char* const*>(words.data()));
  _exit(98);
}

Process::~Process() {
  if (child_ < 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

void Process::Signal(int signal) { kill(child_, signal); }

ProcessResult Process::Wait() {
  int status = 0;
  if (waitpid(child_, &status, 0) != child_) throw Error("the program cannot be waited for");
  child_ = -1;
  ProcessResult result;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (keeps_out_) result.out = ReadBytes(folder_ / "out");
  result.err = ReadBytes(folder_ / "err");
  return result;
}

ProcessResult RunProcess(const char* variable, const std::vector<std::string>& arguments,
                         const std::filesystem::path& where) {
  ProcessSetup setup;
  setup.where = where;
  return Process(variable, arguments, setup).Wait();
}

}  // namespace excise
