// How what the stages store becomes bytes, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/json.h"
#include "core/store.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "models/tensors/state_dict.h"

namespace excise {

// A stored artifact that is whole, but not what its key stands for: a faulty program wrote it, or a
// hand. Where a stage reads it, it is removed and computed anew.
class Misfit : public Error {
 public:
  using Error::Error;
};

// So many of something, and where: "4 verdicts in STORE/judge/ab/.../verdicts.json".
struct HowMany {
  int64_t n = 0;
  std::string what, where;
};
// The one check where two artifacts meet, or one and the grid: entry i of the first belongs to
// entry i of the second. Throws Misfit naming both.
void RequireAsMany(const HowMany& first, const HowMany& second);

// Joins the tensors of an edited model under one name space ("unet/..."), and splits them again.
// Splitting throws Misfit for a name outside.
StateDict JoinTensors(const Erased& erased);
Erased SplitTensors(const StateDict& all);
// The bytes of a safetensors file; it is written in `folder` on the way.
std::string TensorBytes(const StateDict& tensors, const std::filesystem::path& folder);

// Pictures uint8 (n, 3, h, w) as raw bytes; the other way round of the `shape` that they must have.
// Throws Misfit, naming `where`, when the bytes or the shape `stored` with them are others.
std::string PictureBytes(const at::Tensor& images);
at::Tensor PicturesFrom(const std::string& bytes, const Json& stored,
                        const std::vector<int64_t>& shape, const std::string& where);

// The same of what an attack on a concept learnt; what its prompts need stands under "learnt/".
StateDict JoinTensors(const Learnt& learnt);
Learnt SplitLearnt(const StateDict& all);

Json LedgerToJson(const Ledger& ledger);
Ledger LedgerFromJson(const Json& json);  // throws Misfit, too
Json PromptToJson(const Prompt& prompt);
Prompt PromptFromJson(const Json& json);
Json TrajectoryToJson(const Trajectory& trajectory);
Trajectory TrajectoryFromJson(const Json& json);  // throws Misfit, too
Json SignalsToJson(const Signals& signals);
Signals SignalsFromJson(const Json& json);  // throws Misfit where one is not finite
Json VerdictsToJson(const std::vector<Verdict>& verdicts);
std::vector<Verdict> VerdictsFromJson(const Json& json);
// float32 (n, names), row by row; the names as [kind, name].
std::string ScoreBytes(const at::Tensor& scores);
Json ScoreNamesToJson(const std::vector<ScoreName>& names);

// The files of an artifact. Throw Misfit when it has none of that name or the file is not what its
// name says, and what Artifact::Read throws.
std::string BytesOf(const Artifact& artifact, const std::string& name);
Json ReadJson(const Artifact& artifact, const std::string& name);
StateDict TensorsOf(const Artifact& artifact, const std::string& name);

// A whole number from 0. Throws Misfit.
int64_t NumberFrom(const Json& json, const std::string& what);

}  // namespace excise
