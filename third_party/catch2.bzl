"""Catch2 as the distribution has it: version 2 (Debian 12), or 3 under the names of version 2."""

_VERSION_2 = """\
cc_library(
    name = "catch2",
    testonly = True,
    linkopts = ["-lCatch2WithMain"],
    visibility = ["//visibility:public"],
)
"""

_VERSION_3 = """\
cc_library(
    name = "catch2",
    testonly = True,
    hdrs = ["include/catch2/catch.hpp"],
    includes = ["include"],
    linkopts = ["-lCatch2Main", "-lCatch2"],
    visibility = ["//visibility:public"],
)
"""

# What tests include, and the names that moved.
_HEADER = """\
#pragma once
#include <catch2/catch_all.hpp>

#include <string>

using Catch::Approx;

namespace Catch {
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
using Matchers::EndsWith;
using Matchers::Matches;
using Matchers::StartsWith;
namespace Matchers::Impl {
template <class T>
using MatcherBase = Matchers::MatcherBase<T>;
}  // namespace Matchers::Impl
}  // namespace Catch
"""

def _catch2(rctx):
    if rctx.path("/usr/include/catch2/catch_all.hpp").exists:
        rctx.file("include/catch2/catch.hpp", _HEADER)
        rctx.file("BUILD", "load(\"@rules_cc//cc:defs.bzl\", \"cc_library\")\n" + _VERSION_3)
    else:
        rctx.file("BUILD", "load(\"@rules_cc//cc:defs.bzl\", \"cc_library\")\n" + _VERSION_2)

catch2_repository = repository_rule(implementation = _catch2, local = True)
