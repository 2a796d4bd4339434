"""Weights of PyTorch and ONNX files as safetensors, once and offline: the programs read nothing else.

convert_weights.py IN OUT.safetensors [--sha256=HEX] [--prefix=NAME.]

IN: a .pth, .pt, .bin or .ckpt of torch.save (either format), a pickled NumPy array (as Q16's
prompts.p), or an .onnx, of which the initialisers are taken (by layer, where they have no names of
their own). Python alone is needed, no PyTorch: a pickle is read by a reader that knows tensors and
arrays in dictionaries and refuses everything else, so that nothing in the file can run. `--prefix` keeps the
tensors whose name begins so, without that beginning. The digest of IN is in OUT's metadata.
"""

import argparse
import collections
import hashlib
import json
import math
import os
import pickle
import struct
import sys
import zipfile

# torch's storage classes and ONNX's element types, as safetensors names them, with their size.
STORAGES = {"DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2),
            "BFloat16Storage": ("BF16", 2), "LongStorage": ("I64", 8), "IntStorage": ("I32", 4),
            "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1), "ByteStorage": ("U8", 1),
            "BoolStorage": ("BOOL", 1)}
ONNX_TYPES = {1: ("F32", 4), 2: ("U8", 1), 3: ("I8", 1), 5: ("I16", 2), 6: ("I32", 4), 7: ("I64", 8),
              9: ("BOOL", 1), 10: ("F16", 2), 11: ("F64", 8), 16: ("BF16", 2)}

Tensor = collections.namedtuple("Tensor", "dtype shape data")
Pointer = collections.namedtuple("Pointer", "storage offset shape stride")


def fail(what):
    sys.exit(f"convert_weights: {what}")


def rebuild_tensor(storage, offset, shape, stride, *_):
    return Pointer(storage, offset, tuple(shape), tuple(stride))


NUMPY_TYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32", "i8": "I64", "u1": "U8"}


class Dtype:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, name, *_):
        self.name = name

    def __setstate__(self, state):
        if self.name not in NUMPY_TYPES or state[1] not in ("<", "|"):
            fail(f"an array of type {state[1]}{self.name}, which is not known")


class Array:
    """Stands for numpy.ndarray in a pickle."""

    def __setstate__(self, state):
        _, shape, dtype, columns_first, data = state
        size = int(dtype.name[1:])
        if columns_first or len(data) != math.prod(shape) * size or min(shape, default=0) < 0:
            fail(f"an array of shape {tuple(shape)} with {len(data)} bytes, or in columns")
        self.tensor = Tensor(NUMPY_TYPES[dtype.name], tuple(shape), bytes(data))


class Reader(pickle.Unpickler):
    """Knows what a state dictionary is made of."""

    KNOWN = {("collections", "OrderedDict"): collections.OrderedDict,
             ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
             ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
             ("numpy", "ndarray"): Array, ("numpy", "dtype"): Dtype,
             ("numpy.core.multiarray", "_reconstruct"): lambda *_: Array(),
             ("numpy._core.multiarray", "_reconstruct"): lambda *_: Array()}

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) not in self.KNOWN:
            fail(f"the pickle asks for {module}.{name}, and holds more than tensors: it is not read")
        return self.KNOWN[module, name]

    def persistent_load(self, pid):
        if pid[0] != "storage" or pid[1] not in STORAGES:
            fail(f"unknown storage {pid!r}")
        return (pid[1], str(pid[2]))


def flat(value, name=""):
    """Tensors of nested dictionaries by dotted names; numbers beside them are left out."""
    if isinstance(value, Pointer):
        yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from flat(one, f"{name}.{key}" if name else str(key))


def dense(pointer, bytes_of):
    kind, key = pointer.storage
    dtype, size = STORAGES[kind]
    data = bytes_of(key)
    contiguous = [math.prod(pointer.shape[i + 1:]) for i in range(len(pointer.shape))]
    if math.prod(pointer.shape) == 0:
        return Tensor(dtype, pointer.shape, b"")
    last = sum((n - 1) * step for n, step in zip(pointer.shape, pointer.stride))
    # A view may repeat what it shows without end; weights do not.
    if (min((pointer.offset, *pointer.shape, *pointer.stride)) < 0
            or max(pointer.offset + last + 1, math.prod(pointer.shape)) * size > len(data)):
        fail("the file is truncated: a storage is shorter than its tensor")
    data = data[pointer.offset * size:(pointer.offset + last + 1) * size]
    if any(n > 1 and a != b for n, a, b in zip(pointer.shape, pointer.stride, contiguous)):
        places = [0]
        for n, step in zip(pointer.shape, pointer.stride):
            places = [place + i * step for place in places for i in range(n)]
        data = b"".join(data[place * size:(place + 1) * size] for place in places)
    return Tensor(dtype, pointer.shape, data)


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            fail(f"{path}: no file of torch.save (it has {len(pickles)} data.pkl)")
        root = pickles[0][:-len("data.pkl")]
        with archive.open(pickles[0]) as file:
            value = Reader(file).load()
        return {name: dense(one, lambda key: archive.read(f"{root}data/{key}"))
                for name, one in flat(value)}


