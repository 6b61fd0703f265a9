"""Finds the HTTP proxy for an API server: that of the kubeconfig, otherwise that of the environment.

Takes addresses and variables; returns a proxy's URL, or raises StartupError for an unusable proxy. The rules for
HTTPS_PROXY, HTTP_PROXY and NO_PROXY are those of golang.org/x/net/http/httpproxy, which kubectl uses.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from maesh_core.errors import StartupError

_SCHEMES = ("http", "https")
_PORTS = {"http": "80", "https": "443"}
_HOST_AND_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)")

Address = IPv4Address | IPv6Address


def find_proxy(server: str, configured: str | None, environment: Mapping[str, str]) -> str | None:
    """Find the proxy for a server's URL; None means a direct connection. `configured` is the kubeconfig's `proxy-url`.

    Raises StartupError for an invalid address, and for schemes other than http and https: SOCKS is not supported.
    """
    if configured:
        return _check(configured, "proxy-url")
    try:
        url = urlsplit(server)
        host, port = url.hostname or "", str(url.port or _PORTS[url.scheme])
    except ValueError as error:
        raise StartupError(f"{server!r} is not the address of a server ({error})") from error
    for name in (f"{url.scheme.upper()}_PROXY", f"{url.scheme.lower()}_proxy"):
        if value := environment.get(name):
            is_proxied = _is_proxied(host, port, environment)
            return _check(value if "://" in value else f"http://{value}", name) if is_proxied else None
    return None


def _check(proxy: str, origin: str) -> str:
    """Check a proxy's URL. The errors do not contain its password."""
    try:
        url = urlsplit(proxy)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise StartupError(f"{origin}: it is not the address of a proxy ({error})") from error
    shown = f"{url.scheme}://{host or ''}{f':{port}' if port else ''}"
    if url.scheme not in _SCHEMES:
        raise StartupError(
            f"{origin}: the proxy {shown} cannot be used: only http and https proxies are supported, not SOCKS"
        )
    if not host:
        raise StartupError(f"{origin}: {shown} is not the address of a proxy")
    return proxy


def _is_proxied(host: str, port: str, environment: Mapping[str, str]) -> bool:
    """Whether requests to a server use the environment's proxy: never on this machine, nor if NO_PROXY excludes it."""
    address = _read_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    entries = (entry.strip().lower() for entry in exceptions.split(","))
    return not any(_matches(entry, host.lower(), address, port) for entry in entries if entry)


def _matches(entry: str, host: str, address: Address | None, port: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry and (network := _read_network(entry)) is not None:
        return address is not None and address in network
    parts = _HOST_AND_PORT.fullmatch(entry)
    name = (parts["bracketed"] or parts["host"] or "") if parts else entry
    if not name or (parts and parts["port"] not in ("", port)):
        return False
    excepted = _read_address(name)
    if excepted is not None or address is not None:
        return excepted == address
    suffix = name.removeprefix("*")
    return host.endswith(suffix) if suffix.startswith(".") else host == name or host.endswith(f".{name}")


def _read_address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _read_network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
