#include "core/store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/workers.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

// A folder that goes away with the test.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "excise_store_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Json Key(double lambda = 0.1) {
  return {{"stage", "erase"},
          {"plugin", "uce"},
          {"version", 1},
          {"params", {{"lambda", lambda}, {"variant", "paper"}}},
          {"seeds", {{"erase", 0}}},
          {"inputs", {"aa", "bb"}}};
}
const std::map<std::string, std::string> kFiles = {
    {"weights.safetensors", std::string(5000, 'w')}, {"meta.json", "{}"}, {"empty", ""}};

std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

size_t Entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

// Exit code of `body` in a forked child.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("what is stored is found, by value of its key", "[store]") {
  const TempFolder folder;
  Store store(folder.path() / "a" / "b");
  CHECK(!store.Find(Key()));
  const Artifact put = store.Put(Key(), kFiles);
  CHECK(put.digest == Sha256Hex(CanonicalJson(Key())));
  CHECK(put.folder == store.root() / "erase" / put.digest.substr(0, 2) / put.digest);
  Store again(folder.path() / "a" / "b");
  const auto found = again.Find(Key());
  REQUIRE(found);
  CHECK(found->files == put.files);
  CHECK(found->files.at("weights.safetensors") == Sha256Hex(std::string(5000, 'w')));
  for (const auto& [name, bytes] : kFiles) CHECK(found->Read(name) == bytes);
  CHECK_THROWS_AS(found->Read("other"), Error);
  CHECK(!again.Find(Key(0.2)));
  CHECK(Entries(store.root() / ".tmp") == 0);
}

TEST_CASE("a damaged artifact is reported, removed and can be stored again", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  const Artifact artifact = store.Put(Key(), kFiles);
  const fs::path weights = artifact.File("weights.safetensors");
  const fs::path manifest = artifact.folder / "manifest.json";
  const std::vector<std::function<void()>> damages = {
      [&] {  // one byte in the middle
        std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(2500);
        file.put('x');
      },
      [&] { fs::resize_file(weights, 4999); },
      [&] { std::ofstream(weights, std::ios::app) << 'w'; },
      [&] { fs::remove(weights); },
      [&] {
        fs::remove(weights);
        fs::create_directory(weights);
      },
      [&] { fs::remove(manifest); },
      [&] { fs::resize_file(manifest, fs::file_size(manifest) / 2); },
      [&] { std::ofstream(manifest) << "[]"; },
      [&] { std::ofstream(manifest) << R"({"key":{},"files":{}})"; },
      [&] {  // a path that leads out of the folder
        Json json = ReadJsonFile(manifest);
        json["files"]["../../x"] = {{"size", 0}, {"sha256", Sha256Hex("")}};
        std::ofstream(manifest) << json.dump();
      },
      [&] {
        Json json = ReadJsonFile(manifest);
        json["files"]["empty"]["size"] = "large";
        std::ofstream(manifest) << json.dump();
      },
      [&] {  // a list that lost its names
        Json json = ReadJsonFile(manifest);
        json["files"] = Json::object();
        std::ofstream(manifest) << json.dump();
      },
      [&] {  // or one of them
        Json json = ReadJsonFile(manifest);
        json["files"].erase("empty");
        std::ofstream(manifest) << json.dump();
      },
      [&] {  // a key that is not the folder's
        Json json = ReadJsonFile(manifest);
        json["key"]["version"] = 2;
        std::ofstream(manifest) << json.dump();
      },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    CAPTURE(i);
    REQUIRE(store.Find(Key()));
    damages[i]();
    CHECK(!store.Find(Key()));
    CHECK(!fs::exists(artifact.folder));
    CHECK(store.Put(Key(), kFiles).files == artifact.files);
    // Put alone repairs as well.
    damages[i]();
    CHECK(store.Put(Key(), kFiles).Read("weights.safetensors") == kFiles.at("weights.safetensors"));
  }
  const auto found = store.Find(Key());
  damages[0]();
  CHECK_THROWS_WITH(found->Read("weights.safetensors"), Contains(weights.string()));
}

