// What the small programs (sample, forward, tokenize) share: flags, exit codes, paths.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/files.h"  // UserPath

namespace CLI {
class App;
}

namespace excise {

// Parses the command line into what `app` was given, runs `body` and returns the exit code: 0, 1
// for Error and anything else that `body` throws, 2 for a wrong command line or UsageError. Errors
// go to stderr in one line; an unknown flag names the nearest known one.
int RunProgram(CLI::App& app, int argc, const char* const* argv, const std::function<void()>& body);

// All of `text` to stdout. Throws Error where it cannot be written (a full disk, a closed pipe).
void PrintOut(const std::string& text);

// Sets LibTorch's intra-op threads; 0 keeps its own choice. Throws UsageError below 0.
void UseThreads(int threads);

}  // namespace excise
