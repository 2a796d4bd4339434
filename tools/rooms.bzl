"""What every room of the repository is made of: a library, tests, benchmarks, plug-ins.

A file's name says what it is, so a new file needs no other edit:
  x_test.cc       a cc_test
  x_benchmark.cc  a cc_binary with Google Benchmark
  x_main.cc       a cc_binary x
  x.cc            part of the room's library; in a plug-in room, where no x.h stands beside it, a
                  plug-in
A plug-in with helpers has a folder: there, x.cc beside x.h is a helper of that folder's plug-ins alone.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_NOT_LIBRARY = ["*_test.cc", "*_benchmark.cc", "*_main.cc"]

# What tests may read.
_TEST_DATA = ["//tests:fixtures"]

# Rooms that know no LibTorch.
_WITHOUT_TENSORS = [
    "core",
    "datasets/formats",
    "experiments/formats",
    "models/formats",
]

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

def _library(name, srcs, hdrs, deps, visibility = None):
    precompiled = _precompiled("precompiled")
    cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        # Every program is linked statically: a shared library would be linked for nobody.
        linkstatic = 1,
        copts = precompiled.copts,
        deps = deps + precompiled.deps,
        visibility = visibility,
    )

def room_library(name, deps, visibility, srcs = None, exclude = []):
    """The library of a room: every .cc and .h that is not a test, a benchmark or a main."""
    if srcs == None:
        srcs = native.glob(["*.cc"], exclude = _NOT_LIBRARY + exclude, allow_empty = True)
    _library(name, srcs, native.glob(["*.h"], allow_empty = True), deps, visibility)
    native.filegroup(
        name = "sources",
        srcs = native.glob(["**/*.cc", "**/*.h", "**/*.md", "BUILD"], allow_empty = True),
        visibility = ["//tests:__pkg__"],
    )

def sub_rooms(rooms):
    """The libraries of the rooms in this one."""
    return ["//%s/%s" % (native.package_name(), room) for room in rooms]

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
            testonly = True,
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

# A folder of files to be copied: built and tested as plug-ins, and in no table.
_TEMPLATES = "templates"

def _folders():
    """Folders of this room that are no package of their own: of plug-ins with helpers."""
    paths = native.glob(["*/*.cc"], exclude = [_TEMPLATES + "/*"], allow_empty = True)
    return sorted({path.partition("/")[0]: None for path in paths})

def _plugin(name, kind, source, deps, data, **kwargs):
    """One plug-in with its card and its contract test."""
    native.genrule(
        name = name + "_card_source",
        srcs = [source],
        outs = [name + "_card.gen.cc"],
        cmd = _CARD.replace("KIND", kind).replace("NAME", _stem(source)).replace("SRC", source),
    )

    # Text alone: a library of its own, without the precompiled header, which takes longer to load.
    cc_library(
        name = name + "_card",
        srcs = [name + "_card.gen.cc"],
        alwayslink = 1,
        linkstatic = 1,
        deps = ["//core"],
    )
    precompiled = _precompiled("precompiled")

    # alwayslink: nothing refers to a plug-in, it registers itself.
    cc_library(
        name = name,
        srcs = [source],
        alwayslink = 1,
        copts = precompiled.copts,
        data = data,
        linkstatic = 1,
        deps = deps + [":%s_card" % name] + precompiled.deps,
        **kwargs
    )
    cc_test(
        name = name + "_contract_test",
        size = "medium",
        data = _TEST_DATA + data,
        deps = [":" + name, "//tests:contract_%s_test" % kind],
    )

def plugin_room(name, kind, deps, visibility, plugin_deps = [], data = [], test_data = {}):
    """A room of plug-ins: a library of what they share, and one target for each.

    What lies in templates/ is there to be copied: built and tested as a plug-in, and in no table.

    Args:
      name: of the room; the library has the same name, all plug-ins together are `plugins`.
      kind: "method", "attack", ...; //tests:contract_<kind>_test is run on each plug-in alone.
      deps: of the library.
      visibility: of the library. The plug-ins are visible to tables and tests alone.
      plugin_deps: of every plug-in, beside the library.
      data: what plug-ins and tests read.
      test_data: what a test reads beside that, by its name.
    """
    headers = native.glob(["*.h"], allow_empty = True)
    sources = native.glob(["*.cc"], exclude = _NOT_LIBRARY, allow_empty = True)
    shared = [s for s in sources if _stem(s) + ".h" in headers]
    room_library(name, deps, visibility, srcs = shared)

    # What a plug-in's file and its test see beside the room's library.
    seen = {s: ":" + name for s in sources if s not in shared}
    for folder in _folders():
        helpers = folder + "_helpers"
        folder_headers = native.glob([folder + "/*.h"], allow_empty = True)
        folder_sources = native.glob([folder + "/*.cc"], exclude = ["*/" + n for n in _NOT_LIBRARY])
        folder_shared = [s for s in folder_sources if s[:-len(".cc")] + ".h" in folder_headers]
        _library(helpers, folder_shared, folder_headers, [":" + name] + plugin_deps, ["//pretraining:__subpackages__"])
        seen.update({s: ":" + helpers for s in folder_sources if s not in folder_shared})
    plugins = {_stem(source): source for source in seen}
    for plugin, source in plugins.items():
        _plugin(
            plugin,
            kind,
            source,
            [seen[source]] + plugin_deps,
            data,
            visibility = ["//experiments:__subpackages__", "//pretraining:__subpackages__", "//tests:__pkg__"],
        )

    for source in native.glob([_TEMPLATES + "/*.cc"], allow_empty = True):
        _plugin("template_" + _stem(source), kind, source, [":" + name], data, testonly = True)

    cc_library(
        name = "plugins",
        visibility = ["//experiments:__subpackages__", "//tests:__pkg__"],
        deps = [":" + plugin for plugin in plugins],
    )

    # uce_test.cc sees the library and uce alone, a helper's test its folder's helpers; a test that is
    # named after none of these sees all.
    all_helpers = [":%s_helpers" % folder for folder in _folders()]
    for src in native.glob(["*_test.cc", "*/*_test.cc"], allow_empty = True):
        unit = src[:-len("_test.cc")]
        folder = unit.rpartition("/")[0]
        deps_of_test = [":plugins"] + all_helpers
        if native.glob([unit + ".h"], allow_empty = True):
            deps_of_test = [":%s_helpers" % folder if folder else ":" + name]
        elif unit + ".cc" in seen:
            deps_of_test = [":" + _stem(src)[:-len("_test")], seen[unit + ".cc"]]
        room_test(_stem(src), src, depset(deps_of_test + [":" + name]).to_list() + ["//tests:gradient_check", "//tests:tiny_models"], data + test_data.get(_stem(src), []))
    for src in native.glob(["*_benchmark.cc"], allow_empty = True):
        cc_binary(
            name = _stem(src),
            srcs = [src],
            data = data,
            deps = [":plugins", "//third_party:benchmark"],
        )
