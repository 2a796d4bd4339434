"""What every room of the repository is made of: a library, tests, benchmarks, plug-ins.

A file's name says what it is, so a new file needs no other edit:
  x_test.cc       a cc_test
  x_benchmark.cc  a cc_binary with Google Benchmark
  x_main.cc       a cc_binary x
  x.cc            part of the room's library; in a plug-in room, where no x.h stands beside it, a
                  plug-in
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_NOT_LIBRARY = ["*_test.cc", "*_benchmark.cc", "*_main.cc"]

# What tests may read.
_TEST_DATA = ["//tests:fixtures"]

# Rooms that know no LibTorch.
_WITHOUT_TENSORS = ["core"]

def _precompiled(name):
    """Flags and dependencies with which the files of this room take a precompiled header."""
    if native.package_name() in _WITHOUT_TENSORS:
        return struct(copts = [], deps = [])
    header = "$(BINDIR)/third_party/%s/%s.h" % (name, name)

    # -fpch-deps: else the compiler does not tell Bazel of the headers inside.
    plain = "//third_party:plain"
    return struct(
        copts = select({plain: [], "//conditions:default": ["-include", header, "-Winvalid-pch", "-fpch-deps"]}),
        deps = select({plain: [], "//conditions:default": ["//third_party:" + name]}),
    )

def _stem(path):
    return path.rpartition("/")[2].rpartition(".")[0]

def room_library(name, deps, visibility, srcs = None, exclude = [], hdrs = None):
    """The library of a room: every .cc and .h that is not a test, a benchmark or a main."""
    precompiled = _precompiled("precompiled")
    cc_library(
        name = name,
        srcs = native.glob(["*.cc"], exclude = _NOT_LIBRARY + exclude) if srcs == None else srcs,
        hdrs = native.glob(["*.h"]) if hdrs == None else hdrs,
        # Every program is linked statically: a shared library would be linked for nobody.
        linkstatic = 1,
        copts = precompiled.copts,
        deps = deps + precompiled.deps,
        visibility = visibility,
    )
    native.filegroup(
        name = "sources",
        srcs = native.glob(["*.cc", "*.h", "*.md", "BUILD"], allow_empty = True),
        visibility = ["//tests:__pkg__"],
    )

def contract_test_library(name, src, deps):
    """A contract's tests, compiled once: each plug-in's own target links them with it alone."""
    precompiled = _precompiled("precompiled_test")
    cc_library(
        name = name,
        testonly = True,
        srcs = [src],
        # Nothing refers to a test, it registers itself.
        alwayslink = 1,
        copts = precompiled.copts,
        linkstatic = 1,
        visibility = ["//visibility:public"],
        deps = deps + ["//tests:testdata", "//third_party:catch2"] + precompiled.deps,
    )

def room_test(name, src, deps, data, size = "medium", env = {}):
    precompiled = _precompiled("precompiled_test")
    cc_test(
        name = name,
        size = size,
        env = env,
        srcs = [src],
        copts = precompiled.copts,
        data = _TEST_DATA + data,
        deps = deps + ["//tests:testdata", "//third_party:catch2"] + precompiled.deps,
    )

def room_tests(deps, data = [], exclude = [], size = "medium"):
    """A cc_test for every *_test.cc and a cc_binary for every *_benchmark.cc."""
    for src in native.glob(["*_test.cc"], exclude = exclude):
        room_test(_stem(src), src, deps, data, size)
    for src in native.glob(["*_benchmark.cc"]):
        cc_binary(
            name = _stem(src),
            srcs = [src],
            data = data,
            deps = deps + ["//third_party:benchmark"],
        )

def room_mains(deps, data = [], exclude = []):
    """A cc_binary x for every x_main.cc."""
    precompiled = _precompiled("precompiled")
    for src in native.glob(["*_main.cc"], exclude = exclude):
        cc_binary(
            name = _stem(src)[:-len("_main")],
            srcs = [src],
            copts = precompiled.copts,
            data = data,
            deps = deps + ["//core:version", "//third_party:cli11", "//third_party:fmt"] + precompiled.deps,
            visibility = ["//visibility:public"],
        )

# The comment that opens a plug-in's file, as a C++ file that registers it.
_CARD = """\
{ echo '#include "core/card.h"'; echo 'namespace {';
  printf '[[maybe_unused]] const bool kRegistered =\\n    (excise::RegisterCard("%s", "%s", R"card(' 'KIND' 'NAME';
  sed -n '/^[/][/]/!q; p' $(location SRC);
  echo ')card"), true);'; echo '}  // namespace'; } > $@
"""

def plugin_room(name, kind, deps, visibility, plugin_deps = [], support = [], data = []):
    """A room of plug-ins: a library of what they share, and one target for each.

    Args:
      name: of the room; the library has the same name, all plug-ins together are `plugins`.
      kind: "method", "attack", ...; //tests:contract_<kind>_test is run on each plug-in alone.
      deps: of the library.
      visibility: of the library. The plug-ins are visible to tables and tests alone.
      plugin_deps: of every plug-in, beside the library.
      support: .cc files that have no header of their own and are no plug-ins.
      data: what plug-ins and tests read.
    """
    headers = native.glob(["*.h"])
    sources = native.glob(["*.cc"], exclude = _NOT_LIBRARY)
    shared = [s for s in sources if _stem(s) + ".h" in headers or s in support]
    plugins = [_stem(s) for s in sources if s not in shared]
    room_library(name, deps, visibility, srcs = shared, hdrs = headers)
    precompiled = _precompiled("precompiled")

    for plugin in plugins:
        native.genrule(
            name = plugin + "_card",
            srcs = [plugin + ".cc"],
            outs = [plugin + "_card.gen.cc"],
            cmd = _CARD.replace("KIND", kind).replace("NAME", plugin).replace("SRC", plugin + ".cc"),
        )

        # alwayslink: nothing refers to a plug-in, it registers itself.
        cc_library(
            name = plugin,
            srcs = [plugin + ".cc", plugin + "_card.gen.cc"],
            alwayslink = 1,
            copts = precompiled.copts,
            data = data,
            linkstatic = 1,
            visibility = ["//experiments:__subpackages__", "//tests:__pkg__"],
            deps = [":" + name] + plugin_deps + precompiled.deps,
        )
        cc_test(
            name = plugin + "_contract_test",
            size = "medium",
            data = _TEST_DATA + data,
            deps = [":" + plugin, "//tests:contract_%s_test" % kind],
        )

    cc_library(
        name = "plugins",
        visibility = ["//experiments:__subpackages__", "//tests:__pkg__"],
        deps = [":" + plugin for plugin in plugins],
    )

    # uce_test.cc sees the library and uce alone; a test that is named after no plug-in sees all.
    for src in native.glob(["*_test.cc"]):
        unit = _stem(src)[:-len("_test")]
        seen = ":" + unit if unit in plugins else ":plugins"
        if unit + ".cc" in shared or unit + ".h" in headers:
            seen = ":" + name
        room_test(
            _stem(src),
            src,
            [seen, "//tests:tiny_models"] + ([":" + name] if seen != ":" + name else []),
            data,
        )
    for src in native.glob(["*_benchmark.cc"]):
        cc_binary(
            name = _stem(src),
            srcs = [src],
            data = data,
            deps = [":plugins", "//third_party:benchmark"],
        )
