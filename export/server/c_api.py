"""Run as a program by ask.py: a SavedModel under TensorFlow's C API alone, as a model server has it.

python c_api.py MEMORY_BYTES

It reads two pickles on standard input and writes lines of JSON on standard output:

    in: tensorflow: folder of libtensorflow_framework.so.2 and libtensorflow_cc.so.2; op_libraries: paths of the shared
        objects with further operations.
    out: tensorflow_version: of the libraries; operations: in base64, the serialized tensorflow.OpList of all that is
        registered.
    in, unless the model is not to be run: model: folder of the SavedModel; calls: list of (inputs, outputs): arrays by
        tensor name, and tensor names; measured_from: number of the first call whose memory is measured by itself.
    out: error: null, or why the model did not load; peak_bytes.
    out, for each call: tensors, or error: why it failed; peak_bytes: the most memory that the process had meanwhile;
        before `measured_from`: so far.

Strings are arrays of bytes with dtype object. Nothing of Python's TensorFlow is loaded.
"""

import base64
import contextlib
import ctypes
import json
import os
import pickle
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

STRING = 7
# tensorflow/c/tf_datatype.h
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
# sizeof(TF_TString), tensorflow/c/tf_tstring.h
STRING_BYTES = 24
# DisableXlaCompilation() of tensorflow/compiler/jit/flags.h, which tensorflow_model_server calls when it starts.
DISABLE_XLA = "_ZN10tensorflow21DisableXlaCompilationEv"


# Of one call, in base64: no client takes that much, and another process has to hold it.
MOST_ANSWER_BYTES = 1 << 28


