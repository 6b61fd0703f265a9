"""What `maesh explain` asks of a middleware, and what it gets."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.model.messages import PodReport
from maesh_core.plugin_system.interfaces.messages import ReadableHeaders

# --- middleware ------------------------------------------------------------------------------------------------------


class Question(Protocol):
    """The request, connection or session that `maesh explain` is asked about."""

    @property
    def client_address(self) -> str:
        """The client's address in canonical form; empty if its pod has none."""

    @property
    def client_account(self) -> str:
        """The service account of the client's pod, `name@namespace`; empty if the address has none or several."""

    @property
    def client_pods(self) -> Sequence[PodReport]:
        """The pods with the client's address, including its own. Pods on a host's network share an address."""

    @property
    def destination(self) -> str:
        """The key of the service port, or of its branch, to which the request is routed."""

    @property
    def traffic_type(self) -> str:
        """The service's traffic type: `http`, `tcp`, `udp` or one of a plugin."""

    @property
    def is_http(self) -> bool:
        """Whether it is an HTTP request; only these have a method, a target and headers."""

    @property
    def method(self) -> bytes:
        """The method as the client sends it."""

    @property
    def target(self) -> bytes:
        """The path and query."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """The headers as the client sends them."""

    @property
    def problems(self) -> Mapping[str, str]:
        """Texts about objects that the controller could not read, by origin; these objects have no effect."""

    @property
    def topology(self) -> Mapping[str, Any]:
        """The document of `/api/topology/current`, with the sections of plugins.

        It has at least the services that may get the request, with their pods, splits and targets. For `/api/explain`
        it has no others.
        """


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of a middleware about a request, with the reasons, each a line of text.

    `servers` are the only ones to which the request may be sent; None allows all. `status` is that of the middleware's
    own response to a request that it does not pass on; 0 means that access is denied. `would_deny` has the reasons for
    which access control would deny a request that it admits only because it is in audit mode.
    """

    is_admitted: bool
    reasons: tuple[str, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None
    status: int = 0
    would_deny: tuple[str, ...] = ()
