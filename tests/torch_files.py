"""Files as torch.save writes them, put together without torch: pickles by their opcodes, and raw numbers."""

import io
import pickle
import struct
import zipfile

import numpy as np

KINDS = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
         "int32": "Int", "bool": "Bool", "uint8": "Byte"}  # fmt: skip
MAGIC = 0x1950A86A20F9469CFC6C


def name(module, function):
    return f"c{module}\n{function}\n".encode()


def encoded(value):
    """Opcodes of a number, string, tuple or dictionary; bytes are opcodes already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if value is None:
        return b"N"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return b"}(" + b"".join(encoded(item) for pair in value.items() for item in pair) + b"u"
    return b"(" + b"".join(map(encoded, value)) + b"t"


def call(function, *arguments):
    return function + encoded(arguments) + b"R"


ORDERED = call(name("collections", "OrderedDict"))


def tensor(kind, key, count, shape, stride, offset=0, legacy=False):
    """A tensor on a storage, as _rebuild_tensor_v2 is asked for it."""
    storage = ("storage", name("torch", f"{KINDS[kind]}Storage"), key, "cpu", count, *([None] if legacy else []))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, encoded(storage) + b"Q", offset, tuple(shape), tuple(stride), False, ORDERED)


def whole(key, value, legacy=False):
    """A tensor that is all of its storage."""
    stride = [step // value.itemsize for step in np.ascontiguousarray(value).strides]
    return tensor(str(value.dtype), key, value.size, value.shape, stride, legacy=legacy)


def write_archive(path, content, storages, compression=zipfile.ZIP_STORED):
    """The layout of torch 1.6: `content` in opcodes, bytes of the storages by key."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + encoded(content) + b".")
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path


def write_legacy(path, content, storages):
    """The layout before; storages: (number of items, bytes) by key."""
    file = io.BytesIO()
    for value in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(value, file, protocol=2)
    file.write(b"\x80\x02" + encoded(content) + b".")
    pickle.dump(list(storages), file, protocol=2)
    for count, data in storages.values():
        file.write(struct.pack("<q", count) + data)
    path.write_bytes(file.getvalue())
    return path


def write_torch(path, tensors, legacy=False):
    """A state dictionary of whole tensors."""
    values = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    content = {key: whole(str(i), value, legacy) for i, (key, value) in enumerate(values.items())}
    if legacy:
        return write_legacy(path, content, {str(i): (v.size, v.tobytes()) for i, v in enumerate(values.values())})
    return write_archive(path, content, {str(i): value.tobytes() for i, value in enumerate(values.values())})
