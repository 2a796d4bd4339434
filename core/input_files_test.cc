#include "core/input_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <string>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/json.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

void Write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

// A model's folder, and one like it that other folders link to.
struct Scene {
  explicit Scene(const std::string& name) : root(TestFolder(name)), model(root / "model") {
    Write(model / "unet/weights", "old bytes");
    Write(model / "config.json", "{}");
    Write(root / "other/weights", "old bytes");
  }
  fs::path root, model;
};

// The message with which `path` is refused.
std::string Refusal(const fs::path& path) {
  try {
    Sha256HexOfPath(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Whether files that were hashed before `change` are refused after it, and by which name.
std::string RefusalAfter(const fs::path& input, const std::function<void()>& change) {
  InputFiles inputs;
  CHECK(inputs.Add(input) == Sha256HexOfPath(input));
  CHECK_NOTHROW(inputs.Check());
  usleep(20'000);  // what is put back leaves its trace in times alone, which tick
  change();
  try {
    inputs.Check();
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains("was changed, replaced or removed"));
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a folder's digest is of the names and digests of all files below it") {
  const Scene scene("input_folder");
  fs::create_directories(scene.model / "empty/folder");
  const Json files = {{"config.json", Sha256Hex("{}")}, {"unet/weights", Sha256Hex("old bytes")}};
  CHECK(Sha256HexOfPath(scene.model) == Sha256Hex(CanonicalJson(files)));
  CHECK(Sha256HexOfPath(scene.model.string() + "/") == Sha256HexOfPath(scene.model));
  CHECK(Sha256HexOfPath(scene.model / "config.json") == Sha256Hex("{}"));
}

TEST_CASE("links to files and folders are hashed as they are read") {
  const Scene scene("input_links");
  const std::string plain = Sha256HexOfPath(scene.model);
  fs::remove_all(scene.model / "unet");
  CHECK(Sha256HexOfPath(scene.model) != plain);
  fs::create_directory_symlink("../other", scene.model / "unet");
  CHECK(Sha256HexOfPath(scene.model) == plain);
  fs::create_directory_symlink(scene.model, scene.root / "linked");
  CHECK(Sha256HexOfPath(scene.root / "linked") == plain);
  Write(scene.root / "other/weights", "new bytes");
  CHECK(Sha256HexOfPath(scene.model) != plain);
  CHECK(Sha256HexOfPath(scene.root / "linked") == Sha256HexOfPath(scene.model));
  fs::create_symlink(scene.root / "other/weights", scene.root / "one");
  CHECK(Sha256HexOfPath(scene.root / "one") == Sha256Hex("new bytes"));
  // Twice the same folder is no circle.
  fs::create_directory_symlink("../other", scene.model / "again");
  CHECK(Refusal(scene.model) == "no error");
}

TEST_CASE("links that lead in circles or nowhere are refused by name") {
  const Scene scene("input_circles");
  const auto refused = [&](const std::string& name, const fs::path& target, const char* why) {
    INFO(name);
    fs::create_symlink(target, scene.model / name);
    CHECK_THAT(Refusal(scene.model), Contains(name) && Contains(why));
    fs::remove(scene.model / name);
  };
  refused("up", "..", "a folder that contains it");
  refused("here", ".", "a folder that contains it");
  refused("away", scene.root, "a folder that contains it");
  refused("itself", "itself", "a link to itself");
  refused("nowhere", "gone", "a link to gone, cannot be read: No such file");
  // Two folders that hold links to each other.
  fs::create_directory_symlink(scene.model, scene.root / "other/back");
  refused("forth", scene.root / "other", "a folder that contains it");
  fs::remove(scene.root / "other/back");
  // No circle, but twice as many paths at every level.
  for (int level = 0; level < 12; ++level) {
    const fs::path folder = scene.root / ("level" + std::to_string(level));
    fs::create_directories(folder);
    for (const char* link : {"a", "b"}) {
      fs::create_directory_symlink(scene.root / ("level" + std::to_string(level + 1)),
                                   folder / link);
    }
  }
  fs::create_directories(scene.root / "level12");
  refused("bomb", scene.root / "level0", "more than 1000 folders are reached by links");
}

TEST_CASE("pipes and devices are refused and not waited for") {
  const Scene scene("input_pipes");
  REQUIRE(mkfifo((scene.model / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(Refusal(scene.model), Contains("pipe cannot be read: it is neither"));
  CHECK_THAT(Refusal(scene.model / "pipe"), Contains("only regular files"));
  CHECK_THAT(Refusal("/dev/zero"), Contains("only regular files"));
  CHECK_THAT(Refusal(scene.root / "gone"), Contains("does not exist"));
}

TEST_CASE("whatever changes an input after it was hashed is noticed, and named") {
  const Scene scene("input_changes");
  const fs::path file = scene.model / "unet/weights";
  const auto edit = [&] { std::fstream(file, std::ios::in | std::ios::out) << "new"; };
  CHECK(RefusalAfter(file, [] {}) == "no error");
  CHECK(RefusalAfter(scene.model, [] {}) == "no error");
  CHECK_THAT(RefusalAfter(file, edit), Contains(file.string()));
  CHECK_THAT(RefusalAfter(scene.model, [&] { Write(file, "longer bytes"); }),
             Contains(file.string()));
  // Replaced by another with the same bytes and put back: somebody may have read it meanwhile.
  CHECK_THAT(RefusalAfter(scene.model,
                          [&] {
                            fs::rename(file, scene.root / "aside");
                            Write(file, "other bytes");
                            fs::rename(scene.root / "aside", file);
                          }),
             Contains("unet"));
  // The times of modification put back.
  CHECK_THAT(RefusalAfter(file,
                          [&] {
                            struct stat before {};
                            REQUIRE(stat(file.c_str(), &before) == 0);
                            edit();
                            const timespec times[] = {before.st_atim, before.st_mtim};
                            REQUIRE(utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
                          }),
             Contains(file.string()));
  CHECK_THAT(RefusalAfter(scene.model, [&] { Write(scene.model / "new.json", "{}"); }),
             Contains(scene.model.string()));
  CHECK_THAT(RefusalAfter(scene.model, [&] { fs::remove(scene.model / "new.json"); }),
             Contains("model"));
  fs::create_directory_symlink("other", scene.root / "latest");
  CHECK_THAT(RefusalAfter(scene.root / "latest",
                          [&] {
                            fs::remove(scene.root / "latest");
                            fs::create_directory_symlink("model", scene.root / "latest");
                          }),
             Contains("latest"));
}

TEST_CASE("a change within the tick of the file system's clock is noticed") {
  const Scene scene("input_tick");
  const fs::path file = scene.model / "config.json";
  const Descriptor open(file, O_RDWR);
  REQUIRE(open.get() >= 0);
  // Bytes of a page that is mapped and dirty change without leaving a trace in the file's times.
  auto* bytes =
      static_cast<char*>(mmap(nullptr, 2, PROT_READ | PROT_WRITE, MAP_SHARED, open.get(), 0));
  REQUIRE(bytes != MAP_FAILED);
  bytes[0] = '[';
  CHECK_THAT(RefusalAfter(scene.model, [&] { bytes[0] = '('; }), Contains("model"));
  munmap(bytes, 2);
}

TEST_CASE("an identity settles when the clock has moved on") {
  FileIdentity identity;
  identity.changed_ns = 100'000'000'000;
  for (const auto& [seconds, settled] :
       {std::pair(0.0, false), {1.9, false}, {2.1, true}, {-1.0, false}, {-3600.0, true}}) {
    INFO(seconds);
    CHECK(identity.Settled(identity.changed_ns + static_cast<int64_t>(seconds * 1e9)) == settled);
  }
}

TEST_CASE("a file that was read is held to its digest") {
  const Scene scene("input_sha");
  const fs::path file = scene.model / "config.json";
  CHECK_NOTHROW(RequireSha256(file, Sha256Hex("{}")));
  Write(file, "[]");
  CHECK_THROWS_WITH(RequireSha256(file, Sha256Hex("{}")), Contains(file.string()));
  fs::remove(file);
  CHECK_THROWS_WITH(RequireSha256(file, Sha256Hex("{}")), Contains("removed"));
}

}  // namespace excise