class TensorFlowError(RuntimeError):
    """A call of the C API failed; the message is TensorFlow's."""


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Library:
    """libtensorflow with the operations of further libraries, XLA off.

    Args:
        tensorflow: folder of the two shared objects.
        op_libraries: shared objects that register operations.

    Raises:
        OSError: a library cannot be loaded.
        TensorFlowError: one of `op_libraries` is not accepted.
    """

    def __init__(self, tensorflow: str, op_libraries: list[str]):
        # The libraries of operations resolve their symbols against these two.
        ctypes.CDLL(str(Path(tensorflow) / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(str(Path(tensorflow) / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
        self._declare()
        self.c[DISABLE_XLA]()
        self.status = self.c.TF_NewStatus()
        for path in op_libraries:
            self.c.TF_LoadLibrary(path.encode(), self.status)
            self.check()

    def version(self) -> str:
        return self.c.TF_Version().decode()

    def operations(self) -> bytes:
        """Serialized tensorflow.OpList of all registered operations."""
        buffer = self.c.TF_GetAllOpList().contents
        return ctypes.string_at(buffer.data, buffer.length)

    def check(self) -> None:
        if self.c.TF_GetCode(self.status):
            raise TensorFlowError(self.c.TF_Message(self.status).decode(errors="replace"))

    def _declare(self) -> None:
        """Types of arguments and results, where they are not int."""
        pointer, text, size, whole = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
        many = ctypes.POINTER
        for name, result, arguments in (
            ("TF_Version", text, []),
            ("TF_NewStatus", pointer, []),
            ("TF_GetCode", whole, [pointer]),
            ("TF_Message", text, [pointer]),
            ("TF_LoadLibrary", pointer, [text, pointer]),
            ("TF_GetAllOpList", many(_Buffer), []),
            ("TF_NewGraph", pointer, []),
            ("TF_NewSessionOptions", pointer, []),
            ("TF_SetConfig", None, [pointer, text, size, pointer]),
            (
                "TF_LoadSessionFromSavedModel",
                pointer,
                [pointer, pointer, text, many(text), whole, pointer, pointer, pointer],
            ),
            ("TF_GraphOperationByName", pointer, [pointer, text]),
            (
                "TF_SessionRun",
                None,
                [pointer, pointer]
                # inputs, outputs, targets
                + 2 * [many(_Output), many(pointer), whole]
                + [pointer, whole]
                + [pointer, pointer],
            ),
            ("TF_AllocateTensor", pointer, [whole, many(ctypes.c_int64), whole, size]),
            ("TF_DeleteTensor", None, [pointer]),
            ("TF_TensorData", pointer, [pointer]),
            ("TF_TensorByteSize", size, [pointer]),
            ("TF_TensorType", whole, [pointer]),
            ("TF_NumDims", whole, [pointer]),
            ("TF_Dim", ctypes.c_int64, [pointer, whole]),
            ("TF_StringInit", None, [pointer]),
            ("TF_StringCopy", None, [pointer, text, size]),
            ("TF_StringDealloc", None, [pointer]),
            ("TF_StringGetSize", size, [pointer]),
            ("TF_StringGetDataPointer", pointer, [pointer]),
        ):
            function = self.c[name]
            function.restype, function.argtypes = result, arguments
            setattr(self.c, name, function)


class Session:
    """A SavedModel, loaded and its variables restored, under the tag "serve".

    Args:
        library: with the operations that the model needs.
        model: its folder.
        config: a serialized tensorflow.ConfigProto; empty: TensorFlow's defaults.

    Raises:
        TensorFlowError: it does not load.
    """

    def __init__(self, library: Library, model: str, config: bytes = b""):
        self._library, self._c = library, library.c
        self._graph = self._c.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        options = self._c.TF_NewSessionOptions()
        self._c.TF_SetConfig(options, config, len(config), library.status)
        library.check()
        self._session = self._c.TF_LoadSessionFromSavedModel(
            options, None, model.encode(), tags, 1, self._graph, None, library.status
        )
        library.check()

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        """The named tensors, such as "StatefulPartitionedCall:0", given others.

        Raises:
            TensorFlowError: there is no such tensor, or the graph failed.
        """
        places = self._places(inputs), self._places(outputs)
        feeds = [self._tensor(value) for value in inputs.values()]
        fetched = (ctypes.c_void_p * len(outputs))()
        try:
            self._c.TF_SessionRun(
                self._session, None, places[0], (ctypes.c_void_p * len(feeds))(*feeds), len(feeds),
                places[1], fetched, len(outputs), None, 0, None, self._library.status,
            )  # fmt: skip
            self._library.check()
            return [self._array(tensor) for tensor in fetched]
        finally:
            for tensor in feeds:
                self._free_strings(tensor)
            for tensor in [*feeds, *filter(None, fetched)]:
                self._c.TF_DeleteTensor(tensor)

    def _places(self, names):
        places = (_Output * len(names))()
        for place, name in zip(places, names, strict=True):
            operation, _, index = name.partition(":")
            place.operation = self._c.TF_GraphOperationByName(self._graph, operation.encode())
            place.index = int(index or 0)
            if not place.operation:
                raise TensorFlowError(f"the graph has no operation {operation}")
        return places

    def _tensor(self, value: np.ndarray) -> int:
        strings = value.dtype == object
        if strings:
            kind, size = STRING, STRING_BYTES * value.size
        else:
            kind, size = next((code for code, dtype in DTYPES.items() if dtype == value.dtype), None), value.nbytes
            if kind is None:
                raise TensorFlowError(f"an input has data type {value.dtype}, which no client sends")
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        tensor = self._c.TF_AllocateTensor(kind, shape, value.ndim, size)
        data = self._c.TF_TensorData(tensor)
        if strings:
            for number, text in enumerate(value.ravel()):
                self._c.TF_StringInit(data + STRING_BYTES * number)
                self._c.TF_StringCopy(data + STRING_BYTES * number, text, len(text))
        else:
            ctypes.memmove(data, np.ascontiguousarray(value).ctypes.data, size)
        return tensor

    def _free_strings(self, tensor: int) -> None:
        """What TF_StringCopy has allocated: deleting the tensor frees only the places for it."""
        if self._c.TF_TensorType(tensor) == STRING:
            for place in range(0, self._c.TF_TensorByteSize(tensor), STRING_BYTES):
                self._c.TF_StringDealloc(self._c.TF_TensorData(tensor) + place)

    def _array(self, tensor: int) -> np.ndarray:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        data, kind = self._c.TF_TensorData(tensor), self._c.TF_TensorType(tensor)
        if kind != STRING:
            if kind not in DTYPES:
                raise TensorFlowError(f"an output has data type {kind}, which no client reads")
            content = ctypes.string_at(data, self._c.TF_TensorByteSize(tensor))
            return np.frombuffer(content, DTYPES[kind]).reshape(shape)
        values = np.empty(int(np.prod(shape)), object)
        for number in range(values.size):
            place = data + STRING_BYTES * number
            values[number] = ctypes.string_at(self._c.TF_StringGetDataPointer(place), self._c.TF_StringGetSize(place))
        return values.reshape(shape)


def bound(memory_bytes: int) -> None:
    """No file is written, no more memory allocated, and this process ends with the one that started it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory_bytes),
    ):
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))
    # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def forget_peak() -> None:
    """From here on `peak_bytes` counts anew, where the system allows it."""
    # What earlier calls have freed and malloc still keeps is none of the next call's.
    ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Largest resident size of this process so far (getrusage would count the process that started this one)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def tensor_as_json(value: np.ndarray) -> dict[str, Any]:
    """Not a pickle: who reads it trusts the model no more than this process does."""
    if value.dtype == object:
        return {"shape": value.shape, "strings": [base64.b64encode(text).decode() for text in value.ravel()]}
    return {"shape": value.shape, "dtype": value.dtype.str, "data": base64.b64encode(value.tobytes()).decode()}


def answer(session: Session, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, Any]:
    """The line for one call."""
    try:
        tensors = session.run(inputs, outputs)
    except TensorFlowError as error:
        return {"error": str(error), "peak_bytes": peak_bytes()}
    line = {"peak_bytes": peak_bytes(), "tensors": [tensor_as_json(tensor) for tensor in tensors]}
    size = sum(len(part) for tensor in line["tensors"] for part in (tensor.get("data", ""), *tensor.get("strings", ())))
    return line if size <= MOST_ANSWER_BYTES else {"error": "its answer is too large", "peak_bytes": line["peak_bytes"]}


def main() -> None:
    bound(int(sys.argv[1]))
    # Whatever a library prints on standard output is no line of the answer.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as out:
        os.dup2(2, 1)

        def put(**line) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()

        setup = pickle.load(sys.stdin.buffer)
        library = Library(setup["tensorflow"], setup["op_libraries"])
        put(tensorflow_version=library.version(), operations=base64.b64encode(library.operations()).decode())
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            session = Session(library, request["model"])
        except TensorFlowError as error:
            put(error=str(error), peak_bytes=peak_bytes())
            return
        if "tensorflow" in sys.modules:
            raise RuntimeError("Python's TensorFlow has been loaded: this proves nothing about a server")
        put(error=None, peak_bytes=peak_bytes())
        for number, (inputs, outputs) in enumerate(request["calls"]):
            # It gives memory back that the next call asks for again: in a short call, most of the time.
            if number >= request["measured_from"]:
                forget_peak()
            put(**answer(session, inputs, outputs))


if __name__ == "__main__":
    main()
