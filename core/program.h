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
// go to stderr, escaped, arguments cut to 200 characters; an unknown flag names the nearest known
// one. A crash says on stderr that it is one, and the signal ends the process.
int RunProgram(CLI::App& app, int argc, const char* const* argv, const std::function<void()>& body);

// A report for people to stdout, escaped for a terminal line by line: what it quotes from a file
// cannot move the cursor. Throws Error where it cannot be written (a full disk, a closed pipe).
void PrintOut(const std::string& text);
// A document in a format of its own, byte for byte; on a terminal as PrintOut.
void PrintDocument(const std::string& text);

// Columns of the terminal that stdout is, or 100: what goes to a file or a pipe is the same on
// every machine.
size_t OutputColumns();

}  // namespace excise
