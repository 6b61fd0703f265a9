"""How the controller's API is protected: by TLS, and by proof of who sends a request.

The files of the settings, the certifier of a plugin, or both protect it; on loopback, only files do. Takes these;
returns what the server, the API and the controller's own requests need. Raises StartupError.
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.request_security import Secured
from maesh_core.controller.api.paths import PROBE_PATHS
from maesh_core.controller.api.security.authentication import Authentication, Reviewer
from maesh_core.controller.api.security.bearer_tokens import FLAG, BearerTokens
from maesh_core.errors import NodeUnreachableError, PluginError, StartupError
from maesh_core.model.addresses import parse_address
from maesh_core.plain_http.messages import Request
from maesh_core.plain_http.server import HttpServer
from maesh_core.plugin_system.certifiers import ApiCertifier
from maesh_core.process.backoff import Backoff
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.settings import ControllerSettings

if TYPE_CHECKING:
    import ssl

    from maesh_core.controller.api.security.certificate import ApiCertificate

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_log = logging.getLogger(__name__)


class Protection:
    """The protection of one API. `authentication` is None if everybody may use the API."""

    __slots__ = (
        *("_certificate", "_certifier", "_credentials", "_hosts", "_is_clear_open", "_node_context", "_open_paths"),
        *("_peer_context", "_server", "_tokens", "authentication"),
    )

    def __init__(
        self,
        *,
        certificate: "ApiCertificate | None" = None,
        tokens: BearerTokens | None = None,
        certifier: ApiCertifier | None = None,
        reviews: Reviewer | None = None,
        settings: ControllerSettings | None = None,
    ) -> None:
        settings = settings or ControllerSettings()
        self._certificate = certificate
        self._tokens = tokens
        self._certifier = certifier
        self._credentials: TlsCredentials | None = None
        self._node_context: ssl.SSLContext | None = None
        self._peer_context = None if certificate is None else certificate.peer_context
        self._server: HttpServer | None = None
        self._hosts = list_hosts(settings)
        self._is_clear_open = settings.api_clear
        self._open_paths = PROBE_PATHS | frozenset(settings.api_open)
        self.authentication: Authentication | None = None
        if certifier is not None or tokens is not None:
            self.authentication = Authentication(
                tokens=tokens,
                certifier=certifier,
                reviews=reviews,
                open_paths=settings.api_open,
                is_clear_open=settings.api_clear and self.is_encrypted,
            )
        if certificate is not None:
            certificate.on_change(lambda context: self._rebuild())

    def __repr__(self) -> str:
        return f"<Protection {self._certificate!r} {self._certifier!r} {self.authentication!r}>"

    @property
    def is_encrypted(self) -> bool:
        """Whether the API uses TLS."""
        return self._certificate is not None or self._certifier is not None

    @property
    def is_ready(self) -> bool:
        """Whether the API has the certificate that it needs, and recognizes callers."""
        return self._certifier is None or self._credentials is not None

    def apply_to(self, server: HttpServer) -> None:
        """Protect a server, also by later certificates."""
        self._server = server
        server.is_protected = self.is_encrypted
        server.may_be_clear = self.may_be_clear
        if self._certificate is not None:
            server.context = self._certificate.context

    def may_be_clear(self, request: Request) -> bool:
        """Whether a request without TLS is answered; others are counted."""
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        if self._is_clear_open or path in self._open_paths:
            return True
        if self.authentication is not None:
            self.authentication.refusals.note(request.remote, "clear", "426 it came without TLS")
        return False

    def secure_peer(self, address: AdminAddress) -> Secured:
        """Secure a request to another controller. Raises NodeUnreachableError."""
        if self.is_encrypted and self._peer_context is None:
            raise NodeUnreachableError("this controller has no certificate yet")
        return Secured(self._peer_context, self._hosts[0], "" if self._tokens is None else self._tokens.own_token)

    def secure_node(self, address: AdminAddress) -> Secured:
        """Secure a request to the admin port of a proxy. Raises NodeUnreachableError."""
        if not address.node:
            return Secured()
        if self._node_context is None:
            raise NodeUnreachableError("the proxy's admin port needs TLS, for which this controller has no certificate")
        return Secured(self._node_context, address.node)

    def list_jobs(self, pause: Callable[[float], Awaitable[None]]) -> list[Coroutine[Any, Any, None]]:
        """List what has to run as long as the API is served: it follows files and certificates that are replaced."""
        jobs = [part.files.follow(pause) for part in (self._certificate, self._tokens) if part is not None]
        return [*jobs, self._watch(pause)] if self._certifier is not None else jobs

    async def _watch(self, pause: Callable[[float], Awaitable[None]]) -> None:
        assert self._certifier is not None  # noqa: S101 - for the type checker
        backoff = Backoff()
        while True:
            try:
                async for credentials in self._certifier.watch_credentials(self._hosts):
                    self._use(credentials)
                    backoff.reset()
            except Exception:  # a plugin may raise anything
                _log.exception("the certificate of the API cannot be followed")
            await pause(backoff.next())

    def _use(self, credentials: TlsCredentials) -> None:
        former, self._credentials = self._credentials, credentials
        try:
            self._rebuild()
        except (OSError, ValueError) as error:  # the text must not contain the key
            self._credentials = former
            _log.error("the new certificate of the API cannot be used: %s", type(error).__name__)

    def _rebuild(self) -> None:
        """Build the contexts of what there is now: new ones, because a context never forgets an authority."""
        files, credentials, certifier = self._certificate, self._credentials, self._certifier
        context = None if files is None else files.context
        peer_context = None if files is None else files.peer_context
        if credentials is not None and certifier is not None:
            from maesh_core.process import tls_contexts  # it imports ssl, which takes 5 MB

            if files is None:
                context = tls_contexts.build_server_context(credentials)
                peer_context = tls_contexts.build_checking_context(
                    credentials, lambda certificate, name: certifier.is_controller(certificate)
                )
            else:
                context, peer_context = files.build_contexts()
                tls_contexts.accept_clients(context, credentials.bundle)
                tls_contexts.load_key(peer_context, credentials)
            self._node_context = tls_contexts.build_checking_context(
                credentials, lambda certificate, name: certifier.find_node(certificate) == name
            )
        self._peer_context = peer_context
        if self._server is not None:
            self._server.context = context


def choose_certifier(found: Sequence[ApiCertifier], describe: Callable[[object], str]) -> ApiCertifier | None:
    """Return what plugins offer to protect the API. Raises PluginError if there are several."""
    if len(found) > 1:
        names = " and ".join(map(describe, found))
        raise PluginError(f"only one plugin can protect the API, and there are {names}")
    return found[0] if found else None


def load_protection(
    settings: ControllerSettings, certifier: ApiCertifier | None = None, reviews: Reviewer | None = None
) -> Protection:
    """Load what the settings name. On loopback, a certifier is not used. Raises StartupError."""
    is_local = settings.api_host in _LOOPBACK
    certifier = None if is_local else certifier
    if bool(settings.api_cert) != bool(settings.api_key):
        raise StartupError("--api-cert and --api-key need each other: a certificate and its key")
    if settings.api_tokens and not settings.api_cert and certifier is None and not is_local:
        raise StartupError(
            f"{FLAG} needs --api-cert and --api-key, or --api-host 127.0.0.1: tokens are never sent in clear"
        )
    for path in settings.api_open:
        if not path.startswith("/"):
            raise StartupError(f"--api-open: {path!r} is not a path such as /metrics")
    tokens = BearerTokens(settings.api_tokens) if settings.api_tokens else None
    certificate = None
    if settings.api_cert:
        from maesh_core.controller.api.security.certificate import ApiCertificate  # it imports ssl, which takes 5 MB

        certificate = ApiCertificate(settings.api_cert, settings.api_key)
    return Protection(certificate=certificate, tokens=tokens, certifier=certifier, reviews=reviews, settings=settings)


def list_hosts(settings: ControllerSettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """List the names and addresses of this controller's API, first the one that controllers expect of each other."""
    service = f"maesh-controller.{settings.namespace}"
    names = [f"{service}.svc", f"{service}.svc.{settings.cluster_domain}", service, "maesh-controller"]
    names += ["localhost", "127.0.0.1", "::1", socket.gethostname(), environment.get("POD_IP", ""), settings.api_host]
    names += [name for name in settings.api_hosts if name != "all"]
    unspecified = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return list(dict.fromkeys(parse_address(name) or name.lower() for name in names if name not in unspecified))
