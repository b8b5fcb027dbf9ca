"""A barrier before TensorFlow connects the workers: it would wait for an hour, ignore signals, and name nobody.

The chief listens at its own address; the others send it their index and settings. When all have connected it checks
that each still answers, and releases them. TensorFlow then takes the same ports.
"""

import contextlib
import json
import socket
import time

from pipeline.errors import UserError, WorkerLost
from pipeline.training.cluster import Cluster

# Seconds that a connected worker has to answer.
ANSWER = 10


def rendezvous(cluster: Cluster, settings: str, timeout: float) -> None:
    """Return when all workers have connected.

    Args:
        cluster: of all workers.
        settings: what must be the same for all of them.
        timeout: seconds to wait for the last one.

    Raises:
        WorkerLost: one did not connect in time; the message has its address.
        UserError: the chief cannot listen at its address, or a worker has other settings.
    """
    (_gather if cluster.index == 0 else _join)(cluster, settings, time.monotonic() + timeout, timeout)


def _gather(cluster: Cluster, settings: str, deadline: float, timeout: float) -> None:
    port = int(cluster.addresses[0].rpartition(":")[2])
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise UserError(f"the chief cannot listen at {cluster.addresses[0]}: {error.strerror}.") from error
    connected: dict[int, _Connection] = {}
    others = range(1, len(cluster.addresses))
    print(f"waiting at {cluster.addresses[0]} for {len(others)} other worker{'s' * (len(others) > 1)}", flush=True)
    with server, contextlib.ExitStack() as connections:

        def fail(error: Exception):
            for connection in connected.values():
                connection.send(error=str(error), user=isinstance(error, UserError))
            raise error

        while True:
            while missing := [i for i in others if i not in connected]:
                left = deadline - time.monotonic()
                if left <= 0:
                    names = " and ".join(map(cluster.name, missing))
                    fail(WorkerLost(f"{names} did not come within {timeout:g} s (training.workers_timeout)."))
                server.settimeout(left)
                try:
                    connection = connections.enter_context(_Connection(server.accept()[0]))
                except TimeoutError:
                    continue
                hello = connection.receive(ANSWER)
                # Other connections, such as health checks, are ignored.
                if isinstance(hello.get("index"), int) and hello["index"] in others:
                    connected[hello["index"]] = connection
                    if hello.get("settings") != settings:
                        name = cluster.name(hello["index"])
                        fail(UserError(f"{name} has other settings than the chief: start all with the same command."))
            for index, connection in list(connected.items()):
                connection.send(alive=True)
                if not connection.receive(ANSWER):
                    del connected[index]
            if len(connected) == len(others):
                break
        for connection in connected.values():
            connection.send(go=True)


def _join(cluster: Cluster, settings: str, deadline: float, timeout: float) -> None:
    host, _, port = cluster.addresses[0].rpartition(":")
    while time.monotonic() < deadline:
        try:
            connection = _Connection(socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER))
        except OSError:
            time.sleep(0.5)
            continue
        with connection:
            connection.send(index=cluster.index, settings=settings)
            # The chief's clock decides; a little longer, to receive its decision.
            while answer := connection.receive(max(deadline - time.monotonic(), 0) + ANSWER):
                if answer.get("go"):
                    return
                if "error" in answer:
                    raise (UserError if answer.get("user") else WorkerLost)(answer["error"])
                connection.send(alive=True)
        time.sleep(0.5)
    raise WorkerLost(f"{cluster.name(0)} did not come within {timeout:g} s (training.workers_timeout).")


def missing(cluster: Cluster) -> list[str]:
    """Names of the workers whose address no longer accepts connections."""
    gone = []
    for index, address in enumerate(cluster.addresses):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except OSError:
            gone.append(cluster.name(index))
    return gone


class _Connection:
    """JSON objects, one a line, over a socket that may break; a context that closes it."""

    def __init__(self, connection: socket.socket):
        self.connection, self.file = connection, connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.connection.close()

    def send(self, **values) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(values).encode() + b"\n")

    def receive(self, seconds: float) -> dict:
        """The next object; {} where none comes in time, or something else, or the connection is broken."""
        self.connection.settimeout(seconds)
        try:
            received = json.loads(self.file.readline(1 << 16))
        except (OSError, ValueError):
            return {}
        return received if isinstance(received, dict) else {}
