// What nearly every file that sees a tensor includes, precompiled (tools/precompiled.bzl). A file
// still includes what it uses: `bazel build --config=plain //...` compiles without this one. Bazel
// sees changes of the headers below, not of this list: after one, `bazel clean`.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>
