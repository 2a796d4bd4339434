// What may go wrong around a run, done to it on purpose: kills, full and read-only disks, damaged
// and vanishing stores, limits, clocks. The rule is the same each time: nothing lost and nothing
// wrong. The program ends well or says what is wrong, and the next undisturbed run on the same
// store gives the bytes of a run that nothing disturbed. With EXCISE_FAULT_TABLE=FILE the table of
// results/quality/faults.md is written there.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <thread>

#include "core/json.h"
#include "core/random.h"
#include "tests/process.h"
#include "tests/store_damage.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

constexpr const char* kTable = "EXCISE_TABLE";
constexpr const char* kStages[] = {"erase", "attack", "generate", "judge", "score"};

// Two methods, two attacks, one concept of tests/tiny.json: a second or two.
std::vector<std::string> Arguments(const fs::path& cache, const std::vector<std::string>& more = {},
                                   const std::string& methods = "none,uce") {
  std::vector<std::string> arguments = {
      RepoFile("tests/tiny.json").string(),
      "--models=" + RepoFile("models/emoji/model_index.json").parent_path().parent_path().string(),
      "--cache=" + cache.string(),
      "--out=" + (cache / "out.json").string(),
      "--workers=2",
      "--methods=" + methods,
      "--attacks=none,char_typo",
      "--concepts=poodle",
      "--metrics=asr,retention"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

ProcessResult Run(const fs::path& cache, const ProcessSetup& setup = {},
                  const std::vector<std::string>& more = {}) {
  return Process(kTable, Arguments(cache, more), setup).Wait();
}

// What a run must give: the deterministic part of the results, the rows, the table.
std::string Bytes(const fs::path& cache) {
  const std::string stem = (cache / "out").string();
  Json results = ReadJsonFile(stem + ".json");
  results.erase("cost");
  results.erase("provenance");
  return CanonicalJson(results) + ReadBytes(stem + ".rows.jsonl") + ReadBytes(stem + ".md");
}

// An undisturbed run, its cache, and how long it took.
struct Straight {
  fs::path cache = TestFolder("straight");
  std::string bytes;
  double seconds = 0;
};

const Straight& TheStraight() {
  static const Straight straight = [] {
    Straight s;
    const auto start = std::chrono::steady_clock::now();
    const ProcessResult result = Run(s.cache);
    INFO(result.err);
    REQUIRE(result.code == 0);
    s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    s.bytes = Bytes(s.cache);
    return s;
  }();
  return straight;
}

// The whole store of the undisturbed run, to be spoiled.
fs::path CopyOfStore(const std::string& name) {
  const fs::path cache = TestFolder(name);
  fs::copy(TheStraight().cache / "store", cache / "store", fs::copy_options::recursive);
  return cache;
}

// ---- The table of faults, in the order of the tests.

struct Fault {
  std::string name, what, promise;
  int64_t tries = 0;
  std::map<std::string, int64_t> outcomes;
};

class FaultTable {
 public:
  ~FaultTable() {
    const char* file = std::getenv("EXCISE_FAULT_TABLE");
    if (file == nullptr) return;
    std::ofstream out(file);
    out << "# Faults\n\nWhat tests/fault_test.cc does to runs of the table program on a part of "
           "tests/tiny.json, and how they end.\nExit codes: 0 well, 1 failed with a message, 2 "
           "refused with a message, 128 + n ended by signal n.\nAfterwards the same command runs "
           "once more undisturbed on the same store. The file is written by the\ntest: "
           "EXCISE_FAULT_TABLE=FILE.\n\n";
    out << "| fault | how | tries | outcome | the next run |\n|:--|:--|--:|:--|:--|\n";
    for (const Fault& fault : faults_) {
      out << "| " << fault.name << " | " << fault.what << " | " << fault.tries << " | ";
      const char* separator = "";
      for (const auto& [outcome, count] : fault.outcomes) {
        out << separator << outcome << " (" << count << ")";
        separator = ", ";
      }
      out << " | " << fault.promise << " |\n";
    }
  }
  Fault& Add(const std::string& name, const std::string& what) {
    faults_.push_back({name, what, "not tried", 0, {}});
    return faults_.back();
  }

 private:
  std::deque<Fault> faults_;
};

Fault& NewFault(const std::string& name, const std::string& what) {
  static FaultTable table;
  return table.Add(name, what);
}

void Count(Fault* fault, const ProcessResult& result) {
  ++fault->tries;
  ++fault->outcomes["exit " + std::to_string(result.code)];
}

// The rule.
ProcessResult CheckNextRun(Fault* fault, const fs::path& cache) {
  ProcessResult result = Run(cache);
  INFO(fault->name << "\n" << result.err);
  CHECK(result.code == 0);
  const bool same = result.code == 0 && Bytes(cache) == TheStraight().bytes;
  CHECK(same);
  // One wrong run is not made good by a later one.
  if (fault->promise != "WRONG") fault->promise = same ? "same bytes as undisturbed" : "WRONG";
  return result;
}

// Moments of a run, spread over its length.
class Moments {
 public:
  explicit Moments(const std::string& name) : rng_({1, name, 0, Stream::kOrder, 0}) {}
  void Pass() {
    const double seconds = rng_.Uniform(0.02, 1.0) * TheStraight().seconds;
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

 private:
  Philox rng_;
};

}  // namespace

TEST_CASE("kill -9 at any moment") {
  Fault& fault = NewFault("kill -9", "at moments spread over the run, on one store");
  const fs::path cache = TestFolder("killed");
  Moments moments("kill");
  for (int i = 0; i < 8; ++i) {
    Process process(kTable, Arguments(cache));
    moments.Pass();
    process.Signal(SIGKILL);
    const ProcessResult result = process.Wait();
    Count(&fault, result);
    // A run that was over before the moment came leaves no work for the next.
    if (result.code == 0) fs::remove_all(cache / "store");
  }
  CHECK(fault.outcomes["exit 137"] >= 1);
  CheckNextRun(&fault, cache);
}

TEST_CASE("SIGINT and SIGTERM end the run with 130 and 143") {
  for (const auto& [signal, name] : {std::pair(SIGINT, "SIGINT"), std::pair(SIGTERM, "SIGTERM")}) {
    Fault& fault = NewFault(name, "at moments spread over the run, on one store");
    const fs::path cache = TestFolder("signalled");
    Moments moments(name);
    for (int i = 0; i < 3; ++i) {
      // Work that does not end by itself, so that the signal always comes in time.
      Process process(kTable,
                      Arguments(cache, {"--set", "methods.esd.iterations=100000"}, "none,uce,esd"));
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      moments.Pass();
      process.Signal(signal);
      const ProcessResult result = process.Wait();
      INFO(result.err);
      CHECK(result.code == 128 + signal);
      CHECK(result.out.empty());
      Count(&fault, result);
    }
    CheckNextRun(&fault, cache);
  }
}

TEST_CASE("a full device takes neither the table nor the results") {
  Fault& fault = NewFault("full device", "stdout, --out and stderr on /dev/full");
  const fs::path cache = CopyOfStore("full");
  ProcessSetup setup;
  setup.out = "/dev/full";
  const ProcessResult table = Run(cache, setup);
  // Of files that are written together none is replaced where one cannot be written.
  fs::remove(cache / "out.json");
  fs::create_symlink("/dev/full", cache / "out.json");
  std::ofstream(cache / "out.md") << "of an earlier run";
  const ProcessResult results = Run(cache);
  CHECK(ReadBytes(cache / "out.md") == "of an earlier run");
  fs::remove(cache / "out.json");
  for (const ProcessResult& result : {table, results}) {
    CHECK(result.code == 1);
    CHECK_THAT(result.err, Contains("No space left on device"));
    Count(&fault, result);
  }
  // Where even messages find no room, the exit code tells.
  ProcessSetup mute;
  mute.in_child = [] {
    if (freopen("/dev/full", "w", stderr) == nullptr) _exit(99);
  };
  const ProcessResult good = Run(cache, mute), bad = Run(cache, mute, {"--wrokers=2"});
  CHECK(good.code == 0);
  CHECK(bad.code == 2);
  ProcessSetup both = mute;
  both.out = "/dev/full";
  const ProcessResult help = Process(kTable, {"--help"}, both).Wait();
  CHECK(help.code == 1);
  for (const ProcessResult& result : {good, bad, help}) Count(&fault, result);
  CheckNextRun(&fault, cache);
}

TEST_CASE("a limit of the size of files") {
  Fault& fault = NewFault("RLIMIT_FSIZE", "0, 1, 4 and 16 KB, on one store");
  const fs::path cache = TestFolder("limited");
  for (const rlim_t kilobytes : {0, 1, 4, 16}) {
    ProcessSetup setup;
    setup.in_child = [kilobytes] {
      const rlimit limit{kilobytes << 10, kilobytes << 10};
      setrlimit(RLIMIT_FSIZE, &limit);
    };
    const ProcessResult result = Run(cache, setup);
    INFO(kilobytes << "\n" << result.err);
    CHECK((result.code == 1 || result.code == 2));
    // With no byte to write, not even a message fits its file.
    if (kilobytes > 0) CHECK_THAT(result.err, Contains("File too large"));
    Count(&fault, result);
  }
  CheckNextRun(&fault, cache);
}

// As root the store is mounted read-only in a name space of the child's own; otherwise its folders
// lose the right to be written to.
TEST_CASE("a store that may only be read") {
  Fault& fault = NewFault("read-only store", "empty, and complete");
  for (const bool complete : {false, true}) {
    const fs::path cache = complete ? CopyOfStore("read_only") : TestFolder("read_only");
    fs::create_directories(cache / "store");
    const std::string store = (cache / "store").string();
    ProcessSetup setup;
    if (geteuid() == 0) {
      setup.in_child = [store] {
        const char* at = store.c_str();
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount(at, at, nullptr, MS_BIND, nullptr) != 0 ||
            mount(nullptr, at, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) {
          _exit(97);
        }
      };
    } else {
      fs::permissions(store, fs::perms::owner_read | fs::perms::owner_exec);
    }
    const ProcessResult result = Run(cache, setup);
    fs::permissions(store, fs::perms::owner_all);
    if (result.code == 97) {
      WARN("SKIPPED: this root may not mount; the read-only store was not tried.");
      return;
    }
    INFO(result.err);
    CHECK(result.code == 2);
    CHECK_THAT(result.err, Contains("--cache=DIR"));
    Count(&fault, result);
    CheckNextRun(&fault, cache);
  }
}

TEST_CASE("a file where the store has a folder") {
  Fault& fault = NewFault("misplaced file", "a plain file named store, .tmp, generate");
  for (const char* name : {"store", "store/.tmp", "store/generate"}) {
    const fs::path cache = TestFolder("misplaced");
    fs::create_directories((cache / name).parent_path());
    std::ofstream(cache / name) << "x";
    const ProcessResult result = Run(cache);
    INFO(name << "\n" << result.err);
    CHECK((result.code == 1 || result.code == 2));
    CHECK_THAT(result.err, Contains((cache / name).string()));
    Count(&fault, result);
    fs::remove(cache / name);
    CheckNextRun(&fault, cache);
  }
}

TEST_CASE("a link where the store has a folder") {
  Fault& fault = NewFault("link elsewhere", "to a folder of old files, at .tmp, generate");
  for (const char* name : {".tmp", "generate"}) {
    const fs::path cache = CopyOfStore("linked"), foreign = TestFolder("foreign");
    const fs::path file = foreign / "host.1.0.artifact";
    std::ofstream(file) << "x";
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(72));
    fs::remove_all(cache / "store" / name);
    fs::create_directory_symlink(foreign, cache / "store" / name);
    const ProcessResult result = Run(cache);
    INFO(name << "\n" << result.err);
    CHECK((result.code == 1 || result.code == 2));
    CHECK_THAT(result.err, Contains((cache / "store" / name).string() + " is a link"));
    CHECK(fs::exists(file));
    CHECK(std::distance(fs::directory_iterator(foreign), {}) == 1);
    Count(&fault, result);
    fs::remove(cache / "store" / name);
    CheckNextRun(&fault, cache);
  }
}

TEST_CASE("two processes on one store") {
  Fault& fault = NewFault("two processes", "at once on one empty store");
  const fs::path cache = TestFolder("two");
  Process first(kTable, Arguments(cache)), second(kTable, Arguments(cache));
  const ProcessResult a = first.Wait(), b = second.Wait();
  for (const ProcessResult& result : {a, b}) {
    INFO(result.err);
    CHECK(result.code == 0);
    CHECK_THAT(result.err, !Contains("other bytes") && !Contains("damaged"));
    Count(&fault, result);
  }
  CHECK(a.out == b.out);
  CheckNextRun(&fault, cache);
}

TEST_CASE("an artifact of each stage is damaged") {
  for (const auto& [name, damage] : Damages()) {
    Fault& fault = NewFault(name, "in one artifact of each stage");
    const fs::path cache = CopyOfStore("damaged");
    for (const char* stage : kStages)
      fault.tries += DamageStage(cache / "store", stage, damage, false);
    const ProcessResult result = CheckNextRun(&fault, cache);
    ++fault.outcomes["exit " + std::to_string(result.code)];
  }
}

// What is drawn from a damaged artifact would be wrong; here everything above it must be made anew.
TEST_CASE("all artifacts of a stage are damaged, and what was made of them is gone") {
  Fault& fault =
      NewFault("a stage damaged", "a flipped bit in all artifacts of a stage, later stages gone");
  for (size_t i = 0; i + 1 < std::size(kStages); ++i) {
    const fs::path cache = CopyOfStore("stage");
    for (size_t j = i + 1; j < std::size(kStages); ++j) {
      // Attacks are made from the base model, not from what methods made.
      if (!(i == 0 && j == 1)) fs::remove_all(cache / "store" / kStages[j]);
    }
    fault.tries += DamageStage(cache / "store", kStages[i], FlipBit, true);
    const ProcessResult result = CheckNextRun(&fault, cache);
    INFO(kStages[i] << "\n" << result.err);
    CHECK_THAT(result.err, Contains("is damaged"));
    ++fault.outcomes["exit " + std::to_string(result.code)];
  }
}

TEST_CASE("artifacts that are whole and wrong") {
  for (const Poison& poison : Poisons()) {
    Fault& fault = NewFault(poison.name, "in one artifact that its manifest calls whole");
    const fs::path cache = CopyOfStore("poisoned");
    PoisonStage(cache / "store", poison);
    ++fault.tries;
    const ProcessResult result = CheckNextRun(&fault, cache);
    INFO(poison.name << "\n" << result.err);
    CHECK_THAT(result.err, Contains("cannot be used") && Contains("recomputed"));
    ++fault.outcomes["exit " + std::to_string(result.code)];
  }
}

TEST_CASE("clocks that go backwards") {
  Fault& fault = NewFault("clock", "times of the store's files in 1970, in 2100, and mixed");
  for (const int kind : {0, 1, 2}) {
    const fs::path cache = CopyOfStore("clock");
    int64_t n = 0;
    for (const auto& entry : fs::recursive_directory_iterator(cache / "store")) {
      const bool future = kind == 1 || (kind == 2 && n++ % 2 == 0);
      const timespec time{future ? 4102444800 : 1, 0};
      const timespec times[2] = {time, time};
      REQUIRE(utimensat(AT_FDCWD, entry.path().c_str(), times, 0) == 0);
    }
    const ProcessResult result = CheckNextRun(&fault, cache);
    CHECK_THAT(result.err, !Contains("damaged"));
    Count(&fault, result);
  }
}

TEST_CASE("the store is deleted during the run") {
  Fault& fault = NewFault("deleted store", "at moments spread over the run");
  const fs::path cache = TestFolder("deleted");
  Moments moments("delete");
  for (int i = 0; i < 4; ++i) {
    Process process(kTable, Arguments(cache));
    moments.Pass();
    std::error_code ignored;
    fs::remove_all(cache / "store", ignored);
    const ProcessResult result = process.Wait();
    INFO(result.err);
    CHECK((result.code == 0 || result.code == 1));
    if (result.code == 1) CHECK_THAT(result.err, Contains("store"));
    if (result.code == 0) CHECK(Bytes(cache) == TheStraight().bytes);
    Count(&fault, result);
  }
  CheckNextRun(&fault, cache);
}

// A library below us may crash where memory ends: oneDNN writes through null, and LibTorch throws
// while it is loaded, before our first line. No result may be wrong, and no end silent.
TEST_CASE("memory that ends") {
  Fault& fault = NewFault("RLIMIT_AS", "450 to 850 MB, on one store");
  const fs::path cache = TestFolder("memory");
  for (const rlim_t megabytes : {450, 550, 650, 700, 750, 850}) {
    ProcessSetup setup;
    setup.in_child = [megabytes] {
      const rlimit limit{megabytes << 20, megabytes << 20};
      setrlimit(RLIMIT_AS, &limit);
    };
    const ProcessResult result = Run(cache, setup);
    INFO(megabytes << "\n" << result.err);
    if (result.code == 0) CHECK(Bytes(cache) == TheStraight().bytes);
    if (result.code != 0) CHECK_THAT(result.err, Contains("error: ") || Contains("bad_alloc"));
    Count(&fault, result);
  }
  CheckNextRun(&fault, cache);
}

}  // namespace excise
