"""LibTorch as a repository: three wheels pinned by hash, or the folder that LIBTORCH names."""

_VERSION = "2.11.0"
_MINIMUM = (2, 4)

# libtorch_cpu.so of the wheel links libcudart and libcupti, so the two small wheels that hold them
# are needed on a CPU as well.
_WHEELS = [
    ("torch", _VERSION, "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
    ("nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    ("nvidia-cuda-cupti", "13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
]

_PLATFORMS = [
    "manylinux_2_28_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
]

# Headers of the wheel that would shadow the distribution's own fmt, and others nobody includes.
_SHADOWING = ["fmt", "google", "pybind11"]

_BUILD = """\
# Written by third_party/libtorch.bzl: {origin}
cc_library(
    name = "libtorch",
    srcs = glob(["lib/*.so", "lib/*.so.*"]),
    hdrs = glob(["include/**"], exclude_directories = 1),
    defines = ['EXCISE_LIBTORCH_ID=\\\\"{id}\\\\"'],
    includes = ["include", "include/torch/csrc/api/include"],
    linkopts = ["-lpthread"],
    visibility = ["//visibility:public"],
)
"""

def _lines(text, count):
    return "\n".join(["    " + line for line in text.strip().split("\n")[-count:]])

def _wheel_list():
    return "\n".join(["    %s==%s --hash=sha256:%s" % wheel for wheel in _WHEELS])

def _ways_out(pip):
    return """
What to do, any one of:
  - give this machine a network (or HTTPS_PROXY=..., or PIP_INDEX_URL=... of a mirror) and run again;
  - LIBTORCH=/dir: an unpacked LibTorch >= %d.%d for Linux x86-64 with the C++11 ABI, from
    https://pytorch.org/get-started/locally, e.g.  LIBTORCH=/opt/libtorch ./bazelw run //experiments:table1
  - fetch the three wheels on another machine, by putting these lines in wheels.txt:
%s
    and running there
    %s -r wheels.txt
    then copy the .whl files into a folder here and set PIP_NO_INDEX=1 PIP_FIND_LINKS=/that/folder""" % (
        _MINIMUM[0],
        _MINIMUM[1],
        _wheel_list(),
        " ".join(pip),
    )

def _download(rctx):
    python = rctx.which("python3")
    if not python:
        fail("LibTorch is fetched with Python's pip, and there is no python3 on the PATH. " +
             "Run ./bazelw, or: apt-get install python3 python3-pip")
    if rctx.execute([python, "-m", "pip", "--version"]).return_code != 0:
        fail("LibTorch is fetched with pip, and 'python3 -m pip' does not run. " +
             "Run ./bazelw, or: apt-get install python3-pip")
    rctx.file("wheels.txt", "\n".join([line.strip() for line in _wheel_list().split("\n")]) + "\n")
    pip = ["python3", "-m", "pip", "download", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    pip += ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
    for platform in _PLATFORMS:
        pip += ["--platform", platform]
    rctx.report_progress("downloading LibTorch %s (535 MB)" % _VERSION)
    options = ["--no-cache-dir", "--progress-bar", "off", "--disable-pip-version-check", "-q"]
    options += ["-d", ".", "-r", "wheels.txt"]
    result = rctx.execute([python] + pip[1:] + options, timeout = 3600)
    if result.return_code != 0:
        fail("\nLibTorch %s could not be fetched from the Python package index. pip said:\n%s\n" % (
            _VERSION,
            _lines(result.stderr + result.stdout, 6),
        ) + "Probably there is no network here, or a proxy or mirror does not have these wheels." +
             _ways_out(pip))
    rctx.report_progress("unpacking LibTorch %s" % _VERSION)
    result = rctx.execute([python, rctx.path(Label("//third_party:unpack_wheels.py"))], timeout = 1800)
    if result.return_code != 0:
        fail("\nLibTorch's wheels could not be unpacked (a full disk? it needs 1.3 GB here):\n" +
             _lines(result.stderr, 6))
    return "%s-%s" % (_VERSION, _WHEELS[0][2][:12]), "the wheels torch %s" % _VERSION

def _child(rctx, folder, relative):
    return rctx.path(str(folder) + "/" + relative)

def _version_of(rctx, folder):
    """(major, minor) from the headers, or None."""
    candidates = [
        "include/torch/headeronly/version.h",
        "include/torch/csrc/api/include/torch/version.h",
    ]
    for candidate in candidates:
        header = _child(rctx, folder, candidate)
        if not header.exists:
            continue
        found = {}
        for line in rctx.read(header).split("\n"):
            words = [word for word in line.split(" ") if word]
            if len(words) >= 3 and words[0] == "#define" and words[2].isdigit():
                found[words[1]] = int(words[2])
        if "TORCH_VERSION_MAJOR" in found and "TORCH_VERSION_MINOR" in found:
            return found["TORCH_VERSION_MAJOR"], found["TORCH_VERSION_MINOR"]
    return None

def _local(rctx, text):
    where = "LIBTORCH=%s" % text
    hint = ("\nIt should be the unpacked folder of an official LibTorch (with include/ and lib/), " +
            "https://pytorch.org/get-started/locally; unset LIBTORCH to use the pinned %s." % _VERSION)
    if not text.startswith("/"):
        fail("%s is not an absolute path." % where + hint)
    folder = rctx.path(text)
    if not folder.exists:
        fail("%s does not exist." % where + hint)
    for needed in ["lib/libtorch_cpu.so", "lib/libc10.so", "include/ATen/core/Tensor.h"]:
        if not _child(rctx, folder, needed).exists:
            fail("%s is not a LibTorch: it has no %s." % (where, needed) + hint)
    version = _version_of(rctx, folder)
    if not version:
        fail("%s: its version cannot be read from include/torch/**/version.h." % where + hint)
    if version < _MINIMUM:
        fail("%s is LibTorch %d.%d; at least %d.%d is needed." % (where, version[0], version[1], _MINIMUM[0], _MINIMUM[1]) + hint)

    # std::string in exported symbols: the C++11 ABI of g++ >= 5 shows as "__cxx11" in their names.
    if rctx.execute(["grep", "-q", "__cxx11", str(_child(rctx, folder, "lib/libc10.so"))]).return_code != 0:
        fail("%s is built with the old C++ ABI; take the 'cxx11 ABI' archive." % where + hint)
    for entry in _child(rctx, folder, "include").readdir():
        if entry.basename not in _SHADOWING:
            rctx.symlink(entry, "include/" + entry.basename)
    linked = []
    siblings = [_child(rctx, folder, "lib")]
    # Inside a Python environment the CUDA runtime stands in neighbouring packages.
    cu13 = rctx.path(str(folder) + "/../nvidia/cu13/lib")
    if cu13.exists:
        siblings.append(cu13)
    for library in siblings:
        for entry in library.readdir():
            name = entry.basename
            wanted = name in ["libc10.so", "libtorch_cpu.so"]
            for stem in ["libgomp", "libcudart", "libcupti"]:
                wanted = wanted or (name.startswith(stem) and ".so" in name)
            if wanted and name not in linked:
                rctx.symlink(entry, "lib/" + name)
                linked.append(name)
    digest = rctx.execute(["sha256sum", str(_child(rctx, folder, "lib/libtorch_cpu.so"))], timeout = 600)
    return "%d.%d-%s" % (version[0], version[1], digest.stdout[:12]), where

def _libtorch_impl(rctx):
    if rctx.os.name != "linux":
        fail("Excise builds on Linux x86-64; this is '%s'." % rctx.os.name)
    local = rctx.os.environ.get("LIBTORCH", "")
    identity, origin = _local(rctx, local) if local else _download(rctx)
    rctx.file("BUILD", _BUILD.format(origin = origin, id = identity))

libtorch_repository = repository_rule(
    implementation = _libtorch_impl,
    environ = ["LIBTORCH"],
    doc = "C++ part of LibTorch as @libtorch//:libtorch.",
)
