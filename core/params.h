// Typed parameters: one Fields() function per struct gives defaults, strict decoding from JSON,
// canonical encoding (the cache key), help text and `--set` overrides.
//
//   struct Params {
//     double lambda = 0.1;
//     std::string variant = "paper";
//     void Fields(ParamVisitor& v) {
//       v.Number("lambda", &lambda, "weight of the original map", {.min = 0.0});
//       v.Choice("variant", &variant, "which form", {"paper", "released"});
//     }
//   };
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace excise {

struct NumberRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
struct IntegerRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

class Parameterised;

// A plug-in that is a part of another one, with settings of its own.
struct Part {
  std::string plugin;
  std::shared_ptr<Parameterised> settings;
};
// A fresh plug-in of a name. Throws UsageError for an unknown one.
using PartMaker = std::function<std::shared_ptr<Parameterised>(const std::string& plugin)>;

class ParamVisitor {
 public:
  virtual ~ParamVisitor() = default;
  virtual void Flag(std::string_view name, bool* value, std::string_view help) = 0;
  virtual void Integer(std::string_view name, int64_t* value, std::string_view help,
                       IntegerRange range = {}) = 0;
  virtual void Number(std::string_view name, double* value, std::string_view help,
                      NumberRange range = {}) = 0;
  virtual void Text(std::string_view name, std::string* value, std::string_view help) = 0;
  virtual void Choice(std::string_view name, std::string* value, std::string_view help,
                      const std::vector<std::string>& allowed) = 0;
  virtual void Texts(std::string_view name, std::vector<std::string>* value,
                     std::string_view help) = 0;
  // A file or folder of the user, "" when none is given. A relative path starts where the user
  // stands; one that does not exist is refused. Its content, not its name, belongs in keys.
  virtual void Path(std::string_view name, std::string* value, std::string_view help) = 0;
  // Plug-ins with settings of their own: a list of objects {"plugin": NAME, and its fields}.
  virtual void Parts(std::string_view name, std::vector<Part>* value, std::string_view help,
                     const PartMaker& make) = 0;
};

// Anything with parameters; plug-ins derive from it.
class Parameterised {
 public:
  virtual ~Parameterised() = default;
  virtual void Fields(ParamVisitor& visitor) = 0;
  // Fields of which at least one must be set before this can be used: "file" of a plug-in that
  // reads the user's. Tables leave such a plug-in out until it is set.
  virtual std::vector<std::string> needs_one_of() const { return {}; }
};

// Values that each field of a plug-in may take when its defaults are tuned
// (experiments/check/tune.h).
using SearchSpace = std::map<std::string, std::vector<Json>>;

// Sets the fields named in `object` (a JSON object). Unknown key, wrong type or value out of range:
// UsageError with `origin`, the JSON pointer and, for a key, the nearest known one.
void DecodeParams(const Json& object, Parameterised& target, std::string_view origin);

// What stands for the user's files and folders: the whole path (to decode again), the last part of
// it (for results), or nothing (for keys, which carry digests instead).
enum class PathForm { kWhole, kName, kLeftOut };

// All fields, defaults included.
Json EncodeParams(Parameterised& source, PathForm paths = PathForm::kWhole);

// The user's files and folders that are given: field -> path; of parts "members/0/weights" -> path.
std::map<std::string, std::string> PathsOf(Parameterised& source);

// Why `source` cannot be used as it is set ("none of 'folder', 'lora' is set"), or "".
std::string MissingSetting(Parameterised& source);

// "name (type, default, range): help", a line each.
std::string DescribeParams(Parameterised& source);

}  // namespace excise
