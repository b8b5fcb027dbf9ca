"""An HTTP server on loopback that answers a client of TensorFlow Serving with what a test makes up."""

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


def spec(dtype: str, *sizes: int) -> dict:
    """An input or output as in TensorFlow Serving's metadata."""
    dims = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": "x:0"}


SIGNATURE = {
    "inputs": {"text": spec("DT_STRING", -1)},
    "outputs": {
        "label": spec("DT_STRING", -1),
        "score": spec("DT_FLOAT", -1),
        "probabilities": spec("DT_FLOAT", -1, 2),
    },
}
UNTOLD = {side: {name: {} for name in names} for side, names in SIGNATURE.items()}
"""Of a server that says nothing but the names."""


def described(signature: dict = SIGNATURE, version: int | None = 1) -> bytes:
    spec = {"name": "m", "signature_name": ""} | ({} if version is None else {"version": str(version)})
    signatures = {"signature_def": {"signature_def": {"serving_default": signature}}}
    return http({"model_spec": spec, "metadata": signatures})


def http(content: object, status: str = "200 OK", **headers: str) -> bytes:
    """A response; `content` is JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = {"Content-Type": "application/json", "Content-Length": len(body)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def right(rows: int, width: int = 2) -> dict:
    """Outputs that are right for so many texts."""
    return {"label": ["a"] * rows, "score": [0.5] * rows, "probabilities": [[0.5] * width] * rows}


@dataclass
class Misbehaving:
    """What a server is told to do, and what it has seen.

    Attributes:
        answer: (number of the request, texts) to the bytes that it sends, at once or by and by.
        metadata: answers to what is no prediction, in turn; the last stays.
        seen: texts of each request for a prediction.
        paths: of all requests.
        connections: that were made.
    """

    answer: Callable[[int, list], bytes | Iterable[bytes]]
    metadata: list[bytes | Iterable[bytes]] = field(default_factory=lambda: [described()])
    seen: list[list] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    address: str = ""


@contextmanager
def misbehaving(answer, *metadata: bytes, host: str = "127.0.0.1") -> Iterator[Misbehaving]:
    """Runs while the context lasts."""
    told = Misbehaving(answer, *([list(metadata)] if metadata else []))
    family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET}
    handler = type("Handler", (_Handler,), {"told": told})
    server = type("Server", (ThreadingHTTPServer,), family)((host, 0), handler)
    server.daemon_threads = True
    told.address = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


def drip(content: bytes, pause: float = 0.05) -> Iterator[bytes]:
    """A byte at a time."""
    for byte in content:
        yield bytes([byte])
        time.sleep(pause)


class _Handler(BaseHTTPRequestHandler):
    told: Misbehaving
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.told.connections += 1

    def do_GET(self):
        self.told.paths.append(self.path)
        metadata = self.told.metadata
        self._send(metadata.pop(0) if len(metadata) > 1 else metadata[0])

    def do_POST(self):
        self.told.paths.append(self.path)
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]["text"]
        self.told.seen.append(texts)
        self._send(self.told.answer(len(self.told.seen), texts))

    def _send(self, content: bytes | Iterable[bytes]):
        try:
            for part in [content] if isinstance(content, bytes) else content:
                self.wfile.write(part)
        except OSError:  # the client has had enough
            self.close_connection = True

    def log_message(self, *_):
        pass
