"""Refuses requests under a foreign name, and those that another site makes a browser send to the controller.

A site that points its own name at the controller's address (DNS rebinding) shares an origin with it; the Host header
then has that name. Host is checked for every client, because it is not always visible that one is a browser. A site
that links to the controller's address cannot read the answer, but costly answers are work. Takes header fields, returns
why a request is refused.
"""

import socket
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from maesh_core.model.addresses import parse_address
from maesh_core.plain_http.browser_marks import is_from_browser

EVERY_HOST = "all"
"""This entry of `--api-hosts` disables the check of Host."""
OWN_FIELD = b"x-maesh-request"
"""The controller's own pages send this field. A page of another site cannot: a browser asks the controller for
permission first (CORS preflight), which is refused."""
NOT_OURS = (
    "a browser gets this only for the controller's own pages; a program that looks like one sends X-Maesh-Request: 1"
)


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

    def check(self, fields: Sequence[tuple[bytes, bytes]], *, is_page: bool, is_costly: bool = False) -> Refusal | None:
        """Check a request; None if it is fine. A page is for browsers, so its requests are checked like those of one.

        A browser's request for a costly answer must show that a page of the controller, or the user, has sent it.
        """
        found = {name: value.decode("latin-1").strip().lower() for name, value in reversed(fields)}
        host = found.get(b"host", "")
        if not self._is_known(cut_port(host)):
            text = f"the controller does not answer under this name; --api-hosts {cut_port(host)} allows it"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, text)
        if not is_page and not is_from_browser(fields):
            return None
        origin = found.get(b"origin")
        is_foreign = origin is not None and origin not in _list_origins(host)
        is_embedded = found.get(b"sec-fetch-mode") != "navigate" or found.get(b"sec-fetch-dest") != "document"
        if is_foreign or (found.get(b"sec-fetch-site") in ("cross-site", "same-site") and (is_embedded or is_costly)):
            return Refusal(HTTPStatus.FORBIDDEN, "another site sent this request")
        if is_costly and not _is_own(found, host):
            return Refusal(HTTPStatus.FORBIDDEN, NOT_OURS)
        return None

    def _is_known(self, name: str) -> bool:
        """Whether a name cannot be another site's: an address, a name without a dot, or one of the known ones."""
        if EVERY_HOST in self._hosts or name in self._hosts or name.endswith(self._suffixes):
            return True
        return bool(name) and (parse_address(name) is not None or "." not in name)


def _list_origins(host: str) -> tuple[str, str]:
    return f"http://{host}", f"https://{host}"


def _is_own(found: Mapping[bytes, str], host: str) -> bool:
    """Whether a field that no page of another site can set shows that the request comes from here."""
    referer = found.get(b"referer", "")
    return (
        OWN_FIELD in found
        or b"origin" in found  # it has been compared with Host
        or any(referer == origin or referer.startswith(f"{origin}/") for origin in _list_origins(host))
        or found.get(b"sec-fetch-site") in ("same-origin", "none")
    )


def cut_port(host: str) -> str:
    """Cut the port off a Host field, the brackets off an address, and the last dot off a name."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
