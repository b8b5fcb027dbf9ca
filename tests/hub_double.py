"""A stand-in for the Hugging Face Hub on this machine, which the true huggingface_hub speaks to.

It answers HEAD and GET of /OWNER/NAME/resolve/REVISION/FILE with the headers that the hub sends (X-Repo-Commit, ETag,
X-Error-Code), and sends old names without an owner to the new ones, as the hub does.
"""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_PATH = re.compile(r"/(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class HubDouble:
    """Models by name: a folder for each commit, and the commits of branches and tags."""

    def __init__(self):
        self.commits: dict[str, dict[str, Path]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.moved: dict[str, str] = {}
        """Old names."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request for a file."""
        self.token: str | None = None
        """Asked for, where set."""
        self.status = 200
        """503: out of order."""
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, folder: Path, ref: str = "main") -> str:
        """A new commit of a model, which `ref` names from now on; returns it."""
        number = len(self.commits.setdefault(name, {}))
        commit = hashlib.sha1(f"{name} {number}".encode()).hexdigest()
        self.commits[name][commit] = folder
        self.refs.setdefault(name, {})[ref] = commit
        return commit

    def fetched(self) -> list[str]:
        """Names of the files whose contents were sent."""
        return [path.rpartition("/")[2] for method, path in self.asked if method == "GET"]

    def answer(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        match = _PATH.fullmatch(unquote(path))
        if self.status != 200 or not match:
            return self.status if self.status != 200 else 404, {}, b""
        name, revision = match["name"], match["revision"]
        if name in self.moved:
            return 307, {"Location": path.replace(name, self.moved[name], 1)}, b""
        if name not in self.commits or (self.token and token != f"Bearer {self.token}"):
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
        commit = self.refs[name].get(revision, revision)
        folder = self.commits[name].get(commit)
        if folder is None:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        file = folder / match["file"]
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = file.read_bytes()
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body


@contextlib.contextmanager
def running_hub() -> Iterator[HubDouble]:
    """A hub that answers until the block ends."""
    hub = HubDouble()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            # The library also asks for things of its own.
            if "/resolve/" in self.path:
                hub.asked.append((self.command, self.path))
            status, headers, body = hub.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
