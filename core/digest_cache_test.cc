#include "core/digest_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/hash.h"
#include "core/json.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// A file of 33 MiB whose last change is long ago, so that its digest may be remembered; the cache
// is a folder of the test.
struct Scene {
  fs::path folder = TestFolder("digest_cache"), file = folder / "weights", cache = folder / "cache";
  Scene() {
    setenv("EXCISE_CACHE", cache.c_str(), 1);
    std::ofstream(file) << "start";
    fs::resize_file(file, uintmax_t{33} << 20);
  }
  ~Scene() { unsetenv("EXCISE_CACHE"); }

  // Long enough after the file's change for it to count as settled.
  static void Settle() { usleep(3'100'000); }

  size_t Entries() const {
    std::error_code none;
    return static_cast<size_t>(std::distance(fs::directory_iterator(cache / "digests", none), {}));
  }
  fs::path Entry() const { return fs::directory_iterator(cache / "digests")->path(); }
};

TEST_CASE("big files' digests are remembered and every sign of a change is heeded") {
  Scene scene;
  const std::string first = Sha256HexOfFile(scene.file);
  CHECK(WeightDigest(scene.file) == first);
  CHECK(scene.Entries() == 0);  // it has changed this very moment and may change again
  Scene::Settle();
  CHECK(WeightDigest(scene.file) == first);
  REQUIRE(scene.Entries() == 1);

  // What is remembered is believed: a planted digest comes back.
  std::ifstream in(scene.Entry());
  std::string entry((std::istreambuf_iterator<char>(in)), {});
  const std::string planted(64, 'a');
  entry.replace(entry.find(first), first.size(), planted);
  std::ofstream(scene.Entry()) << entry;
  CHECK(WeightDigest(scene.file) == planted);

  // Other bytes of the same size, with the time of modification put back.
  struct stat before {};
  REQUIRE(stat(scene.file.c_str(), &before) == 0);
  std::fstream(scene.file, std::ios::in | std::ios::out) << "Start";
  const timespec times[] = {before.st_atim, before.st_mtim};
  REQUIRE(utimensat(AT_FDCWD, scene.file.c_str(), times, 0) == 0);
  const std::string second = Sha256HexOfFile(scene.file);
  CHECK(second != first);
  CHECK(WeightDigest(scene.file) == second);

  // A damaged entry is no reason to fail.
  std::ofstream(scene.Entry()) << "{\"file\": 7";
  CHECK(WeightDigest(scene.file) == second);
}

TEST_CASE("a digest that was taken within a tick of the file's last change is not believed") {
  Scene scene;
  Scene::Settle();
  const std::string digest = WeightDigest(scene.file);
  Json entry = ReadJsonFile(scene.Entry());
  const fs::path file = scene.Entry();
  entry["sha256"] = std::string(64, 'c');
  const auto digest_with = [&](const Json& hashed_ns) {
    entry["hashed_ns"] = hashed_ns;
    std::ofstream(file) << entry.dump();
    return WeightDigest(scene.file);
  };
  const auto changed = entry["file"]["changed_ns"].get<int64_t>();
  CHECK(digest_with(changed + 1'000'000'000) == digest);
  CHECK(digest_with(nullptr) == digest);  // of a version that did not say when
  CHECK(digest_with(changed + 3'000'000'000) == std::string(64, 'c'));
}

TEST_CASE("without a cache that can be written, digests are computed") {
  Scene scene;
  std::ofstream(scene.folder / "plain") << "x";
  setenv("EXCISE_CACHE", (scene.folder / "plain" / "below").c_str(), 1);
  CHECK(WeightDigest(scene.file) == Sha256HexOfFile(scene.file));
}

TEST_CASE("small files leave nothing behind") {
  Scene scene;
  const fs::path small = scene.folder / "small";
  std::ofstream(small) << "abc";
  CHECK(WeightDigest(small) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(scene.Entries() == 0);
}

// From here on the order matters: these hold for the rest of the process.
TEST_CASE("a cache that a program names is the only one that is written, if it is to be written") {
  Scene scene;
  Scene::Settle();
  const fs::path named = scene.folder / "named", looked = scene.folder / "looked";
  UseDigestsIn(named);
  const std::string digest = WeightDigest(scene.file);
  CHECK(digest == Sha256HexOfFile(scene.file));
  CHECK(fs::exists(named / "digests"));
  CHECK_FALSE(fs::exists(scene.cache));
  UseDigestsIn(looked, /*remember=*/false);
  CHECK(WeightDigest(scene.file) == digest);
  CHECK_FALSE(fs::exists(looked));
}

TEST_CASE("distrusted digests are computed anew") {
  Scene scene;
  UseDigestsIn(scene.cache);
  Scene::Settle();
  const std::string digest = WeightDigest(scene.file);
  REQUIRE(scene.Entries() == 1);
  std::ifstream in(scene.Entry());
  std::string entry((std::istreambuf_iterator<char>(in)), {});
  entry.replace(entry.find(digest), digest.size(), std::string(64, 'b'));
  std::ofstream(scene.Entry()) << entry;
  CHECK(WeightDigest(scene.file) == std::string(64, 'b'));
  DistrustDigests();
  CHECK(WeightDigest(scene.file) == digest);
}

}  // namespace
}  // namespace excise
