// The two kinds of failure a user can meet, each with its exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace excise {

// A file, weight or value that cannot be used (exit code 1 where it reaches main). The message says
// what, where, why probably, and what to do next.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(Whole(message)) {}

 private:
  // what() ends at the first NUL, and a hostile file may have one in any name.
  static std::string Whole(std::string message) {
    for (size_t at = 0; (at = message.find('\0', at)) != std::string::npos; at += 4) {
      message.replace(at, 1, "\\x00");
    }
    return message;
  }
};

// The command line or a configuration is wrong: unknown name, unknown key, bad range (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace excise
