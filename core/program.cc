#include "core/program.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/progress.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr int kFailed = 1, kUsage = 2;

constexpr size_t kMostMessage = 4000;  // bytes; a file may have a name of any length inside

void Replace(const std::string& from, const std::string& to, std::string* text) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size()) {
    text->replace(at, from.size(), to);
  }
}

// `message` with every argument that it quotes, whole or in part ("a" of "--methods=a,b"), cut to
// what people need to know it by.
std::string WithShortArguments(std::string message, const std::vector<std::string>& words) {
  std::vector<std::string> parts;
  for (const std::string& word : words) {
    parts.push_back(word);
    const size_t equals = word.find('=');
    if (equals != std::string::npos) parts.push_back(word.substr(equals + 1));
    for (size_t start = 0; start < word.size();) {
      const size_t end = std::min(word.find_first_of(",=", start), word.size());
      parts.push_back(word.substr(start, end - start));
      start = end + 1;
    }
  }
  std::sort(parts.begin(), parts.end(), [](const std::string& a, const std::string& b) {
    return std::pair(b.size(), a) < std::pair(a.size(), b);  // the whole before its parts
  });
  for (const std::string& part : parts) {
    const std::string shortened = Shortened(part);
    if (shortened != part) Replace(part, shortened, &message);
  }
  return message;
}

void PrintError(std::string_view message, const std::vector<std::string>& words) {
  const std::string text = WithShortArguments(std::string(message), words);
  // Not fmt::print, which throws where stderr is on a full disk: the exit code still tells.
  std::fputs(
      fmt::format("error: {}\n", EscapeLines(Shortened(text, kMostMessage), Layout::kMessage))
          .c_str(),
      stderr);
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

void RefuseUnknown(const CLI::App& app) {
  const std::vector<std::string> unknown = app.remaining();
  if (unknown.empty()) return;
  const std::string flag = unknown.front().substr(0, unknown.front().find('='));
  const bool is_flag = StartsWith(flag, "-");
  throw UsageError(
      fmt::format("Unknown {} '{}'.{} See --help.{}", is_flag ? "flag" : "argument", flag,
                  DidYouMean(flag, FlagNames(app)),
                  is_flag ? "" : " A value with spaces needs quotes: --prompt=\"a cat\"."));
}

// CLI11 takes "--name=" for a flag without its value; an empty prompt is a value like any other.
std::vector<const char*> WithEmptyValues(int argc, const char* const* argv,
                                         std::vector<std::string>* storage) {
  storage->reserve(static_cast<size_t>(argc));  // the pointers below must stay valid
  std::vector<const char*> words;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (i > 0 && StartsWith(word, "--") && word.size() > 3 && word.find('=') == word.size() - 1) {
      storage->emplace_back(word.substr(0, word.size() - 1));
      words.push_back(storage->back().c_str());
      words.push_back("");
    } else {
      words.push_back(argv[i]);
    }
  }
  return words;
}

constexpr std::string_view kOutOfMemory =
    "error: out of memory. What was finished is stored: run the same command again, with fewer "
    "--workers or a smaller sampler.unit_size, or with more memory.\n";

// Where memory ends, an exception would leave threads and libraries in any state; a message and an
// end leave the store whole. Only what needs no memory may be called.
[[noreturn]] void EndOfMemory() {
  [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, kOutOfMemory.data(), kOutOfMemory.size());
  _exit(kFailed);
}

// oneDNN writes through a null pointer where its own allocations fail. That cannot be mended from
// here, but it need not be silent. The signal ends the process as it would have, so that a crash
// stays a crash for shells, debuggers and tests.
extern "C" void OnCrash(int signal) {
  constexpr std::string_view kMessage =
      "\nerror: crashed. The likely cause is that a library ran out of memory. What was finished "
      "is stored: run the same command again, with fewer --workers or a smaller "
      "sampler.unit_size, or with more memory. If there was plenty, this is a bug: please report "
      "it.\n";
  [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, kMessage.data(), kMessage.size());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

int RunProgram(CLI::App& app, int argc, const char* const* argv,
               const std::function<void()>& body) {
  app.allow_extras();
  std::set_new_handler(EndOfMemory);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) std::signal(signal, OnCrash);
  std::vector<std::string> storage;
  const std::vector<const char*> words = WithEmptyValues(argc, argv, &storage);
  const auto print_error = [&](std::string_view message) {
    PrintError(message, {argv + std::min(argc, 1), argv + argc});
  };
  try {
    app.parse(static_cast<int>(words.size()), words.data());
    RefuseUnknown(app);
    body();
    return 0;
  } catch (const CLI::CallForHelp&) {
    const bool written = std::fputs(app.help().c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
    return written ? 0 : kFailed;
  } catch (const CLI::ParseError& error) {
    // A misspelt flag often makes a required one missing; the misspelling is the better message.
    try {
      RefuseUnknown(app);
      print_error(fmt::format("{}. See --help.", error.what()));
    } catch (const UsageError& unknown) {
      print_error(unknown.what());
    }
    return kUsage;
  } catch (const UsageError& error) {
    print_error(error.what());
    return kUsage;
  } catch (const Interrupted&) {
    return InterruptExitCode();
  } catch (const Error& error) {
    print_error(error.what());
    return kFailed;
  } catch (const std::exception& error) {
    // LibTorch appends a stack trace of many lines to its message.
    const std::string_view message = error.what();
    if (message.find("can't allocate memory") != message.npos) {  // says LibTorch's allocator
      std::fputs(kOutOfMemory.data(), stderr);
      return kFailed;
    }
    print_error(message.substr(0, message.find('\n')));
    return kFailed;
  }
}

namespace {

void Write(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) {
    throw Error(fmt::format("The output cannot be written: {}.", std::strerror(errno)));
  }
}

}  // namespace

void PrintOut(const std::string& text) { Write(EscapeLines(text, Layout::kReport)); }

void PrintDocument(const std::string& text) {
  if (isatty(STDOUT_FILENO) == 1) return PrintOut(text);
  Write(text);
}

size_t OutputColumns() {
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? std::max<size_t>(size.ws_col, 40) : 100;
}

}  // namespace excise
