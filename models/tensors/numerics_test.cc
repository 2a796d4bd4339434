#include "models/tensors/numerics.h"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "core/error.h"

namespace excise {
namespace {

// Instruction sets are chosen once a process, so profiles are tested in processes of their own: the
// hidden test cases below, run by this program.
std::string RunHidden(const std::string& name, const std::string& environment = "") {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = "env " + environment + " '" + program + "' '" + name + "' 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  std::array<char, 4096> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
  pclose(pipe);
  return output;
}

Json HiddenNumerics(const std::string& name, const std::string& environment = "") {
  const std::string output = RunHidden(name, environment);
  const size_t begin = output.find("NUMERICS{");
  INFO(output);
  REQUIRE(begin != std::string::npos);
  return ParseJson(output.substr(begin + 8, output.find('\n', begin) - begin - 8), name);
}

TEST_CASE("hidden: golden", "[.hidden]") {
  PinGolden();
  std::printf("NUMERICS%s\n", CanonicalJson(Numerics()).c_str());
}

TEST_CASE("hidden: own", "[.hidden]") {
  std::printf("NUMERICS%s\n", CanonicalJson(Numerics()).c_str());
}

TEST_CASE("hidden: late", "[.hidden]") {
  at::ones({4}).exp();
  try {
    PinGolden();
    std::printf("ACCEPTED\n");
  } catch (const Error& e) {
    std::printf("REFUSED %s\n", e.what());
  }
}

TEST_CASE("the golden profile pins AVX2, MKL and one thread, and repeats its bytes") {
  const Json first = HiddenNumerics("hidden: golden");
  CHECK(first["isa"] == "AVX2");
  CHECK(first["mkl_cbwr"] == "COMPATIBLE");
  CHECK(first["onednn_isa"] == "AVX2");
  CHECK(first["intra_op_threads"] == 1);
  CHECK(first["deterministic"] == true);
  CHECK(first["fingerprint"].get<std::string>().size() == 64);
  // Whatever the caller's environment says.
  CHECK(HiddenNumerics("hidden: golden",
                       "ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2 MKL_CBWR=AVX2") == first);
}

TEST_CASE("the fingerprint repeats and does not depend on the number of threads") {
  const std::string one = HiddenNumerics("hidden: own", "OMP_NUM_THREADS=1")["fingerprint"];
  const std::string two = HiddenNumerics("hidden: own", "OMP_NUM_THREADS=2")["fingerprint"];
  CHECK(one == two);
}

TEST_CASE("the fingerprint distinguishes instruction sets") {
  const std::string scalar = HiddenNumerics(
      "hidden: own", "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41")["fingerprint"];
  const std::string golden = HiddenNumerics("hidden: golden")["fingerprint"];
  CHECK(scalar != golden);
}

TEST_CASE("PinGolden refuses to come too late where another instruction set was chosen") {
  CHECK_THAT(RunHidden("hidden: late", "ATEN_CPU_CAPABILITY=default"),
             Catch::Contains("REFUSED") && Catch::Contains("start of main"));
}

TEST_CASE("each worker thread computes on one thread") {
  UseOneThreadPerWorker();
  CHECK(at::get_num_threads() == 1);
  int threads = 0;
  std::thread([&] {
    UseOneThreadPerWorker();
    threads = at::get_num_threads();
  }).join();
  CHECK(threads == 1);
  CHECK(Numerics()["deterministic"] == true);
}

}  // namespace
}  // namespace excise
