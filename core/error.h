// The two kinds of failure a user can meet, each with its exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace excise {

// A file, weight or value that cannot be used (exit code 1 where it reaches main). The message says
// what, where, why probably, and what to do next.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The command line or a configuration is wrong: unknown name, unknown key, bad range (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace excise
