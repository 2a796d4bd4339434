"""Holds tools/convert_weights.py to files as torch.save and ONNX write them, and to bad ones.

convert_weights_check.py TOOL FOLDER
Needs no PyTorch: modules of its names stand in while the files are written.
"""

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile

TOOL, FOLDER = sys.argv[1:3]
VALUES = [0.5, -1.0, 2.0, 3.25, -0.125, 7.0]


class Storage:
    """What a pickle refers to instead of holding it."""

    def __init__(self, key):
        self.key = key


class Tensor:
    def __init__(self, key, shape, stride):
        self.parts = (Storage(key), 0, shape, stride, False, {})

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


def stand_in():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    exec("class FloatStorage: pass", torch.__dict__)
    exec("def _rebuild_tensor_v2(*parts): pass", utils.__dict__)
    torch.FloatStorage.__module__ = "torch"
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    sys.modules.update({"torch": torch, "torch._utils": utils})
    return torch


class Array:
    """Pickled as NumPy pickles an array, by modules of its names."""

    def __init__(self, kind, order, data):
        self.kind, self.order, self.data = kind, order, data

    def __reduce__(self):
        numpy, multiarray = sys.modules["numpy"], sys.modules["numpy.core.multiarray"]
        dtype = numpy.dtype(self.kind, self.order)
        return (multiarray._reconstruct, (numpy.ndarray, (0,), b"b"),
                (1, (2, 3), dtype, False, self.data))


def stand_in_numpy():
    numpy, multiarray = types.ModuleType("numpy"), types.ModuleType("numpy.core.multiarray")
    exec("""
class ndarray: pass
class dtype:
    def __init__(self, kind, order): self.kind, self.order = kind, order
    def __reduce__(self):
        state = (3, self.order, None, None, None, -1, -1, 0)
        return dtype, (self.kind, False, True), state
""", numpy.__dict__)
    exec("def _reconstruct(*parts): pass", multiarray.__dict__)
    for one in (numpy.ndarray, numpy.dtype):
        one.__module__ = "numpy"
    multiarray._reconstruct.__module__ = "numpy.core.multiarray"
    sys.modules.update({"numpy": numpy, "numpy.core": types.ModuleType("numpy.core"),
                        "numpy.core.multiarray": multiarray})


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        return ("storage", sys.modules["torch"].FloatStorage, value.key, "cpu", len(VALUES), None)


def state():
    """A matrix and a view of it that is not contiguous, beside what is no tensor."""
    return {"state_dict": {"net.a": Tensor("7", (2, 3), (3, 1)), "net.b": Tensor("7", (3, 2), (1, 3)),
                           "other": Tensor("7", (6,), (1,))}, "epoch": 3}


def path(name):
    return os.path.join(FOLDER, name)


def write_zip(name, data):
    with zipfile.ZipFile(path(name), "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            Pickler(file, 2).dump(state())
        archive.writestr("archive/data/7", data)


def write_legacy(name, data):
    with open(path(name), "wb") as file:
        for value in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}):
            pickle.dump(value, file, 2)
        Pickler(file, 2).dump(state())
        pickle.dump(["7"], file, 2)
        file.write(struct.pack("<q", len(VALUES)) + data)


def write_array(name, kind, order, data):
    with open(path(name), "wb") as file:
        pickle.dump(Array(kind, order, data), file, 3)


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def write_onnx(name, cut=0):
    data = struct.pack("<6f", *VALUES)
    tensor = field(1, 2) + field(1, 3) + field(2, 1) + field(8, b"w") + field(9, data)
    model = field(7, field(5, tensor))
    with open(path(name), "wb") as file:
        file.write(model[:len(model) - cut])


def convert(source, *options):
    out = path(source + ".safetensors")
    command = [sys.executable, TOOL, path(source), out, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        assert not os.path.exists(out), f"{source}: a file was left"
        return done.stderr
    with open(out, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, data = json.loads(file.read(size)), file.read()
    with open(path(source), "rb") as file:
        assert header.pop("__metadata__")["source_sha256"] == hashlib.sha256(file.read()).hexdigest()
    return {name: (one["shape"], list(struct.unpack(f"<{len(VALUES)}f",
                                                    data[slice(*one["data_offsets"])])))
            for name, one in header.items()}


def check_refused(source, word, *options):
    said = convert(source, *options)
    assert isinstance(said, str) and word in said and "Traceback" not in said, f"{source}: {said}"


def main():
    stand_in()
    data = struct.pack("<6f", *VALUES)
    turned = [VALUES[3 * j + i] for i in range(3) for j in range(2)]
    expected = {"a": ([2, 3], VALUES), "b": ([3, 2], turned)}
    write_zip("zip.pth", data)
    write_legacy("legacy.pth", data)
    write_onnx("net.onnx")
    for source in ("zip.pth", "legacy.pth"):
        found = convert(source, "--prefix=state_dict.net.")
        assert found == expected, f"{source}: {found}"
    assert convert("net.onnx") == {"w": ([2, 3], VALUES)}

    stand_in_numpy()
    write_array("prompts.p", "f4", "<", data)
    assert convert("prompts.p") == {"array": ([2, 3], VALUES)}
    write_array("short.p", "f4", "<", data[:-4])
    check_refused("short.p", "20 bytes")
    write_array("big_endian.p", "f4", ">", data)
    check_refused("big_endian.p", ">f4")
    write_array("objects.p", "O8", "|", data)
    check_refused("objects.p", "O8")

    write_zip("short_zip.pth", data[:-4])
    write_legacy("short_legacy.pth", data[:-4])
    write_onnx("short.onnx", cut=3)
    for source in ("short_zip.pth", "short_legacy.pth", "short.onnx"):
        check_refused(source, "truncated")
    for shape, stride in (((1 << 40,), (0,)), ((6,), (-1,)), ((7,), (1,))):
        with zipfile.ZipFile(path("view.pth"), "w") as archive:
            with archive.open("archive/data.pkl", "w") as file:
                Pickler(file, 2).dump({"a": Tensor("7", shape, stride)})
            archive.writestr("archive/data/7", data)
        check_refused("view.pth", "truncated")
    with open(path("zip.pth"), "rb") as good, open(path("flipped.pth"), "wb") as bad:
        zipped = bytearray(good.read())
        zipped[zipped.index(data)] ^= 1
        bad.write(zipped)
    check_refused("flipped.pth", "damaged")
    ran = path("ran")
    with zipfile.ZipFile(path("hostile.pth"), "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch " + ran.encode() + b"'\ntR.")
    check_refused("hostile.pth", "os.system")
    assert not os.path.exists(ran), "a pickle was obeyed"
    for name, text in (("text.pth", b"weights"), ("text.onnx", b"\xffweights"), ("empty.pth", b"")):
        with open(path(name), "wb") as file:
            file.write(text)
        check_refused(name, "no ")
    os.remove(path("zip.pth.safetensors"))
    check_refused("zip.pth", "SHA-256", "--sha256=" + 64 * "0")
    check_refused("zip.pth", "no tensor whose name begins with", "--prefix=unet.")
    check_refused("nowhere.pth", "No such file")
    print("converted and refused as they should be")


main()
