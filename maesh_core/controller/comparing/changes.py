"""The result of a comparison: what changes for traffic, as `maesh diff --json` prints it.

Values only. `old` and `new` in a change are what the two states say about the same example request.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all results."""


class Example(_Value, frozen=True):
    """A request, connection or session whose result differs. `port` is `80/tcp`.

    `client` is a service account, `namespace/name`, or `*` for clients whose account no rule names.
    """

    client: str
    service: str
    port: str
    method: str = ""
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Result(_Value, frozen=True):
    """What one state does with the example. `outcome` is as in `maesh explain`, or `absent`: it has no such port.

    `goes_to` has services as `namespace/name:port` with their shares; `by` are the steps that decide. `would_deny` has
    the reasons for which access control would deny it if it were enforced.
    """

    outcome: str
    status: int = 0
    goes_to: Mapping[str, float] = {}
    by: tuple[str, ...] = ()
    would_deny: tuple[str, ...] = ()


class AccessChange(_Value, frozen=True):
    """Clients that may send requests now (`opens`) or no longer (`closes`).

    Access control that is not enforced lets in all requests: those that it would deny now (`would-deny`) or no longer
    (`would-allow`) are changes, too, and open and close nothing.

    `clients` are service accounts, or `*`; `requests` are further examples, and `is_every` says that every example is
    concerned. If both states let them in, `servers` are the accounts of the pods behind the service that only one state
    lets them reach.
    """

    change: Literal["opens", "closes", "would-deny", "would-allow"]
    level: Literal["warning", "info"]
    service: str
    port: str
    clients: tuple[str, ...]
    example: Example
    old: Result
    new: Result
    requests: tuple[str, ...] = ()
    is_every: bool = False
    servers: tuple[str, ...] = ()


class RouteChange(_Value, frozen=True):
    """Requests that go elsewhere, in other shares, or get another response. `example` names the client."""

    service: str
    port: str
    example: Example
    old: Result
    new: Result
    requests: tuple[str, ...] = ()
    is_every: bool = False


class LimitChange(_Value, frozen=True):
    """Lines about middlewares, `KIND: LINE`, that no longer apply (`removed`) and that apply now (`added`)."""

    service: str
    port: str
    example: Example
    removed: tuple[str, ...]
    added: tuple[str, ...]
    requests: tuple[str, ...] = ()
    is_every: bool = False


class PortChange(_Value, frozen=True):
    """A port of a service that only one state has."""

    change: Literal["added", "removed"]
    service: str
    port: str
    traffic_type: str


class UnclearChange(_Value, frozen=True):
    """Rules that differ although no example request was found whose result differs."""

    service: str
    port: str
    text: str
    concerns_access: bool = False


class MeshDiff(_Value, frozen=True):
    """All changes. `problems` is what could not be read, by state and origin: it has no effect in that state."""

    old: str
    new: str
    access: tuple[AccessChange, ...] = ()
    routes: tuple[RouteChange, ...] = ()
    limits: tuple[LimitChange, ...] = ()
    ports: tuple[PortChange, ...] = ()
    unclear: tuple[UnclearChange, ...] = ()
    problems: Mapping[str, Mapping[str, str]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes for traffic."""
        return not (self.access or self.routes or self.limits or self.ports or self.unclear)

    @property
    def opens_access(self) -> bool:
        """Whether a client gets access, or may get it: what cannot be compared counts."""
        return any(each.change == "opens" for each in self.access) or any(each.concerns_access for each in self.unclear)

    @property
    def closes_access(self) -> bool:
        """Whether a client loses access, or may lose it."""
        return any(each.change == "closes" for each in self.access) or any(
            each.concerns_access for each in self.unclear
        )
