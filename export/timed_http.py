"""HTTP connections whose requests end in time, however slowly the bytes come.

urllib3's timeouts, as a socket's, begin anew with each byte and with each address of a host. Here what it takes for the
time of a connection, a head or a read is the time of all of it.
"""

import http.client
import io
import socket
import ssl
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from export.address import Proxy


def pools(proxy: Proxy | None, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Connections that are kept for the next request, for any number of threads."""
    options: dict[str, Any] = {"maxsize": 64, "retries": False}
    if tls is not None:
        options["ssl_context"] = tls
    if proxy is None:
        manager = urllib3.PoolManager(**options)
    else:
        headers = urllib3.make_headers(proxy_basic_auth=proxy.user) if proxy.user else None
        manager = urllib3.ProxyManager(f"http://{proxy.address}", proxy_headers=headers, **options)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


class _Reader(io.RawIOBase):
    """A socket's bytes until the time is over."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket):
        timeout = sock.gettimeout()
        assert timeout is not None, "urllib3 has set what is left"
        self._raw, self._sock, self._end = raw, sock, time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments, **options):
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))  # pyright: ignore[reportAttributeAccessIssue]


class _InTime:
    """What both kinds of connection have in place of urllib3's."""

    response_class = _Response
    host: str
    port: int
    timeout: float
    sock: socket.socket

    def connect(self) -> None:
        """With the proxy's answer and TLS; then the rest of the time is for the request."""
        end = time.monotonic() + self.timeout
        super().connect()  # pyright: ignore[reportAttributeAccessIssue]
        self.timeout = max(end - time.monotonic(), 1e-3)

    def _new_conn(self) -> socket.socket:
        """Addresses of a host share the time: one that is silent does not keep the others from being tried."""
        end = time.monotonic() + self.timeout
        connection: Any = self
        try:
            found = socket.getaddrinfo(connection._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, connection, error) from error  # pyright: ignore[reportArgumentType]
        failed: OSError | None = None
        for number, (*_, address) in enumerate(found):
            share = max(end - time.monotonic(), 1e-3) / (len(found) - number)
            try:
                sock = create_connection(address[:2], share, socket_options=connection.socket_options)  # pyright: ignore[reportArgumentType]
            except OSError as error:
                failed = error
                continue
            sock.settimeout(max(end - time.monotonic(), 1e-3))
            return sock
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(connection, "timed out") from failed
        raise NewConnectionError(connection, str(failed)) from failed


class _Connection(_InTime, HTTPConnection):
    pass


class _TlsConnection(_InTime, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType]


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection  # pyright: ignore[reportAssignmentType]
