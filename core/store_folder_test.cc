#include "core/store_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/store.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

const Json kKey = {{"stage", "erase"}, {"plugin", "uce"}};
const std::map<std::string, std::string> kFiles = {{"weights", "w"}};

// Names as killed runs leave them in .tmp.
const std::vector<std::string> kLeftovers = {"host.12.0.artifact", "ho.st.12.1.removed",
                                             "host.12.2.probe", "host.12.3.safetensors",
                                             ".host.12.3.safetensors.host.12.4.tmp"};
// And names that somebody may have given.
const std::vector<std::string> kForeign = {
    "old",      "notes.txt",         "a.tmp",     "x.1.artifact", ".1.2.tmp",
    "host.1.2", ".host.a.2.removed", "host.1.2.", "host.12.3.png"};

void WriteOld(const fs::path& file) {
  std::ofstream(file) << "x";
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(72);
  fs::last_write_time(file, long_ago);
}

// A folder of somebody's with old files of every name.
fs::path ForeignFolder(const std::string& name) {
  const fs::path folder = TestFolder(name);
  for (const auto* names : {&kLeftovers, &kForeign}) {
    for (const std::string& file : *names) WriteOld(folder / file);
  }
  return folder;
}

size_t Entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

mode_t ModeOf(const fs::path& path) {
  return static_cast<mode_t>(fs::symlink_status(path).permissions());
}

}  // namespace

TEST_CASE("opening a store removes nothing through a link at .tmp") {
  const fs::path foreign = ForeignFolder("foreign"), root = TestFolder("linked");
  const size_t files = Entries(foreign);
  fs::create_directory_symlink(foreign, root / ".tmp");
  CHECK_THROWS_WITH(Store(root), Contains((root / ".tmp").string() + " is a link"));
  CHECK_THROWS_AS(Store(root), UsageError);
  CHECK(Entries(foreign) == files);
  // The store's own folder may be one.
  const fs::path link = TestFolder("links") / "store";
  fs::create_directory_symlink(TestFolder("elsewhere"), link);
  Store store(link);
  store.Put(kKey, kFiles);
  CHECK(store.Find(kKey));
}

TEST_CASE("of what is old in .tmp a store removes only what it made") {
  const fs::path foreign = ForeignFolder("foreign"), root = TestFolder("store");
  const size_t files = Entries(foreign);
  Store{root};
  const fs::path beside = root / ".tmp";
  for (const std::string& name : kLeftovers) WriteOld(beside / name);
  for (const std::string& name : kForeign) WriteOld(beside / name);
  // A folder of the store's with links in it, whose targets are nobody's business.
  const fs::path artifact = beside / "host.13.0.artifact";
  fs::create_directories(artifact / "inner");
  fs::create_directory_symlink(foreign, artifact / "inner" / "link");
  fs::create_symlink(foreign / "old", artifact / "file");
  fs::last_write_time(artifact, fs::file_time_type::clock::now() - std::chrono::hours(72));
  const fs::path young = beside / "host.14.0.artifact";
  std::ofstream(young) << "x";
  const fs::path others = beside / "host.15.0.artifact";
  WriteOld(others);
  const bool given_away = chown(others.c_str(), 12345, 12345) == 0;
  if (!given_away) WARN("SKIPPED: only root can give a file away; another owner was not tried.");
  Store again(root);
  for (const std::string& name : kLeftovers) CHECK_FALSE(fs::exists(beside / name));
  for (const std::string& name : kForeign) CHECK(fs::exists(beside / name));
  CHECK_FALSE(fs::exists(artifact));
  CHECK(fs::exists(young));
  CHECK(fs::exists(others) == given_away);
  CHECK(Entries(foreign) == files);
}

