"""Where a server is, and the proxy on the way there: the same for gRPC and REST."""

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from export.failures import RequestFailed

# As gRPC looks for them; the first that is set counts.
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
EXEMPTIONS = ("no_grpc_proxy", "no_proxy")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


class Address(NamedTuple):
    """A host, an IPv6 address without brackets, and its port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy(NamedTuple):
    """An HTTP proxy; `user` is its user:password, or empty."""

    address: Address
    user: str = ""


def address_of(target: str) -> Address:
    """The address that host:port means, with an IPv6 address in brackets.

    Raises:
        RequestFailed: it means none.
    """
    if "@" in target:
        # Whatever stands there may be a password: it is not repeated.
        raise RequestFailed("the address has something before an @: give host:port, such as localhost:8500.")
    if "/" in target:
        raise RequestFailed(
            f"{target!r} is no address: give host:port, such as localhost:8500, without http:// or a path; protocol "
            "and tls say the rest."
        )
    host, separator, port = target.rpartition(":")
    if not (separator and host):
        raise RequestFailed(f"{target!r} is no address: give host:port, such as localhost:8500.")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise RequestFailed(f"{target!r}: {port!r} is no port: give a number from 1 to 65535.")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise RequestFailed(f"{target!r}: {host!r} is no IPv6 address.") from None
    elif ":" in host:
        raise RequestFailed(f"{target!r} is no address: give an IPv6 address in brackets, such as [::1]:8500.")
    elif len(host) > 253 or not _NAME.fullmatch(host):
        raise RequestFailed(f"{target!r}: {host!r} is no name of a host.")
    return Address(host, int(port))


def proxy_of(address: Address, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that the environment names for an address, in small or capital letters; None: there is none.

    Exempt are this machine (localhost, 127.0.0.0/8, ::1) and, as in gRPC, hosts that end in an entry of no_proxy or are
    in a network there (10.0.0.0/8); with * all.

    Raises:
        RequestFailed: what it names is no HTTP proxy.
    """
    environment = os.environ if environment is None else environment
    named = {key.lower(): value.strip() for key, value in sorted(environment.items()) if value.strip()}
    variable = next((name for name in PROXIES if name in named), None)
    exempt = ",".join(["localhost,127.0.0.0/8,::1", *(named[name] for name in EXEMPTIONS if name in named)])
    if variable is None or _exempt(address.host, exempt):
        return None
    given = named[variable]
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        wrong = parts.scheme != "http" or parts.path.strip("/")
        proxy = address_of(parts.netloc.rpartition("@")[2]) if not wrong else None
    except ValueError:
        proxy = None
    if proxy is None:
        # It may hold a password: it is not repeated.
        raise RequestFailed(f"{variable} in the environment is no HTTP proxy: set it to http://host:port, or unset it.")
    return Proxy(proxy, unquote(parts.netloc.rpartition("@")[0]))


def _exempt(host: str, entries: str) -> bool:
    for entry in filter(None, map(str.strip, entries.split(","))):
        if entry == "*" or host.lower().endswith(entry.lower()):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
