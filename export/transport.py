"""One request to TensorFlow Serving, over gRPC or REST: arrays in, arrays out, failures in one sentence."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from export.address import address_of, proxy_of
from export.failures import BadAnswer, NotServed, OutOfTime, RequestFailed, TryAgain
from pipeline.extras import require

__all__ = ["BadAnswer", "Model", "NotServed", "OutOfTime", "RequestFailed", "Tls", "TryAgain", "connect"]

Columns = Mapping[str, np.ndarray]
"""Arrays by the name of an input or output; texts are arrays of bytes objects."""


class Model(NamedTuple):
    """What of a server is asked."""

    name: str
    signature: str = "serving_default"
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        version = f", version {self.version}" if self.version is not None else ""
        return f"model {self.name!r}{version}" + (f", label {self.label!r}" if self.label else "")


class Spec(NamedTuple):
    """What the server says of an input or output; None where it says nothing."""

    dtype: np.dtype | None = None
    """object: strings."""
    shape: tuple[int | None, ...] | None = None
    """The batch first; None: any size."""


class Signature(NamedTuple):
    """Inputs and outputs by name, sorted."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


class Metadata(NamedTuple):
    """What a server says of a model."""

    signatures: dict[str, Signature]
    version: int | None
    """Which one a label, or no version at all, means now; None: the server does not say."""


class Reply(NamedTuple):
    """An answer, not yet held against the signature."""

    outputs: dict[str, np.ndarray]
    """Strings as bytes or str objects."""
    version: int | None
    """Which one answered; None: the server does not say."""


class Tls(NamedTuple):
    """Paths of PEM files. `root`: who signed the server's certificate (None: the system's authorities); `certificate`
    and `key`: the client's own, where the server asks for one."""

    root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The files, read.

        Raises:
            RequestFailed: one is missing or holds something else.
        """
        if bool(self.certificate) != bool(self.key):
            raise RequestFailed("the client's certificate and its key go together: give both or none.")
        for path in filter(None, self):
            if not Path(path).is_file():
                raise RequestFailed(f"{path}: no such certificate or key file.")
        try:
            context = ssl.create_default_context(cafile=self.root)
        except (ssl.SSLError, OSError) as error:
            raise RequestFailed(f"{self.root} holds no certificates in PEM form: {error}.") from error
        try:
            if self.certificate:
                # An encrypted key would ask for its password at the terminal.
                context.load_cert_chain(self.certificate, self.key, lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise RequestFailed(
                f"{self.certificate} and {self.key} are no certificate and its key in PEM form, unencrypted: {error}."
            ) from error
        return context


class Transport(Protocol):
    """Requests to one server. `timeout`: seconds for all of one, its answer included.

    Raises:
        RequestFailed: any of them; see failures.py.
    """

    target: str
    """Address, for messages."""

    def predict(self, model: Model, signature: Signature, columns: Columns, timeout: float) -> Reply: ...

    def metadata(self, model: Model, timeout: float) -> Metadata: ...

    def versions(self, model: Model, timeout: float) -> dict[int, str]:
        """State of each version, such as AVAILABLE, or of the one that `model` names. A label is not looked at."""
        ...

    def close(self) -> None: ...


def connect(protocol: str, target: str, tls: Tls | None) -> Transport:
    """A transport; nothing is sent yet.

    Raises:
        RequestFailed: the address is none, a certificate cannot be read, or the environment names a proxy that is none.
        UserError: gRPC is not installed.
    """
    address = address_of(target)
    proxy, context = proxy_of(address), tls.context() if tls is not None else None
    # gRPC's messages import all of tensorflow, REST needs nothing of it: each only where it is used.
    if protocol == "grpc":
        return require("client", "export.transport_grpc").Grpc(address, proxy, tls)
    from export.transport_rest import Rest

    return Rest(address, proxy, context)


NUMPY = {
    "DT_STRING": object,
    "DT_BOOL": np.bool_,
    "DT_HALF": np.float16,
    "DT_BFLOAT16": np.float32,
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT16": np.uint16,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
}
"""What TensorFlow's types are here; bfloat16, which NumPy and JSON lack, is float32."""


def spec_of(dtype: str | None, sizes: list[int] | None) -> Spec:
    """Of TensorFlow's name of a type and sizes, of which -1 is any; None: not said."""
    shape = None if sizes is None else tuple(size if size >= 0 else None for size in sizes)
    return Spec(np.dtype(NUMPY[dtype]) if dtype in NUMPY else None, shape)
