#include "core/files.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Everything in a folder, hidden files included.
std::map<std::string, std::string> Contents(const fs::path& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::directory_iterator(folder)) {
    contents[entry.path().filename().string()] =
        entry.is_regular_file() ? Slurp(entry.path()) : "no plain file";
  }
  return contents;
}

// A table's files as an earlier run left them; "new.html" is not there yet.
struct OldSet {
  fs::path folder = TestFolder("together");
  OldSet() {
    for (const char* name : {"t.csv", "t.md", "t.json"}) std::ofstream(folder / name) << "old";
  }
  void Write(const std::string& html = "page") const {
    const fs::path csv = folder / "t.csv", md = folder / "t.md", json = folder / "t.json";
    WriteFilesTogether({{csv, "new"}, {folder / "new.html", html}, {md, "new"}, {json, "new"}});
  }
};

// Exit code of `body` in a forked child.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("files that are written together replace the old ones and leave nothing beside") {
  const OldSet set;
  fs::permissions(set.folder / "t.md", fs::perms::owner_read | fs::perms::owner_write);
  fs::rename(set.folder / "t.csv", set.folder / "real.csv");
  fs::create_symlink("real.csv", set.folder / "t.csv");
  set.Write();
  CHECK(Contents(set.folder) == std::map<std::string, std::string>{{"t.csv", "new"},
                                                                   {"real.csv", "new"},
                                                                   {"t.md", "new"},
                                                                   {"t.json", "new"},
                                                                   {"new.html", "page"}});
  CHECK(fs::is_symlink(set.folder / "t.csv"));
  CHECK(fs::status(set.folder / "t.md").permissions() ==
        (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("where one of the files cannot be written, none is replaced") {
  const OldSet set;
  SECTION("a folder is in the way") {
    fs::remove(set.folder / "t.json");
    fs::create_directory(set.folder / "t.json");
    const auto before = Contents(set.folder);
    CHECK_THROWS_WITH(set.Write(), Contains("t.json") && Contains("directory"));
    CHECK(Contents(set.folder) == before);
  }
  SECTION("one leads to a full device") {
    fs::create_symlink("/dev/full", set.folder / "new.html");
    const auto before = Contents(set.folder);
    CHECK_THROWS_WITH(set.Write(), Contains("No space left on device"));
    CHECK(Contents(set.folder) == before);
  }
  SECTION("one is larger than a file may be") {
    const auto before = Contents(set.folder);
    CHECK(InChild([&] {
            signal(SIGXFSZ, SIG_IGN);
            const rlimit limit{1000, 1000};
            setrlimit(RLIMIT_FSIZE, &limit);
            try {
              set.Write(std::string(2000, 'x'));
            } catch (const Error&) {
              return 7;
            }
            return 0;
          }) == 7);
    CHECK(Contents(set.folder) == before);
  }
  SECTION("only its rename fails, after others have been renamed") {
    // Short enough beside its place, too long in it.
    const fs::path impossible = set.folder / std::string(300, 'n');
    const auto before = Contents(set.folder);
    CHECK_THROWS_AS(WriteFilesTogether({{set.folder / "t.csv", "new"},
                                        {set.folder / "new.html", "new"},
                                        {impossible, "new"},
                                        {set.folder / "t.json", "new"}}),
                    Error);
    CHECK(Contents(set.folder) == before);
  }
}

TEST_CASE("on a disk that fills while files are written together, none is replaced") {
  const fs::path disk = TestFolder("small_disk");
  const int code = InChild([&] {
    const bool root = geteuid() == 0;
    if (unshare(root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
      return 97;
    }
    for (const char* name : {"t.csv", "t.md", "t.json"}) std::ofstream(disk / name) << "old";
    const auto before = Contents(disk);
    const std::string large(100'000, 'x');
    try {
      WriteFilesTogether({{disk / "t.csv", "new"}, {disk / "t.md", large}, {disk / "t.json", "n"}});
    } catch (const Error& error) {
      const bool told = std::string(error.what()).find("No space left") != std::string::npos;
      return told && Contents(disk) == before ? 7 : 8;
    }
    return 0;
  });
  if (code == 97) {
    WARN("SKIPPED: no disk may be mounted here; a disk that fills was not tried.");
    return;
  }
  CHECK(code == 7);
}

}  // namespace excise
