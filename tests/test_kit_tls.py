"""The kit's certificates, its proxy with what it logs, and the records that others read."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

import grpc
import numpy as np
import pytest
import yaml
from google.protobuf import text_format
from serving_double import ServingDouble
from serving_protos import CLASSES
from tiny_export import LABELS, export_tiny

from export import kit, request_log
from export.client import Client, Limits
from export.transport import RequestFailed, Tls

ROOT = Path(__file__).parents[1]
OPTIONS = {"model": "news", "limits": Limits(timeout=5, attempts=1)}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_tiny(folder)
    return folder


def made(model: Path, out: Path, *options: str) -> Path:
    arguments = [str(model), "--out", str(out), "--name", "news", "--memory", "1024", *options]
    assert kit.main(arguments) == 0
    subprocess.run([out / "tls.sh"], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def trusting(model, tmp_path_factory) -> Path:
    """Lets in everyone, logs every request over REST."""
    return made(model, tmp_path_factory.mktemp("trusting"), "--tls", "--log-requests", "1")


@pytest.fixture(scope="module")
def strict(model, tmp_path_factory) -> Path:
    """Lets in only clients with a certificate."""
    return made(model, tmp_path_factory.mktemp("strict"), "--client-certificates")


def own(folder: Path, certificate: bool = True) -> Tls:
    tls = folder / "tls"
    return (
        Tls(tls / "authority.pem", tls / "client.pem", tls / "client.key")
        if certificate
        else Tls(tls / "authority.pem")
    )


def credentials(folder: Path) -> grpc.ServerCredentials:
    """As BuildServerCredentials in tensorflow_serving/model_servers/server.cc makes them of ssl.config."""
    config = text_format.Parse((folder / "tls/server/ssl.config").read_text(), CLASSES["SSLConfig"]())
    pair = (config.server_key.encode(), config.server_cert.encode())
    return grpc.ssl_server_credentials([pair], config.custom_ca.encode(), config.client_verify)


@needs_openssl
def test_grpc_is_for_who_trusts_and_is_trusted(trusting, strict, model):
    with ServingDouble(model, "news", credentials=credentials(trusting)) as double:
        with Client(double.grpc, tls=own(trusting, False), **OPTIONS) as asked:
            assert asked(["bank"])["label"][0] in LABELS
        for tls in (Tls(), None):
            with Client(double.grpc, tls=tls, **OPTIONS) as asked, pytest.raises(RequestFailed):
                asked(["bank"])
    with ServingDouble(model, "news", credentials=credentials(strict)) as double:
        with Client(double.grpc, tls=own(strict), **OPTIONS) as asked:
            assert asked(["bank"])["label"][0] in LABELS
        with Client(double.grpc, tls=own(strict, False), **OPTIONS) as asked, pytest.raises(RequestFailed):
            asked(["bank"])


def verify(folder: Path, purpose: str, file: str) -> None:
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "tls/authority.pem", file]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@needs_openssl
def test_certificates_are_strict_and_renewed_by_the_same_authority(trusting):
    verify(trusting, "sslserver", "tls/server/tls.crt")
    verify(trusting, "sslclient", "tls/client.pem")
    authority, server = (trusting / "tls/authority.pem").read_bytes(), (trusting / "tls/server/tls.crt").read_bytes()
    subprocess.run([trusting / "tls.sh"], check=True, capture_output=True)
    assert (trusting / "tls/authority.pem").read_bytes() == authority
    assert (trusting / "tls/server/tls.crt").read_bytes() != server
    verify(trusting, "sslserver", "tls/server/tls.crt")
    assert {oct(path.stat().st_mode & 0o777) for path in (trusting / "tls").rglob("*.key")} == {"0o600"}


@needs_openssl
def test_certificates_that_cannot_be_made_are_refused(trusting, tmp_path):
    script = tmp_path / "tls.sh"
    shutil.copy(trusting / "tls.sh", script)

    def refused(*names: str, **environment: str) -> str:
        process = subprocess.run([script, *names], capture_output=True, text=True, env=os.environ | environment)
        assert process.returncode != 0
        return process.stderr

    assert "'a b' is no name of a host" in refused("a b")
    assert "ends before" in refused(DAYS="9999")
    # As kits of before made it.
    subprocess.run(
        ["openssl", "req", "-x509", "-key", tmp_path / "tls/authority.key", "-subj", "/CN=old", "-days", "3650",
         "-out", tmp_path / "tls/authority.pem"], check=True, capture_output=True
    )  # fmt: skip
    assert "made by an earlier kit" in refused()


@needs_openssl
@pytest.mark.parametrize("name", ["trusting", "strict"])
def test_a_pod_makes_the_file_that_the_script_makes(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    (first,) = next(yaml.safe_load_all((folder / "kubernetes.yaml").read_text()))["spec"]["template"]["spec"][
        "initContainers"
    ]
    shell, flags, script = first["command"]
    script = script.replace("/ssl/", f"{tmp_path}/").replace("/tls/", f"{folder}/tls/server/")
    subprocess.run([shell, flags, script], check=True)
    assert (tmp_path / "ssl.config").read_text() == (folder / "tls/server/ssl.config").read_text()
    # What it reads is what kustomize makes a secret of.
    (secret,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["secretGenerator"]
    assert {Path(file).name for file in secret["files"]} == {"tls.crt", "tls.key", "ca.crt"}
    assert all((folder / file).is_file() for file in secret["files"])


@contextlib.contextmanager
def proxy(folder: Path, rest: str, log: Path):
    """HAProxy with the kit's file, on a port of this machine; yields it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = (folder / "config/proxy.cfg").read_text()
    places = {
        "bind :8443": f"bind 127.0.0.1:{port}",
        "127.0.0.1:8501": rest.replace("localhost", "127.0.0.1"),
        " /tls/": f" {folder}/tls/server/",
    }
    for place, here in places.items():
        assert place in text
        text = text.replace(place, here)
    config = log.with_name("proxy.cfg")
    config.write_text(text)
    with log.open("wb") as out:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stdout=out, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def fetched(port: int, path: str, context: ssl.SSLContext | None, scheme: str = "https") -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{scheme}://localhost:{port}{path}", timeout=5) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


