#include "core/read_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "core/csv.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/npy.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const fs::path& Folder() {
  static const fs::path folder = TestFolder("read_file");
  return folder;
}

fs::path Save(const std::string& name, const std::string& bytes) {
  std::ofstream(Folder() / name, std::ios::binary) << bytes;
  return Folder() / name;
}

// A file that says to have `size` bytes and takes no room.
fs::path Sparse(const std::string& name, uint64_t size) {
  Save(name, "");
  fs::resize_file(Folder() / name, size);
  return Folder() / name;
}

// Everything that reads files whole.
const std::vector<std::function<void(const fs::path&)>> kReaders = {
    [](const fs::path& path) { ReadFile(path); },
    [](const fs::path& path) { Sha256HexOfFile(path); },
    [](const fs::path& path) { Sha256HexOfPath(path); },
    [](const fs::path& path) { ReadJsonFile(path); },
    [](const fs::path& path) { ReadRows(path); },
    [](const fs::path& path) { ReadNpy(path, 100); },
};

void RefusedByAll(const fs::path& path, const std::string& what) {
  for (const auto& read : kReaders) {
    CHECK_THROWS_AS(read(path), Error);
    CHECK_THROWS_WITH(read(path), Contains(path.string()) && Contains(what));
  }
}

}  // namespace

TEST_CASE("a pipe, a socket or a device is refused without waiting for it") {
  const fs::path pipe = Folder() / "pipe.csv";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  RefusedByAll(pipe, "is a pipe");
  // Also behind a link.
  fs::create_symlink(pipe, Folder() / "link.csv");
  RefusedByAll(Folder() / "link.csv", "is a pipe");

  // The name of a socket must be short, so it is made from inside its folder.
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::string("socket.csv").copy(address.sun_path, sizeof address.sun_path - 1);
  const fs::path before = fs::current_path();
  fs::current_path(Folder());
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  fs::current_path(before);
  RefusedByAll(Folder() / "socket.csv", "is a socket");
  close(fd);

  fs::create_symlink("/dev/zero", Folder() / "zero.csv");
  RefusedByAll(Folder() / "zero.csv", "is a device");
}

TEST_CASE("a pipe that nobody reads is not waited for when it is written") {
  const fs::path pipe = Folder() / "out";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(WriteFileAtomically(pipe, "x"), Contains("a pipe that nobody reads"));
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  WriteFileAtomically(pipe, "text");
  char read_back[5] = {};
  CHECK(read(reader, read_back, 4) == 4);
  CHECK(std::string(read_back) == "text");
  close(reader);
}

TEST_CASE("a folder, nothing and what may not be read are distinguished") {
  fs::create_directories(Folder() / "folder.csv");
  CHECK_THROWS_WITH(ReadFile(Folder() / "folder.csv"), Contains("is a folder"));
  CHECK_THROWS_WITH(ReadFile(Folder() / "none"), Contains("does not exist"));
  CHECK_THROWS_WITH(ReadFile(Save("file", "x") / "below"), Contains("Not a directory"));
  fs::create_symlink("loop", Folder() / "loop");
  CHECK_THROWS_WITH(ReadFile(Folder() / "loop"), Contains("cannot be read"));
}

TEST_CASE("a file above the limit is refused before a byte is read") {
  const fs::path path = Sparse("huge.csv", uint64_t{300} << 30);
  const std::vector<std::function<void()>> readers = {
      [&] { ReadFile(path); }, [&] { ReadJsonFile(path); }, [&] { ReadRows(path); },
      [&] { ReadNpy(path, 100); }};
  for (const auto& read : readers)
    CHECK_THROWS_WITH(read(), Contains("322122547200 bytes; at most"));
  CHECK(ReadFile(Save("ten", "0123456789"), 10) == "0123456789");
  CHECK_THROWS_WITH(ReadFile(Folder() / "ten", 9), Contains("10 bytes; at most 9"));
}

TEST_CASE("all bytes are read, whatever the file says of its size") {
  for (const size_t size : {0, 1, 4095, 4096, 4097, 3000000}) {
    const std::string bytes(size, 'a');
    CHECK(ReadFile(Save("bytes", bytes)) == bytes);
  }
  CHECK_THAT(ReadFile("/proc/self/status"), Contains("Pid:"));  // says 0
  const RegularFile file(Save("parts", "abcdef"));
  CHECK(file.ReadAt(2, 3) == "cde");
  CHECK(file.ReadAt(6, 0).empty());
  CHECK_THROWS_WITH(file.ReadAt(4, 3), Contains("became shorter"));
}

TEST_CASE("a signal ends long reads, and leaves short ones alone") {
  const fs::path small = Save("small.json", "[1, 2]"), large = Sparse("large", uint64_t{32} << 20);
  std::string rows = "a\n", values = "[0";
  for (int i = 0; i < 300000; ++i) {
    rows += "1\n";
    values += ",1";
  }
  values += "]";
  const pid_t child = fork();
  if (child == 0) {
    InstallInterruptHandlers();
    raise(SIGTERM);
    int status = ReadJsonFile(small).size() == 2 ? 0 : 1;
    const std::vector<std::function<void()>> long_reads = {
        [&] { Sha256HexOfFile(large); }, [&] { ReadFile(large, UINT64_MAX); },
        [&] { ParseCsv(rows, "rows"); }, [&] { ParseJson(values, "values"); }};
    for (const auto& read : long_reads) {
      try {
        read();
        status = 2;
      } catch (const Interrupted&) {
      }
    }
    _exit(status);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace excise
