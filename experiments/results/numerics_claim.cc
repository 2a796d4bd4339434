#include "experiments/results/numerics_claim.h"

#include <fmt/format.h>

#include "models/tensors/numerics.h"

namespace excise {
namespace {

std::string Said(const Json& numerics, const char* key) {
  const auto found = numerics.find(key);
  if (found == numerics.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

bool Golden(const Json& results) { return results.at("experiment").at("golden").get<bool>(); }

// The settings with which bytes are the same on every CPU that has AVX2.
bool Pinned(const Json& numerics) {
  return Said(numerics, "isa") == "AVX2" && Said(numerics, "onednn_isa") == "AVX2" &&
         Said(numerics, "mkl_cbwr") == "COMPATIBLE";
}

}  // namespace

bool PinAsIn(const Json& results) {
  const Json& numerics = results.at("inputs").at("numerics");
  if (Golden(results) || Pinned(numerics)) {
    PinGolden();
    return true;
  }
  const bool narrowed =
      NarrowTo(Said(numerics, "isa"), Said(numerics, "onednn_isa"), Said(numerics, "mkl_cbwr"));
  UseOneThreadPerWorker();
  return narrowed;
}

std::string NumericsDoubt(const Json& results, const Json& here, const std::string& cpu) {
  const Json& there = results.at("inputs").at("numerics");
  const std::string computed =
      fmt::format("here they give the fingerprint {:.8}, in the file is {:.8}",
                  Said(here, "fingerprint"), Said(there, "fingerprint"));
  for (const char* key : {"dtype", "intra_op_threads", "deterministic"}) {
    if (Said(there, key) != Said(here, key)) {
      return fmt::format("{} is {} in the file and {} in every run of this program", key,
                         Said(there, key), Said(here, key));
    }
  }
  if (Golden(results)) {
    if (Said(there, "libtorch") != Said(here, "libtorch")) {
      return fmt::format(
          "LibTorch {} computed the file and this program has {}; a golden profile is compared bit "
          "for bit, with the same LibTorch",
          Said(there, "libtorch"), Said(here, "libtorch"));
    }
    return "the golden profile pins the instruction sets, which compute the same on every CPU; " +
           computed;
  }
  for (const char* key : {"device", "isa", "onednn_isa", "mkl_cbwr", "libtorch"}) {
    if (Said(there, key) != Said(here, key)) return "";
  }
  if (Pinned(there)) {
    return "the file names instruction sets that compute the same on every CPU; " + computed;
  }
  const std::string named = Said(results.at("provenance"), "host_cpu");
  if (cpu.empty() || named != cpu) return "";
  return fmt::format("the file names the instruction sets and the CPU of this machine ({}); {}",
                     named, computed);
}

std::string NumericsInWords(const Json& numerics, const std::string& cpu) {
  const std::string mkl = Said(numerics, "mkl_cbwr");
  return fmt::format("{}, {}, oneDNN {}, MKL {}, LibTorch {}", cpu, Said(numerics, "isa"),
                     Said(numerics, "onednn_isa"), mkl.empty() ? "unpinned" : mkl,
                     Said(numerics, "libtorch"));
}

}  // namespace excise