TEXTS = ['"quoted"\nand\r\ncut \u2028', "{[,]} \\ é漢字 😀", "%[src] %{+Q}o $(id)", ""]


@needs_openssl
@needs_haproxy
def test_rest_is_encrypted_and_logged(trusting, model, tmp_path):
    context = ssl.create_default_context(cafile=str(trusting / "tls/authority.pem"))
    log = tmp_path / "log"
    with ServingDouble(model, "news", {"stable": 1}) as double, proxy(trusting, double.rest, log) as port:
        target = f"localhost:{port}"
        with Client(target, protocol="rest", label="stable", tls=own(trusting, False), **OPTIONS) as asked:
            answers = asked(TEXTS)
            asked(["x" * 40_000])
        assert fetched(port, "/v1/models/news", context) == 200
        assert fetched(port, "/v1/models/news/labels/stable/metadata", context) == 200
        assert fetched(port, "/v1/models/other", context) == fetched(port, "/", context) == 404
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as broken:
            broken.sendall(b"garbage\r\n\r\n")
            broken.recv(1)
        # Nothing without encryption.
        with pytest.raises((URLError, ConnectionError)):
            fetched(port, "/v1/models/news", None, "http")
    command = [sys.executable, "-m", "export.request_log"]
    process = subprocess.run(command, stdin=log.open(), capture_output=True, text=True, cwd=ROOT, check=True)
    (record,) = request_log.read(process.stdout.splitlines())
    # What is no prediction, what does not fit a line and what is no request are passed over.
    assert (record.model, record.version, record.label, record.signature) == ("news", None, "stable", "serving_default")
    (name,) = record.inputs
    order = [TEXTS.index(text) for text in record.inputs[name]]
    assert sorted(order) == list(range(len(TEXTS)))
    assert record.outputs["label"] == [answers["label"][i] for i in order]
    np.testing.assert_allclose(record.outputs["score"], [answers["score"][i] for i in order], atol=1e-6)