def read_legacy(path):
    with open(path, "rb") as file:
        first = Reader(file).load()
        if isinstance(first, Array):
            return {"array": first.tensor}
        if first != 0x1950a86a20f9469cfc6c:
            fail(f"{path}: neither a file of torch.save nor a pickled array")
        Reader(file).load()  # the protocol's version
        if not Reader(file).load().get("little_endian", False):
            fail(f"{path}: written on a big-endian machine")
        value = Reader(file).load()
        kinds = {one.storage[1]: STORAGES[one.storage[0]][1] for _, one in flat(value)}
        storages = {}
        for key in Reader(file).load():
            count = struct.unpack("<q", file.read(8))[0]
            if str(key) not in kinds:
                fail(f"{path}: a storage that no tensor uses; its size is not known")
            storages[str(key)] = file.read(count * kinds[str(key)])
        return {name: dense(one, storages.__getitem__) for name, one in flat(value)}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def fields(data):
    """(number, value) of a protocol buffer message; a length-delimited value is bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, at = varint(data, at)
            if size is None or at + size > len(data):
                fail("no ONNX file, or a truncated one")
            value, at = data[at:at + size], at + size
        yield tag >> 3, value


def onnx_tensor(data):
    shape, kind, name, raw = [], 0, "", None
    for number, value in fields(data):
        if number == 1:  # dims, packed or not
            while isinstance(value, bytes) and value:
                one, at = varint(value, 0)
                shape, value = shape + [one], value[at:]
            if isinstance(value, int):
                shape.append(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number == 9 or (number == 4 and kind == 1):  # raw_data, or packed float_data
            raw = value
    if kind not in ONNX_TYPES or raw is None or len(raw) != math.prod(shape) * ONNX_TYPES[kind][1]:
        fail(f"initialiser '{name}' has a form that is not known (type {kind}, shape {shape})")
    return name, Tensor(ONNX_TYPES[kind][0], tuple(shape), bytes(raw))


def onnx_node(data):
    inputs, outputs, kind = [], [], ""
    for number, value in fields(data):
        if number == 1:
            inputs.append(value.decode())
        elif number == 2:
            outputs.append(value.decode())
        elif number == 4:
            kind = value.decode()
    return kind, inputs, outputs


def by_layer(tensors, nodes):
    """Names for tensors that have none of their own: layers.K.weight of the K-th convolution or
    matrix product, and layers.K.I.add, .sub or .mul of the constants that follow it."""
    for kind, inputs, outputs in nodes:
        if kind == "Identity" and inputs[0] in tensors:
            tensors[outputs[0]] = tensors[inputs[0]]
    readers = collections.defaultdict(list)
    for node in nodes:
        for name in node[1]:
            readers[name].append(node)
    named, layer = {}, 0
    for kind, inputs, outputs in nodes:
        if kind not in ("Conv", "MatMul") or len(inputs) < 2 or inputs[1] not in tensors:
            continue
        named[f"layers.{layer}.weight"] = tensors[inputs[1]]
        step, out = 0, outputs[0]
        while len(readers[out]) == 1:
            kind, inputs, outputs = readers[out][0]
            constants = [name for name in inputs if name in tensors]
            if constants and kind in ("Add", "Sub", "Mul"):
                named[f"layers.{layer}.{step}.{kind.lower()}"] = tensors[constants[0]]
                step += 1
            elif kind not in ("Cast", "Transpose"):
                break
            out = outputs[0]
        layer += 1
    return named


def read_onnx(path):
    with open(path, "rb") as file:
        data = file.read()
    try:
        graph = [one for number, value in fields(data) if number == 7 for one in fields(value)]
        tensors = dict(onnx_tensor(value) for number, value in graph if number == 5)
        if all(name.startswith("onnx::") for name in tensors):
            tensors = by_layer(tensors, [onnx_node(value) for number, value in graph if number == 1])
        return tensors
    except (IndexError, UnicodeDecodeError, AttributeError):
        fail(f"{path}: no ONNX file, or a truncated one")


def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(tensor.data)]}
        offset += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.data)
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--sha256", help="refuses another file")
    parser.add_argument("--prefix", default="", help="only tensors whose name begins so")
    options = parser.parse_args()
    try:
        with open(options.source, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        fail(f"{options.source}: {error.strerror}")
    if options.sha256 not in (None, digest):
        fail(f"{options.source} has SHA-256 {digest}, not {options.sha256}: another file, or damaged")
    if options.source.endswith(".onnx"):
        tensors = read_onnx(options.source)
    else:
        read = read_zip if zipfile.is_zipfile(options.source) else read_legacy
        try:
            tensors = read(options.source)
        except (EOFError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, AttributeError,
                LookupError, TypeError, ValueError) as error:
            fail(f"{options.source}: no file of torch.save, or a damaged one ({error!r})")
    kept = {name[len(options.prefix):]: tensor for name, tensor in sorted(tensors.items())
            if name.startswith(options.prefix)}
    if not kept:
        fail(f"{options.source}: holds no tensor whose name begins with '{options.prefix}'")
    try:
        write_safetensors(options.out, kept, {"format": "pt", "source_sha256": digest,
                                              "source": os.path.basename(options.source)})
    except OSError as error:
        fail(f"{options.out}: {error.strerror}")
    print(f"{options.out}: {len(kept)} tensors, of {os.path.basename(options.source)} ({digest[:12]}…)")


if __name__ == "__main__":
    main()
