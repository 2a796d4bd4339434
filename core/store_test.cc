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
using Catch::Contains;

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

TEST_CASE("a store that is looked at stays as it is", "[store]") {
  TempFolder temp;
  const fs::path root = temp.path() / "store";
  Store absent(root, StoreUse::kLook);
  CHECK_FALSE(absent.Find(Key()));
  CHECK(!absent.Nearest(Key()));
  CHECK_FALSE(fs::exists(root));
  CHECK_THROWS_AS(absent.Put(Key(), kFiles), Error);
  CHECK_THROWS_AS(absent.Scratch(Key(), "checkpoint"), Error);
  CHECK_FALSE(fs::exists(root));

  const Artifact whole = Store(root).Put(Key(), kFiles);
  Store(root).Put(Key(0.2), kFiles);
  std::ofstream(whole.File("meta.json")) << "{1";
  std::ofstream(root / ".tmp" / "leftover") << "x";
  const auto age = fs::file_time_type::clock::now() - std::chrono::hours(100);
  fs::last_write_time(root / ".tmp" / "leftover", age);
  const auto files = [&] {
    std::map<fs::path, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      all[entry.path()] = entry.is_regular_file() ? Slurp(entry.path()) : "";
    }
    return all;
  };
  const auto before = files();
  Store looked(root, StoreUse::kLook);
  CHECK_FALSE(looked.Find(Key()));
  CHECK(looked.Find(Key(0.2)));
  CHECK(files() == before);
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

TEST_CASE("an artifact that is discarded goes with all that was made of it", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  const auto made_of = [](const std::string& stage, const std::vector<std::string>& inputs) {
    return Json{{"stage", stage}, {"plugin", "p"}, {"inputs", {{"units", inputs}}}};
  };
  const Artifact wrong = store.Put(Key(), kFiles), other = store.Put(Key(0.2), kFiles);
  const Json pictures = made_of("generate", {wrong.digest});
  const Json verdicts = made_of("judge", {store.Put(pictures, kFiles).digest});
  const Json both = made_of("score", {other.digest, store.Put(verdicts, kFiles).digest});
  const Json apart = made_of("score", {other.digest});
  store.Put(both, kFiles);
  store.Put(apart, kFiles);
  const fs::path log = folder.path() / "log";
  CHECK(InChild([&] {
          if (freopen(log.c_str(), "w", stderr) == nullptr) return 1;
          store.Discard(Key(), wrong, "5 verdicts for 4 pictures.");
          return 0;
        }) == 0);
  CHECK_THAT(Slurp(log), Contains(wrong.folder.string()) && Contains("5 verdicts for 4 pictures") &&
                             Contains("with all that was made of it"));
  for (const Json& key : {Key(), pictures, verdicts, both}) CHECK(!store.Find(key));
  CHECK(store.Find(Key(0.2)));
  CHECK(store.Find(apart));
  // What another process has stored in its place stays.
  const Artifact right = store.Put(Key(), {{"weights.safetensors", "right"}});
  store.Discard(Key(), wrong, "old news.");
  REQUIRE(store.Find(Key()));
  CHECK(store.Find(Key())->files == right.files);
  CHECK(Entries(store.root() / ".tmp") == 0);
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

TEST_CASE("the nearest stored key is of the same stage and plug-in, and differs least", "[store]") {
  const TempFolder folder;
  Store store(folder.path());
  CHECK(!store.Nearest(Key()));
  store.Put(Key(0.5), kFiles);
  Json far = Key(0.7);
  far["seeds"]["erase"] = 3;
  far["inputs"] = {"cc", "bb", "dd"};
  store.Put(far, kFiles);
  Json other = Key();
  other["plugin"] = "esd";
  store.Put(other, kFiles);
  CHECK(store.Nearest(Key()) == Key(0.5));
  Json changed = far;
  changed["inputs"] = {"cc", "xx"};
  changed["limit"] = 4;
  CHECK(store.Nearest(changed) == far);
  CHECK(store.Nearest(Key(0.5)) == Key(0.5));
  Json alien = Key();
  alien["plugin"] = "mace";
  CHECK(!store.Nearest(alien));
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
  const fs::path left = folder.path() / ".tmp" / "host.1.0.artifact";
  const fs::path under_way = folder.path() / ".tmp" / "host.1.1.artifact";
  for (const fs::path& path : {left, under_way}) fs::create_directory(path);
  fs::last_write_time(left, fs::file_time_type::clock::now() - std::chrono::hours(72));
  Store(folder.path());
  CHECK(!fs::exists(left));
  CHECK(fs::exists(under_way));
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