@needs_openssl
@needs_haproxy
def test_the_proxy_asks_for_certificates_where_grpc_does(strict, model, tmp_path):
    known = ssl.create_default_context(cafile=str(strict / "tls/authority.pem"))
    unknown = ssl.create_default_context(cafile=str(strict / "tls/authority.pem"))
    known.load_cert_chain(strict / "tls/client.pem", strict / "tls/client.key")
    with ServingDouble(model, "news") as double, proxy(strict, double.rest, tmp_path / "log") as port:
        assert fetched(port, "/v1/models/news", known) == 200
        with pytest.raises((URLError, ConnectionError, ssl.SSLError)):
            fetched(port, "/v1/models/news", unknown)
    assert (tmp_path / "log").read_text() == ""


def test_the_clients_own_log(tmp_path):
    path = tmp_path / "requests.jsonl"
    log = request_log.RequestLog(path, share=1)
    outputs = {"label": ["sport"], "score": np.array([0.5], np.float32), "probabilities": np.array([[0.5, 0.5]])}
    assert log.add("news", {"text": ["half \ud800"]}, outputs, version=3)
    assert not request_log.RequestLog(path, share=0).add("news", {"text": ["a"]}, outputs)
    (record,) = request_log.read(path.read_text().splitlines())
    assert (record.version, record.label, record.inputs) == (3, None, {"text": ["half \ud800"]})
    assert record.outputs == {"label": ["sport"], "score": [0.5], "probabilities": [[0.5, 0.5]]}
    assert path.stat().st_mode & 0o077 == 0
    assert set(json.loads(path.read_text())) == set(request_log.Record.__annotations__)


def test_a_share_of_the_requests_is_kept(tmp_path):
    log = request_log.RequestLog(tmp_path / "log", share=0.25)
    kept = sum(log.add("news", {"text": ["a"]}, {}) for _ in range(400))
    assert 50 < kept < 150 and len((tmp_path / "log").read_text().splitlines()) == kept
    with pytest.raises(ValueError, match="share 2: it is from 0 to 1"):
        request_log.RequestLog(tmp_path / "log", share=2)


@pytest.mark.parametrize(
    ("request_body", "response", "inputs", "outputs"),
    [
        ({"instances": [{"a": "x", "b": "y"}]}, {"predictions": [{"c": 1}]}, {"a": ["x"], "b": ["y"]}, {"c": [1]}),
        ({"instances": ["x", "y"]}, {"predictions": [0.5, 0.6]}, {"": ["x", "y"]}, {"": [0.5, 0.6]}),
        ({"inputs": {"a": ["x"]}}, {"outputs": {"c": [1]}}, {"a": ["x"]}, {"c": [1]}),
        ({"inputs": ["x"]}, {"outputs": [[1]]}, {"": ["x"]}, {"": [[1]]}),
    ],
)
def test_all_forms_of_rest_are_read(request_body, response, inputs, outputs):
    line = json.dumps(
        {"time": "t", "path": "/v1/models/m/versions/7:predict", "request": request_body, "response": response}
    )
    (record,) = request_log.read(["[NOTICE] starting", line])
    assert (record.version, record.inputs, record.outputs) == (7, inputs, outputs)


@pytest.mark.parametrize(
    "line", ['{"time": 1', "{}", '{"request": 1, "response": {}, "path": "/v1/models/m:predict", "time": 1}']
)
def test_a_line_that_is_no_record_is_named(line):
    with pytest.raises(ValueError, match=r"log.txt, line 2: it is no record"):
        list(request_log.read(["", line], "log.txt"))
