// Programs as a user runs them: arguments in; exit code, stdout and stderr out.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace excise {

struct ProcessResult {
  int code = 0;  // 128 + signal where one ended it
  std::string out, err;
};

struct ProcessSetup {
  std::filesystem::path where;     // the folder of the user's terminal; "" = this one
  std::string out;                 // a device that takes stdout, in place of the result
  std::string input;               // what comes by stdin
  std::function<void()> in_child;  // between fork and exec: limits, mounts; _exit gives up
};

// A program that runs beside the test. Its path is in the environment variable `variable`, which
// the build sets. Throws Error where it cannot be started.
class Process {
 public:
  Process(const char* variable, const std::vector<std::string>& arguments,
          const ProcessSetup& setup = {});
  ~Process();  // kills what still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void Signal(int signal);
  ProcessResult Wait();

 private:
  std::filesystem::path folder_;
  pid_t child_ = -1;
  bool keeps_out_ = true;
};

// Runs a program to its end, as if started in a terminal whose folder is `where` ("" = this one).
ProcessResult RunProcess(const char* variable, const std::vector<std::string>& arguments,
                         const std::filesystem::path& where = {});

// The bytes of a file. Throws Error naming it.
std::string ReadBytes(const std::filesystem::path& path);

}  // namespace excise
