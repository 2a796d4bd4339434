// Feeds a fuzz target every file of a corpus and small damages of each: what CI runs at every
// commit without a fuzzer. replay FOLDER...
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/random.h"
#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;
using excise::Philox;

constexpr int kDamages = 100;

void Feed(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

size_t Below(Philox* rng, size_t n) { return static_cast<size_t>(rng->Below(n)); }

// One of: a flipped bit, a byte that means something to parsers, a cut, a stretch twice, one away.
std::string Damaged(std::string bytes, Philox* rng) {
  static constexpr char kTelling[] = "\0\xff\xc3\"{}[],:\\\n0-9e.";
  const size_t at = Below(rng, bytes.size()), kind = Below(rng, 5);
  const size_t length = std::min(bytes.size() - at, 1 + Below(rng, 32));
  if (kind == 0) bytes[at] ^= static_cast<char>(1 << Below(rng, 8));
  if (kind == 1) bytes[at] = kTelling[Below(rng, sizeof kTelling)];
  if (kind == 2) bytes.resize(at);
  if (kind == 3) bytes.insert(at, bytes.substr(at, length));
  if (kind == 4) bytes.erase(at, length);
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : fs::recursive_directory_iterator(argv[i])) {
      if (fs::is_regular_file(entry.path())) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "No corpus: name the folder of a target's files.\n");
    return 1;
  }
  for (const fs::path& path : files) {
    std::ifstream in(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    std::fprintf(stderr, "%s\n", path.c_str());  // the last name tells which one broke a promise
    Feed(bytes);
    if (bytes.empty()) continue;
    Philox rng({1, path.filename().string()});
    for (int i = 0; i < kDamages; ++i) {
      std::string damaged = bytes;
      for (size_t n = 1 + Below(&rng, 3); n > 0 && !damaged.empty(); --n) {
        damaged = Damaged(damaged, &rng);
      }
      Feed(damaged);
    }
  }
  std::printf("%zu files and %d damages of each: every promise held\n", files.size(), kDamages);
  return 0;
}
