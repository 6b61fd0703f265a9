"""Protects the admin port of a node: TLS with the node's certificate, and proof that a controller asks.

Takes the settings, and from a plugin the certificates and what recognizes a controller. Without a plugin, on loopback
and with `--admin-clear`, nothing is protected. As long as there is no certificate, a protected port answers only its
open pages.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from maesh_core.errors import SettingsError
from maesh_core.model.metrics import MetricFamily
from maesh_core.plain_http.messages import Request, Response
from maesh_core.plain_http.refusals import RefusalLog
from maesh_core.plain_http.server import HttpServer
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.proxy.node.admin import PROBE_PAGES, build_text
from maesh_core.proxy.node.fetch import Fetcher

IsController = Callable[[Mapping[str, Any]], bool]
"""Whether a verified certificate, as `SSLObject.getpeercert` describes it, is that of a controller and valid now."""
Pages = Callable[[Request], Response | Awaitable[Response]]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class AdminSecurity:
    """The protection of one admin port. `answer` is what the server calls with each request."""

    __slots__ = ("_is_controller", "_is_never_protected", "_open_paths", "_pages", "_refusals", "_server")

    def __init__(self, pages: Pages, *, host: str, is_clear: bool, open_paths: Collection[str]) -> None:
        for path in open_paths:
            if not path.startswith("/"):
                raise SettingsError(f"--admin-open: {path!r} is not a path such as /metrics")
        self._pages = pages
        self._is_never_protected = is_clear or host in _LOOPBACK
        self._open_paths = PROBE_PAGES | frozenset(path.encode("ascii", "replace") for path in open_paths)
        self._is_controller: IsController | None = None
        self._refusals = RefusalLog()
        self._server: HttpServer | None = None

    def __repr__(self) -> str:
        """Show whether the port is protected."""
        return f"<AdminSecurity protected={self.is_protected}>"

    @property
    def is_protected(self) -> bool:
        """Whether only controllers may read the pages that are not open."""
        return self._is_controller is not None

    def attach(self, server: HttpServer) -> None:
        """Use this server."""
        self._server = server
        server.may_be_clear = self._may_be_clear
        server.is_protected = self.is_protected

    def protect(self, is_controller: IsController) -> None:
        """Protect the port from now on."""
        if self._is_never_protected:
            return
        self._is_controller = is_controller
        if self._server is not None:
            self._server.is_protected = True

    def use(self, credentials: TlsCredentials) -> None:
        """Use a certificate for further connections. Raises OSError or ValueError if it cannot be used."""
        if not self.is_protected or self._server is None:
            return
        from maesh_core.process.tls_contexts import build_server_context  # it imports ssl, which takes 5 MB

        self._server.context = build_server_context(credentials)

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request, if its sender may read the page."""
        if self._is_controller is None or self._is_open(request):
            return self._pages(request)
        certificate = request.certificate
        if certificate is not None and self._is_controller(certificate):
            return self._pages(request)
        reason = "missing" if certificate is None else "certificate"
        text = "this page is only for controllers of the mesh, which show their certificate"
        self._refusals.note(request.remote, reason, f"403 {text}")
        return build_text(403, text)

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the counts of refusals, if the port is protected."""
        if not self.is_protected:
            return []
        return [
            MetricFamily(
                name="maesh_proxy_admin_refusals_total",
                type="counter",
                help="Requests to the admin port that were refused because of who sent them.",
                labels=("reason",),
                samples=self._refusals.list_counts(),
            )
        ]

    def _may_be_clear(self, request: Request) -> bool:
        if self._is_open(request):
            return True
        self._refusals.note(request.remote, "clear", "426 it came without TLS")
        return False

    def _is_open(self, request: Request) -> bool:
        return request.target.partition(b"?")[0] in self._open_paths


class NodeSecurity:
    """What a node's certificate is used for: the admin port, and the pulls."""

    __slots__ = ("_admin", "_fetcher")

    def __init__(self, admin: AdminSecurity, fetcher: Fetcher) -> None:
        self._admin = admin
        self._fetcher = fetcher

    def __repr__(self) -> str:
        """Show the parts."""
        return f"<NodeSecurity {self._admin!r} {self._fetcher!r}>"

    def protect(self, is_controller: IsController) -> None:
        """Let only controllers read the admin port."""
        self._admin.protect(is_controller)

    def use(self, credentials: TlsCredentials) -> None:
        """Use a certificate for both. Raises OSError or ValueError if it cannot be used."""
        self._admin.use(credentials)
        self._fetcher.use(credentials)
