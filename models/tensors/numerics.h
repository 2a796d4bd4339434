// Device, dtype and the settings that decide bytes: threads, instruction sets, determinism.
#pragma once

#include <string>

#include "core/json.h"
#include "models/tensors/compute.h"

namespace excise {

// Sets ATen AVX2, oneDNN AVX2, MKL COMPATIBLE and one intra-op thread before the first op (by
// environment variables; call at the start of main). Throws Error on a CPU without AVX2, or when
// ATen has chosen another instruction set already.
void PinGolden();

// Keeps ATen, oneDNN and MKL to the instruction sets that a run of another machine names in its
// Numerics, where they are narrower than this CPU's; what this CPU lacks, or nobody knows, is left
// alone. Before the first op, as PinGolden. Returns whether anything was changed.
bool NarrowTo(const std::string& isa, const std::string& onednn_isa, const std::string& mkl_cbwr);

// One intra-op and one inter-op thread, deterministic algorithms: workers are threads of their own.
// Thread counts belong to the calling thread, so a worker calls this before its first op (main's
// call does not reach it). Repeating it costs nothing.
void UseOneThreadPerWorker();

// {device, dtype, intra_op_threads, isa, mkl_cbwr, onednn_isa, libtorch, deterministic,
// fingerprint}: part of every key. `device` names the GPU and its driver, `libtorch` the build that
// is linked (version and part of its hash), `onednn_isa` what oneDNN was limited to or finds here.
Json Numerics(const Compute& compute = {});

// Hash of a fixed battery of forward and backward ops (about 100 ms): equal bytes, equal hash. Run
// on one thread; remembered for the life of the process.
std::string NumericsFingerprint();

}  // namespace excise
