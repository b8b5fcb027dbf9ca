"""Workers meet before TensorFlow connects them, for it would wait for an hour, deaf to signals, and name nobody.

The chief listens at its own address; the others tell it their number and settings. When all are there it asks each
whether it still is, and lets them go. TensorFlow then takes the same ports.
"""

import contextlib
import json
import socket
import time

from pipeline.errors import UserError, WorkerLost
from pipeline.training.cluster import Cluster

# Seconds for an answer of a worker that is there.
ANSWER = 10


def meet(cluster: Cluster, settings: str, timeout: float) -> None:
    """Return when all workers are there.

    Args:
        cluster: of all workers.
        settings: what must be equal at all of them.
        timeout: seconds to wait for the last one.

    Raises:
        WorkerLost: one did not come; the message has its address.
        UserError: the chief cannot listen at its address, or a worker has other settings.
    """
    (_gather if cluster.index == 0 else _join)(cluster, settings, time.monotonic() + timeout, timeout)


def _gather(cluster: Cluster, settings: str, deadline: float, timeout: float) -> None:
    port = int(cluster.addresses[0].rpartition(":")[2])
    try:
        server = socket.create_server(("", port))
    except OSError as error:
        raise UserError(f"the chief cannot listen at {cluster.addresses[0]}: {error.strerror}.") from error
    there: dict[int, _Line] = {}
    others = range(1, len(cluster.addresses))
    print(f"waiting at {cluster.addresses[0]} for {len(others)} other worker{'s' * (len(others) > 1)}", flush=True)
    with server, contextlib.ExitStack() as open_lines:

        def fail(error: Exception):
            for line in there.values():
                line.say(error=str(error), user=isinstance(error, UserError))
            raise error

        while True:
            while missing := [i for i in others if i not in there]:
                left = deadline - time.monotonic()
                if left <= 0:
                    names = " and ".join(map(cluster.name, missing))
                    fail(WorkerLost(f"{names} did not come within {timeout:g} s (training.workers_timeout)."))
                server.settimeout(left)
                try:
                    line = open_lines.enter_context(_Line(server.accept()[0]))
                except TimeoutError:
                    continue
                hello = line.hear(ANSWER)
                # Whatever else knocks at a port, such as a health check, is let go.
                if isinstance(hello.get("index"), int) and hello["index"] in others:
                    there[hello["index"]] = line
                    if hello.get("settings") != settings:
                        name = cluster.name(hello["index"])
                        fail(UserError(f"{name} has other settings than the chief: start all with the same command."))
            for index, line in list(there.items()):
                line.say(there=True)
                if not line.hear(ANSWER):
                    del there[index]
            if len(there) == len(others):
                break
        for line in there.values():
            line.say(go=True)


def _join(cluster: Cluster, settings: str, deadline: float, timeout: float) -> None:
    host, _, port = cluster.addresses[0].rpartition(":")
    while time.monotonic() < deadline:
        try:
            line = _Line(socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER))
        except OSError:
            time.sleep(0.5)
            continue
        with line:
            line.say(index=cluster.index, settings=settings)
            # The chief's own clock decides; a little more, to hear of it.
            while answer := line.hear(max(deadline - time.monotonic(), 0) + ANSWER):
                if answer.get("go"):
                    return
                if "error" in answer:
                    raise (UserError if answer.get("user") else WorkerLost)(answer["error"])
                line.say(here=True)
        time.sleep(0.5)
    raise WorkerLost(f"{cluster.name(0)} did not come within {timeout:g} s (training.workers_timeout).")


def missing(cluster: Cluster) -> list[str]:
    """Names of the workers at whose address nobody listens any more."""
    gone = []
    for index, address in enumerate(cluster.addresses):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except OSError:
            gone.append(cluster.name(index))
    return gone


class _Line:
    """JSON objects, one a line, over a connection that may break; a context that closes it."""

    def __init__(self, connection: socket.socket):
        self.connection, self.file = connection, connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.connection.close()

    def say(self, **values) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(values).encode() + b"\n")

    def hear(self, seconds: float) -> dict:
        """What the other says; {} where it says nothing in time, or no JSON object, or is gone."""
        self.connection.settimeout(seconds)
        try:
            said = json.loads(self.file.readline(1 << 16))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}
