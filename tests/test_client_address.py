"""Where the client's server is, and the way there."""

import base64
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from misbehaving import described, http, misbehaving, right

from export.address import Address, address_of, proxy_of
from export.served import Client, Limits
from export.transport import RequestFailed, Tls, TryAgain, connect

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("localhost:8500", "localhost", 8500),
        ("news_model-1.default.svc.cluster.local.:1", "news_model-1.default.svc.cluster.local.", 1),
        ("10.0.0.1:65535", "10.0.0.1", 65535),
        ("[::1]:8501", "::1", 8501),
        ("[fe80::1%eth0]:8501", "fe80::1%eth0", 8501),
    ],
)
def test_addresses(target, host, port):
    assert address_of(target) == (host, port) and str(address_of(target)) == target


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "is no address: give host:port"),
        ("localhost", "'localhost' is no address: give host:port"),
        (":8500", "is no address"),
        ("localhost:", "'' is no port: give a number from 1 to 65535"),
        ("localhost:0", "'0' is no port"),
        ("localhost:65536", "'65536' is no port"),
        ("localhost:99999999999", "is no port"),
        ("localhost:-1", "is no port"),
        ("localhost:80a", "is no port"),
        ("localhost:٣", "is no port"),
        ("http://localhost:8501", "without http:// or a path"),
        ("localhost:8501/v1", "without http:// or a path"),
        ("unix:/tmp/socket", "is no address"),
        ("::1:8500", r"give an IPv6 address in brackets, such as \[::1\]:8500"),
        ("[localhost]:8500", "'localhost' is no IPv6 address"),
        ("[::1:8500", "in brackets"),
        ("a b:1", "'a b' is no name of a host"),
        ("a..b:1", "is no name of a host"),
        (f"{'a' * 64}:1", "is no name of a host"),
        (f"{'a.' * 127}:1", "is no name of a host"),
        ("a\x1b[31m\n:1", r"'a\\x1b\[31m\\n' is no name of a host"),
        ("user:secret@localhost:8500", "the address has something before an @"),
        ("http://secret@localhost:8500", "the address has something before an @"),
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_what_is_no_address_is_refused_at_once(target, message, protocol):
    with pytest.raises(RequestFailed, match=message) as caught:
        Client(target, model="m", protocol=protocol)
    assert "secret" not in str(caught.value) and str(caught.value).isprintable()


def test_ipv6():
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with (
        misbehaving(lambda number, texts: http({"outputs": right(1)}), host="::1") as server,
        Client(server.address, model="m", protocol="rest") as client,
    ):
        assert client("hello")["label"] == "a"


PROXY = {"http_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("host", "environment", "proxy"),
    [
        ("models", {}, None),
        ("models", PROXY, ("proxy", 3128)),
        ("models", {"HTTP_PROXY": "proxy:3128"}, ("proxy", 3128)),
        ("models", PROXY | {"https_proxy": "http://other:1/"}, ("other", 1)),
        ("models", PROXY | {"https_proxy": "http://other:1", "grpc_proxy": "http://[::1]:2"}, ("::1", 2)),
        ("models", PROXY | {"no_proxy": "models"}, None),
        ("models.example.com", PROXY | {"NO_PROXY": "localhost, .Example.com"}, None),
        ("models.example.org", PROXY | {"no_proxy": "localhost,.example.com"}, ("proxy", 3128)),
        ("models", PROXY | {"no_grpc_proxy": "*"}, None),
        ("10.1.2.3", PROXY | {"no_proxy": "10.0.0.0/8"}, None),
        ("11.1.2.3", PROXY | {"no_proxy": "10.0.0.0/8"}, ("proxy", 3128)),
        ("localhost", PROXY, None),
        ("127.0.0.3", PROXY, None),
        ("::1", PROXY, None),
    ],
)
def test_the_proxy_of_an_address(host, environment, proxy):
    found = proxy_of(Address(host, 8500), environment)
    assert (found and found.address) == proxy


@pytest.mark.parametrize(
    "value", ["socks5://u:secret@proxy:1", "http://u:secret@proxy", "http://u:secret@proxy:1/x", "?"]
)
def test_what_is_no_proxy_is_refused_without_its_password(value):
    with pytest.raises(RequestFailed, match="http_proxy in the environment is no HTTP proxy") as caught:
        proxy_of(Address("models", 1), {"http_proxy": value})
    assert "secret" not in str(caught.value)


@contextmanager
def http_proxy(refuse: bool = False):
    """Gives the address of a proxy and what it was asked: method, where to, with which user."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self):
            self.raw_requestline = self.rfile.readline()
            if self.raw_requestline and self.parse_request():
                user = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
                asked.append((self.command, self.path, base64.b64decode(user).decode()))
                self.wfile.write(http(b"", "403 No") if refuse else described())
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_both_protocols_go_through_the_proxy_that_the_environment_names(protocol, monkeypatch):
    options = {"model": "m", "protocol": protocol, "limits": Limits(timeout=1, attempts=1)}
    with http_proxy(refuse=True) as (address, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://u%40x:secret@{address}")
        with Client("models.example:8500", **options) as client, pytest.raises(RequestFailed) as caught:
            client("hello")
        assert asked
        assert {user for _, _, user in asked} == {"u@x:secret"}
        method, where = (
            ("CONNECT", "models.example:8500") if protocol == "grpc" else ("GET", "http://models.example:8500/")
        )
        assert all(found == method and path.startswith(where) for found, path, _ in asked)
        assert "secret" not in str(caught.value)
        asked.clear()
        monkeypatch.setenv("no_proxy", "models.example")
        with Client("models.example:8500", **options) as client, pytest.raises(TryAgain):
            client("hello")
        assert asked == []


def test_answers_through_a_proxy(monkeypatch):
    with http_proxy() as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        with Client("models.example:8500", model="m", protocol="rest") as client:
            assert client.inputs == ["text"]
    assert asked == [("GET", "http://models.example:8500/v1/models/m/metadata", "")]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_certificates_that_are_none_are_refused_at_once(protocol, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    for files, message in (
        (Tls(root=tmp_path / "absent.pem"), "absent.pem: no such certificate or key file"),
        (Tls(root=other), "other.pem holds no certificates in PEM form"),
        (Tls(certificate=other, key=other), "are no certificate and its key in PEM form, unencrypted"),
        (Tls(key=other), "go together"),
    ):
        with pytest.raises(RequestFailed, match=message):
            connect(protocol, "localhost:1", files)


def test_a_server_without_tls_is_one_sentence():
    with misbehaving(lambda number, texts: http({"outputs": right(1)})) as server:
        options = {"model": "m", "protocol": "rest", "limits": Limits(timeout=2)}
        with Client(server.address, tls=Tls(), **options) as client, pytest.raises(RequestFailed, match=r"\(TLS\)"):
            client("hello")