TEST_CASE("the damage is said on stderr", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  fs::resize_file(store.Put(Key(), kFiles).File("weights.safetensors"), 10);
  const fs::path log = folder.path() / "log";
  CHECK(InChild([&] {
          if (freopen(log.c_str(), "w", stderr) == nullptr) return 1;
          return store.Find(Key()) ? 2 : 0;
        }) == 0);
  CHECK_THAT(Slurp(log), Contains("weights.safetensors has 10 bytes instead of 5000"));
}

TEST_CASE("two processes may store one key at once", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  std::vector<pid_t> children;
  for (int process = 0; process < 2; ++process) {
    const pid_t child = fork();
    if (child == 0) {
      int bad = 0;
      try {
        Store mine(folder.path());
        for (int i = 0; i < 30; ++i) {
          if (mine.Put(Key(i % 3), kFiles).files.size() != 3) bad = 1;
          const auto found = mine.Find(Key(i % 3));
          if (found && found->files.size() != 3) bad = 2;
        }
      } catch (const std::exception&) {
        bad = 3;
      }
      _exit(bad);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  for (int i = 0; i < 3; ++i) CHECK(store.Find(Key(i)));
  CHECK(Entries(store.root() / ".tmp") == 0);
}

TEST_CASE("an artifact that is repaired while another process wants to remove it stays",
          "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  const fs::path weights = store.Put(Key(), kFiles).File("weights.safetensors");
  fs::resize_file(weights, 10);
  // This process holds the lock, as one that is putting the artifact in place does.
  const int lock = open((folder.path() / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  REQUIRE(lock >= 0);
  REQUIRE(flock(lock, LOCK_EX) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(lock);
    _exit(Store(folder.path()).Find(Key()) ? 42 : 0);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(fs::exists(weights));  // found damaged, but not yet removed
  std::ofstream(weights) << kFiles.at("weights.safetensors");
  close(lock);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 42);
  CHECK(fs::exists(weights));
}

TEST_CASE("threads may store one key at once", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  RunUnits(40, 4, [&](int64_t i) { store.Put(Key(i % 2), kFiles); });
  CHECK(store.Find(Key(0)));
  CHECK(store.Find(Key(1)));
}

TEST_CASE("the first bytes stay when a key is stored twice", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  store.Put(Key(), {{"a", "1"}});
  CHECK(store.Put(Key(), {{"a", "2"}}).Read("a") == "1");
}

TEST_CASE("checkpoints live until the artifact is stored", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  const fs::path checkpoint = store.Scratch(Key(), "checkpoint.safetensors");
  std::ofstream(checkpoint) << "half";
  CHECK(Store(folder.path()).Scratch(Key(), "checkpoint.safetensors") == checkpoint);
  CHECK(Slurp(checkpoint) == "half");
  const fs::path other = store.Scratch(Key(0.2), "checkpoint.safetensors");
  CHECK(other != checkpoint);
  std::ofstream(other) << "stays";
  CHECK(!store.Find(Key()));
  store.Put(Key(), kFiles);
  CHECK(!fs::exists(checkpoint));
  CHECK(Slurp(other) == "stays");
}

TEST_CASE("Explain names the nearest key and what differs", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  CHECK(store.Explain(Key()).empty());
  store.Put(Key(0.5), kFiles);
  Json far = Key(0.7);
  far["seeds"]["erase"] = 3;
  far["inputs"] = {"cc", "bb", "dd"};
  store.Put(far, kFiles);
  Json other = Key();
  other["plugin"] = "esd";
  store.Put(other, kFiles);
  const std::string why = store.Explain(Key());
  CHECK_THAT(why, Contains(Store::Digest(Key(0.5)).substr(0, 12)) &&
                      Contains("/params/lambda: 0.5 -> 0.1"));
  CHECK_THAT(why, !Contains("/seeds") && !Contains("/plugin"));
  Json changed = far;
  changed["inputs"] = {"cc", "xx"};
  changed["limit"] = 4;
  const std::string more = store.Explain(changed);
  CHECK_THAT(more, Contains("/inputs/1: \"bb\" -> \"xx\"") &&
                       Contains("/inputs/2: \"dd\" -> (absent)") &&
                       Contains("/limit: (absent) -> 4"));
  CHECK(store.Explain(Key(0.5)).empty());
  Json alien = Key();
  alien["plugin"] = "mace";
  CHECK(store.Explain(alien).empty());
}

TEST_CASE("names that would leave the store are refused", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  for (const char* name : {"", "..", ".hidden", "a/b", "../a", "manifest.json", "a\nb", "/etc/x"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(store.Put(Key(), {{name, "x"}}), Error);
    CHECK_THROWS_AS(store.Scratch(Key(), name), Error);
    Json key = Key();
    key["stage"] = name;
    CHECK_THROWS_AS(store.Put(key, kFiles), Error);
  }
  CHECK_THROWS_AS(store.Find(Json::array()), Error);
  CHECK_THROWS_AS(store.Find(Json{{"plugin", "uce"}}), Error);
}

TEST_CASE("a store that cannot be written is a usage error", "[store]") {
  const TempFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  CHECK_THROWS_AS(Store(folder.path() / "file" / "store"), UsageError);
  CHECK_THROWS_AS(Store("/proc/excise_store"), UsageError);
}

TEST_CASE("stale leftovers go, fresh ones stay", "[store]") {
  const TempFolder folder;
  Store(folder.path());
  for (const char* name : {"old", "new"}) fs::create_directory(folder.path() / ".tmp" / name);
  fs::last_write_time(folder.path() / ".tmp" / "old",
                      fs::file_time_type::clock::now() - std::chrono::hours(72));
  Store(folder.path());
  CHECK(!fs::exists(folder.path() / ".tmp" / "old"));
  CHECK(fs::exists(folder.path() / ".tmp" / "new"));
}

TEST_CASE("a file is replaced whole, with its mode, through links", "[store]") {
  const TempFolder folder;
  const fs::path path = folder.path() / "out.json";
  WriteFileAtomically(path, "one");
  CHECK(Slurp(path) == "one");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("out.json", folder.path() / "link");
  WriteFileAtomically(folder.path() / "link", "two");
  CHECK(Slurp(path) == "two");
  CHECK(fs::is_symlink(folder.path() / "link"));
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(Entries(folder.path()) == 2);
  CHECK_THROWS_WITH(WriteFileAtomically(folder.path() / "no" / "x", "y"),
                    Contains((folder.path() / "no" / "x").string()));
  CHECK_THROWS_AS(WriteFileAtomically(folder.path(), "y"), Error);
}

TEST_CASE("a failed write leaves the old file and no other", "[store]") {
  const TempFolder folder;
  const fs::path path = folder.path() / "out.json";
  WriteFileAtomically(path, "old");
  const std::string large(1 << 20, 'x');
  const auto limited = [&](const std::function<void()>& body) {
    return InChild([&] {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{65536, 65536};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
      try {
        body();
      } catch (const Error& error) {
        const std::string what = error.what();
        return what.find("cannot be written") != std::string::npos ? 42 : 2;
      }
      return 3;
    });
  };
  CHECK(limited([&] { WriteFileAtomically(path, large); }) == 42);
  CHECK(Slurp(path) == "old");
  CHECK(Entries(folder.path()) == 1);

  Store store(folder.path() / "store");
  CHECK(limited([&] { store.Put(Key(), {{"a", "1"}, {"large", large}}); }) == 42);
  CHECK(!store.Find(Key()));
  CHECK(Entries(store.root() / ".tmp") == 0);
  CHECK(store.Put(Key(), kFiles).files.size() == 3);
}

TEST_CASE("a full disk is an error; a device is written to, never replaced", "[store]") {
  CHECK_THROWS_WITH(WriteFileAtomically("/dev/full", "x"),
                    Contains("/dev/full") && Contains("No space left"));
  CHECK(fs::is_character_file("/dev/full"));
  WriteFileAtomically("/dev/null", "x");
  CHECK(fs::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace excise
