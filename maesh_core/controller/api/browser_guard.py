"""Refuses requests that another site makes a browser send to the controller.

The API has no authentication, so a browser that can reach it must not be used by others. A site that points its own
name at the controller's address (DNS rebinding) shares an origin with it; the Host header then has that name. Takes
header fields, returns why a request is refused. Proxies, probes and commands are no browsers, and may use any name.
"""

import socket
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import NamedTuple

from maesh_core.model.addresses import parse_address

EVERY_HOST = "all"
"""This entry of `--api-hosts` disables the check of Host."""
BROWSER_FIELDS = frozenset({b"accept-language", b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode"})
"""Browsers send at least one of these with every request, and a script cannot remove all of them (fetch.spec.whatwg.org
section 4.6 adds Accept-Language)."""


class Refusal(NamedTuple):
    """Why a request is refused, and the status of the response."""

    status: int
    text: str


class BrowserGuard:
    """Checks Host and Origin. `hosts` are further names, `namespace` is that of the mesh."""

    __slots__ = ("_hosts", "_suffixes")

    def __init__(self, hosts: Collection[str] = (), *, namespace: str = "maesh", cluster_domain: str = "") -> None:
        own = ("localhost", socket.gethostname(), f"maesh-controller.{namespace}")
        self._hosts = frozenset(name.rstrip(".").lower() for name in (*own, *hosts))
        self._suffixes = (".localhost", ".svc", *([f".svc.{cluster_domain.lower()}"] if cluster_domain else []))

    def __repr__(self) -> str:
        return f"<BrowserGuard {sorted(self._hosts)}>"

    def check(self, fields: Sequence[tuple[bytes, bytes]], *, is_page: bool) -> Refusal | None:
        """Check a request; None if it is fine. A page is for browsers, so its requests are always checked."""
        found = {name: value.decode("latin-1").strip().lower() for name, value in reversed(fields)}
        if not is_page and BROWSER_FIELDS.isdisjoint(found):
            return None
        host = found.get(b"host", "")
        if not self._is_known(cut_port(host)):
            text = f"the controller does not answer browsers under this name; --api-hosts {cut_port(host)} allows it"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, text)
        origin = found.get(b"origin")
        is_foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        is_embedded = found.get(b"sec-fetch-mode") != "navigate" or found.get(b"sec-fetch-dest") != "document"
        if is_foreign or (found.get(b"sec-fetch-site") in ("cross-site", "same-site") and is_embedded):
            return Refusal(HTTPStatus.FORBIDDEN, "another site sent this request")
        return None

    def _is_known(self, name: str) -> bool:
        """Whether a name cannot be another site's: an address, a name without a dot, or one of the known ones."""
        if EVERY_HOST in self._hosts or name in self._hosts or name.endswith(self._suffixes):
            return True
        return bool(name) and (parse_address(name) is not None or "." not in name)


def cut_port(host: str) -> str:
    """Cut the port off a Host field, the brackets off an address, and the last dot off a name."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
