// The upkeep of stores as a user does it: parts of a table from machines without a common disk made
// one, what no results file needs removed.
#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "core/store_contents.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

ProcessResult RunTable(const fs::path& cache, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {RepoFile("tests/tiny.json").string(),
                                        "--methods=none,uce",
                                        "--attacks=none",
                                        "--concepts=poodle",
                                        "--metrics=asr",
                                        "--cache=" + cache.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunProcess("EXCISE_TABLE", arguments);
}

ProcessResult RunStore(const std::vector<std::string>& arguments) {
  return RunProcess("EXCISE_STORE", arguments);
}

std::string Out(const fs::path& file) { return "--out=" + file.string(); }

size_t CountIn(const fs::path& cache) { return ContentsOf(cache / "store").size(); }

}  // namespace

TEST_CASE("parts of a table from two machines, merged, are the table of one") {
  const fs::path folder = TestFolder("store_program_merge");
  const fs::path first = folder / "a", second = folder / "b", whole = folder / "c";
  REQUIRE(RunTable(first, {"--shard=0/2"}).code == 0);
  REQUIRE(RunTable(second, {"--shard=1/2"}).code == 0);
  const size_t in_first = CountIn(first), in_second = CountIn(second);
  const ProcessResult merged = RunStore({"merge", first.string(), second.string()});
  INFO(merged.err);
  REQUIRE(merged.code == 0);
  CHECK_THAT(merged.out, Contains("copied") && Contains("0 damaged"));
  CHECK(CountIn(first) > in_first);
  CHECK(CountIn(second) == in_second);
  // Once more: nothing is left to copy.
  CHECK_THAT(RunStore({"merge", first.string(), second.string()}).out,
             Contains("0 artifacts copied"));

  REQUIRE(RunTable(first, {Out(folder / "merged.json")}).code == 0);
  REQUIRE(RunTable(whole, {Out(folder / "whole.json")}).code == 0);
  CHECK(ReadBytes(folder / "merged.rows.jsonl") == ReadBytes(folder / "whole.rows.jsonl"));
  CHECK(ReadBytes(folder / "merged.md") == ReadBytes(folder / "whole.md"));
  CHECK_THAT(RunStore({"du", whole.string()}).out, Contains("generate") && Contains("all"));
}

TEST_CASE("what is damaged in a part is said and not copied, all else is") {
  const fs::path folder = TestFolder("store_program_damaged");
  const fs::path part = folder / "part", whole = folder / "whole";
  REQUIRE(RunTable(part, {"--stage=generate"}).code == 0);
  const StoredArtifact one = ContentsOf(part / "store").back();
  for (const auto& file :
       fs::directory_iterator(part / "store" / one.stage / one.digest.substr(0, 2) / one.digest)) {
    if (file.path().filename() != "manifest.json") std::ofstream(file.path()) << "junk";
  }
  const ProcessResult merged = RunStore({"merge", whole.string(), part.string()});
  CHECK(merged.code == 1);
  CHECK_THAT(merged.err, Contains("1 artifact was not copied"));
  CHECK(CountIn(whole) == CountIn(part) - 1);
  REQUIRE(RunTable(whole, {Out(folder / "t.json")}).code == 0);
}

TEST_CASE("gc keeps what a results file was made of, and nothing else") {
  const fs::path folder = TestFolder("store_program_gc");
  const fs::path cache = folder / "cache", kept = folder / "kept.json";
  REQUIRE(RunTable(cache, {Out(kept)}).code == 0);
  const std::string rows = ReadBytes(folder / "kept.rows.jsonl");
  const size_t needed = CountIn(cache);
  REQUIRE(RunTable(cache, {"--set", "seeds.noise=2", Out(folder / "other.json")}).code == 0);
  const size_t all = CountIn(cache);
  REQUIRE(all > needed);

  const std::string keep = "--keep=" + kept.string();
  CHECK_THAT(RunStore({"gc", cache.string(), keep}).out, Contains("0 artifacts removed"));
  CHECK(CountIn(cache) == all);  // all of it is young
  const std::string now = "--older_than=0";
  CHECK_THAT(RunStore({"gc", cache.string(), keep, now, "--dry_run"}).out, Contains("would go"));
  CHECK(CountIn(cache) == all);
  const ProcessResult collected = RunStore({"gc", cache.string(), keep, now});
  INFO(collected.err);
  REQUIRE(collected.code == 0);
  const size_t left = CountIn(cache);
  CHECK(left < all);
  // The run that made the file finds all that it wants.
  REQUIRE(RunTable(cache, {Out(folder / "again.json")}).code == 0);
  CHECK(CountIn(cache) == left);
  CHECK(ReadBytes(folder / "again.rows.jsonl") == rows);
}

TEST_CASE("what cannot be meant is refused, and nothing is removed or copied") {
  const fs::path folder = TestFolder("store_program_refused");
  const fs::path cache = folder / "cache", other = folder / "other";
  REQUIRE(RunTable(cache, {Out(folder / "t.json")}).code == 0);
  REQUIRE(RunTable(other, {"--set", "seeds.noise=3", "--stage=generate"}).code == 0);
  const size_t before = CountIn(cache), there = CountIn(other);
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& word) {
    const ProcessResult result = RunStore(arguments);
    INFO(result.err);
    CHECK(result.code == 2);
    CHECK_THAT(result.err, Contains(word));
  };
  refused({"du", (folder / "nowhere").string()}, "no store");
  refused({"merge", cache.string(), (folder / "nowhere").string()}, "no store");
  refused({"merge", cache.string(), cache.string()}, "itself");
  refused({"gc", cache.string()}, "--keep");
  refused({"gc", other.string(), "--keep=" + (folder / "t.json").string(), "--older_than=0"},
          "nothing of it is in this store");
  refused({"gc", cache.string(), "--keep=" + (folder / "t.json").string(), "--older_than=-1"},
          "older_than");
  refused({}, "subcommand");
  const ProcessResult missing =
      RunStore({"gc", cache.string(), "--keep=" + (folder / "no.json").string()});
  CHECK(missing.code != 0);
  CHECK_THAT(missing.err, Contains("no.json"));
  CHECK(CountIn(cache) == before);
  CHECK(CountIn(other) == there);
}

}  // namespace excise
