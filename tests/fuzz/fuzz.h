// For tests: what the fuzz targets share. A target is one file, X_fuzz.cc, that defines
// LLVMFuzzerTestOneInput: tools/fuzz.sh links it with libFuzzer and the sanitizers, and Bazel with
// replay.cc, which feeds it the files of corpus/X and small damages of them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace excise::fuzz {

inline std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, which the fuzzer (or the test) reports together with the input.
inline void Require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "BROKEN PROMISE: %s\n", what.c_str());
  std::abort();
}

// Whether `parse` takes its input. It may refuse it with an Error that says something; any other
// exception leaves the target and counts as a crash.
template <class Parse>
bool Accepts(const Parse& parse) {
  try {
    parse();
    return true;
  } catch (const Error& error) {
    Require(std::string_view(error.what()).size() > 8, "an error must say what is wrong");
    return false;
  }
}

// Takes the first line (without its end) off `text`.
inline std::string_view TakeLine(std::string_view* text) {
  const size_t end = text->find('\n');
  const std::string_view line = text->substr(0, end);
  text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
  return line;
}

// A file in memory, for parsers that read a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const;

 private:
  int fd_;
};

// An empty folder of this process, in memory where the machine has /dev/shm; the same one each
// time, emptied by the next call.
std::filesystem::path EmptyFolder();

void WriteFile(const std::filesystem::path& path, std::string_view bytes);

}  // namespace excise::fuzz
