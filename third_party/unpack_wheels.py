"""Unpacks from the wheels in the current folder what C++ needs of LibTorch, into lib/ and include/.

A wheel is a zip archive that Bazel 4 cannot extract (it goes by the file's ending). Left out: Python,
CUDA libraries (lib/ would grow by gigabytes), and the headers of fmt, google and pybind11, which
shadow the distribution's own.
"""

import glob
import os
import shutil
import sys
import zipfile

LIBRARIES = (
    "torch/lib/libc10.so",
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libgomp.so.1",
    "libcudart.so.13",
    "libcupti.so.13",
)
HEADERS = ("torch/include/ATen/", "torch/include/c10/", "torch/include/torch/", "torch/include/caffe2/")
SUFFIXES = (".h", ".hpp", ".inc", ".inl", ".cuh", ".macros")


def destination(name):
    """Where a member goes, or None."""
    if name.startswith(HEADERS) and name.endswith(SUFFIXES):
        return name[len("torch/") :]
    if name in LIBRARIES or os.path.basename(name) in LIBRARIES:
        return "lib/" + os.path.basename(name)
    return None


def main():
    found = set()
    for wheel in sorted(glob.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                path = destination(name)
                if path is None:
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(name) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                found.add(os.path.basename(path))
        os.remove(wheel)
    missing = [n for n in map(os.path.basename, LIBRARIES) if n not in found]
    if missing:
        sys.exit("not in the wheels: " + ", ".join(missing))


if __name__ == "__main__":
    main()
