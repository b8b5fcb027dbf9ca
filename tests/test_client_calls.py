"""Calls of the client: their time, their attempts, their connections, their end."""

import email.utils
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from misbehaving import described, drip, http, misbehaving, right

from export import client as module
from export.served import Client, Limits
from export.transport import OutOfTime, RequestFailed, TryAgain

ROOT = Path(__file__).parents[1]


def connect(server, **limits) -> Client:
    return Client(server.address, model="m", protocol="rest", limits=Limits(**{"timeout": 5, **limits}))


def good(texts) -> bytes:
    return http({"outputs": right(len(texts))})


DRIPS = {
    "head": lambda content: drip(content),
    "body": lambda content: (part for part in [content[:-50], *drip(content[-50:])]),
    "chunks": lambda content: drip(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n{\r\n" + b"1\r\n \r\n" * 99
    ),
    "nothing": lambda content: (time.sleep(2) or b"" for _ in range(1)),
}


@pytest.mark.parametrize("how", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_server_that_drips_does_not_outlast_the_timeout(how, count):
    """Each byte comes in time, all of them do not."""
    with (
        misbehaving(lambda number, texts: how(good(texts))) as server,
        connect(server, timeout=0.4, batch_size=1) as client,
    ):
        begin = time.monotonic()
        with pytest.raises(OutOfTime, match="gave no answer for model 'm'"):
            client(["hello"] * count)
        assert 0.35 < time.monotonic() - begin < 1.5


def test_a_description_that_drips_neither(capsys):
    with misbehaving(lambda number, texts: good(texts)) as server:
        server.metadata = [drip(described())]
        options = ["--target", server.address, "--protocol", "rest", "--model", "m", "--timeout", "0.3", "hello"]
        assert module.main(options) == 75
    assert capsys.readouterr().err.count("\n") == 1


def test_all_parts_and_attempts_share_the_time():
    def slow(number, texts):
        time.sleep(0.15)
        return good(texts)

    with misbehaving(slow) as server, connect(server, timeout=0.5, batch_size=1, parallel=1) as client:
        assert len(client(["hello"] * 2)) == 2
        begin = time.monotonic()
        with pytest.raises(OutOfTime):
            client(["hello"] * 20)
        assert time.monotonic() - begin < 1.5


def test_an_address_that_is_silent_does_not_keep_the_others_from_being_tried(monkeypatch):
    """A name of two addresses, of which the first takes no connection."""
    full = socket.socket()
    full.bind(("127.0.0.2", 0))
    full.listen(0)
    waiting = []
    for _ in range(3):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(full.getsockname())
    with misbehaving(lambda number, texts: good(texts)) as server:
        addresses = [full.getsockname(), ("127.0.0.1", int(server.address.rpartition(":")[2]))]
        resolved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        original = socket.getaddrinfo

        def resolve(host, *arguments, **options):
            return resolved if host == "two.example" else original(host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        with Client("two.example:80", model="m", protocol="rest", limits=Limits(timeout=1)) as client:
            assert client("hello")["label"] == "a"
    for sock in [full, *waiting]:
        sock.close()


@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Timeout"])
def test_what_may_pass_is_asked_again(status):
    def twice(number, texts):
        return good(texts) if number > 2 else http(b"<html>later</html>", status)

    with misbehaving(twice) as server, connect(server) as client:
        assert client("hello")["label"] == "a"
        assert len(server.seen) == 3
    with misbehaving(lambda number, texts: http(b"<html>later</html>", status)) as server:
        with (
            connect(server, attempts=2) as client,
            pytest.raises(TryAgain, match=r"is (too busy|not available): <html>"),
        ):
            client("hello")
        assert len(server.seen) == 2


def test_a_connection_that_breaks_is_asked_again():
    def broken(number, texts):
        if number == 1:
            yield good(texts)[:-9]
            raise BrokenPipeError
        yield good(texts)

    with misbehaving(broken) as server, connect(server) as client:
        assert client("hello")["label"] == "a"
        assert len(server.seen) == 2


DATE = email.utils.formatdate


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        (lambda: "1", 1.0, 2.5),
        (lambda: DATE(time.time() + 2, usegmt=True), 0.9, 3.5),
        (lambda: "0", 0.0, 0.9),
        (lambda: "soon", 0.0, 0.9),
        (lambda: "-1", 0.0, 0.9),
        (lambda: DATE(0, usegmt=True), 0.0, 0.9),
    ],
    ids=["seconds", "date", "zero", "no number", "negative", "past"],
)
def test_retry_after_is_kept(given, least, most):
    times = []

    def answer(number, texts):
        times.append(time.monotonic())
        return good(texts) if number > 1 else http({"error": "slow down"}, "429 Busy", Retry_After=given())

    with misbehaving(answer) as server, connect(server) as client:
        client("hello")
    assert least <= times[1] - times[0] < most


def test_a_wait_that_does_not_fit_ends_at_once(capsys):
    with misbehaving(lambda number, texts: http({"error": "slow"}, "503 No", Retry_After="60")) as server:
        begin = time.monotonic()
        options = ["--target", server.address, "--protocol", "rest", "--model", "m", "--timeout", "3", "hello"]
        assert module.main(options) == 75
        assert time.monotonic() - begin < 1 and len(server.seen) == 1
    assert capsys.readouterr().err == f"error: {server.address} is not available: slow (it asks to wait 60 s).\n"


def test_one_part_that_fails_ends_the_call():
    def answer(number, texts):
        return http({"error": "no"}, "400 No") if texts == ["no"] else http(b"", "503 Busy", Retry_After="2")

    with misbehaving(answer) as server, connect(server, batch_size=1) as client:
        begin = time.monotonic()
        with pytest.raises(RequestFailed, match="refused"):
            client(["busy", "also busy", "no"])
        assert time.monotonic() - begin < 1.5


def test_connections_are_kept_and_shared_by_threads():
    with misbehaving(lambda number, texts: good(texts)) as server, connect(server) as client:
        for _ in range(5):
            client("hello")
        assert server.connections == 1
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda number: client([f"hello {number}"] * 33), range(24)))
        assert [len(answers) for answers in found] == [33] * 24
        assert server.connections <= 8 * 2
        assert sorted(map(len, server.seen[5:])) == [1] * 24 + [32] * 24


@pytest.mark.parametrize("texts", [["one"], [f"number {i}" for i in range(40)]], ids=["one", "several"])
def test_ctrl_c_is_one_line(texts):
    asked, over = threading.Event(), threading.Event()

    def never(number, texts):
        asked.set()
        over.wait(20)
        return b""

    with misbehaving(never, described()) as server:
        command = [sys.executable, "-m", "export.client", "--target", server.address, "--protocol", "rest"]
        process = subprocess.Popen(
            [*command, "--model", "m", *texts], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert asked.wait(60)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=30)
        over.set()
    assert (process.returncode, output, error) == (130, "", "stopped by Ctrl-C.\n")
    assert time.monotonic() - begin < 5