TEST_CASE("nothing in a store is made, read or removed through a link") {
  const fs::path foreign = ForeignFolder("foreign");
  const size_t files = Entries(foreign);
  const std::string digest = Store::Digest(kKey);
  const fs::path prefix = fs::path("erase") / digest.substr(0, 2);
  for (const fs::path& place : {fs::path("erase"), prefix}) {
    INFO(place);
    const fs::path root = TestFolder("store");
    Store store(root);
    fs::create_directories((root / place).parent_path());
    // Where it leads, something stands under the artifact's name, damaged.
    const fs::path there =
        foreign / (place == prefix ? fs::path(digest) : prefix.filename() / digest);
    fs::create_directories(there);
    fs::create_directory_symlink(foreign, root / place);
    CHECK_THROWS_WITH(store.Find(kKey), Contains((root / place).string() + " is a link"));
    CHECK_THROWS_WITH(store.Put(kKey, kFiles), Contains((root / place).string() + " is a link"));
    CHECK(fs::exists(there));
    CHECK(Entries(root / ".tmp") == 0);
    fs::remove_all(foreign / there.lexically_relative(foreign).begin()->string());
  }
  {
    INFO("the artifact itself: the link goes, and what it points to stays");
    const fs::path root = TestFolder("store");
    Store store(root);
    fs::create_directories(root / prefix);
    fs::create_directory_symlink(foreign, root / prefix / digest);
    CHECK_FALSE(store.Find(kKey));
    CHECK_FALSE(fs::is_symlink(root / prefix / digest));
    fs::create_directory_symlink(foreign, root / prefix / digest);
    CHECK(store.Put(kKey, kFiles).Read("weights") == "w");
    CHECK_FALSE(fs::is_symlink(root / prefix / digest));
  }
  {
    INFO("checkpoints");
    const fs::path root = TestFolder("store");
    Store store(root);
    fs::create_directory_symlink(foreign, root / ".scratch");
    fs::create_directories(foreign / digest / "inner");
    CHECK_THROWS_WITH(store.Scratch(kKey, "file"), Contains(".scratch is a link"));
    store.Put(kKey, kFiles);
    CHECK(fs::exists(foreign / digest / "inner"));
    fs::remove_all(foreign / digest);
    fs::remove(root / ".scratch");
    const fs::path checkpoint = store.Scratch(kKey, "file");
    fs::create_symlink(foreign / "old", checkpoint);
    CHECK_THROWS_WITH(store.Scratch(kKey, "file"), Contains("file is a link"));
  }
  CHECK(Entries(foreign) == files);
}

TEST_CASE("another user's artifact is not removed") {
  const fs::path root = TestFolder("store");
  Store store(root);
  const Artifact artifact = store.Put(kKey, kFiles);
  std::ofstream(artifact.File("weights")) << "damaged";
  if (chown(artifact.folder.c_str(), 12345, 12345) != 0) {
    WARN("SKIPPED: only root can give a file away; another owner was not tried.");
    return;
  }
  CHECK_THROWS_WITH(store.Find(kKey), Contains("belongs to another user (uid 12345)"));
  CHECK(fs::exists(artifact.File("weights")));
}

TEST_CASE("a store's folders are their owner's alone, whatever the umask") {
  const fs::path top = TestFolder("modes");
  const mode_t before = umask(0);
  Store store(top / "cache" / "store");
  store.Put(kKey, kFiles);
  store.Scratch(kKey, "checkpoint");
  umask(before);
  size_t folders = 0;
  for (const auto& entry : fs::recursive_directory_iterator(top)) {
    INFO(entry.path());
    if (!entry.is_directory()) continue;
    ++folders;
    CHECK(ModeOf(entry.path()) == 0700);
  }
  CHECK(folders == 8);
  CHECK(ModeOf(store.root() / ".lock") == 0600);
}

TEST_CASE("folders of a store that are open to others stay so, and open no more") {
  const fs::path root = TestFolder("open");
  fs::permissions(root, fs::perms(0755));
  fs::create_directory(root / "erase");
  fs::permissions(root / "erase", fs::perms(0750));
  const mode_t before = umask(0);
  const Artifact artifact = Store(root).Put(kKey, kFiles);
  umask(before);
  CHECK(ModeOf(root) == 0755);
  CHECK(ModeOf(root / "erase") == 0750);
  CHECK(ModeOf(artifact.folder.parent_path()) == 0700);
  CHECK(ModeOf(artifact.folder) == 0700);
}

}  // namespace excise
