"""What services have sent in clear, encrypted and on their own node, for `maesh status`.

Takes the document `/api/traffic` of a controller, and the modes of services; returns counts by service port. So one
sees before a service becomes `strict` what it would refuse.
"""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_core.errors import MaeshError
from maesh_core.model.traffic import TunnelTraffic


class ServiceMode(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service with the mode in which its servers on other nodes are reached."""

    namespace: str
    name: str
    encryption: str


class PathCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a service port has sent in a span of time, by path (model/transport.py).

    `paths` counts requests, or connections and sessions for TCP and UDP. `clear_reasons` says why those in clear were
    not encrypted.
    """

    paths: Mapping[str, int] = {}
    path_bytes: Mapping[str, int] = {}
    clear_reasons: Mapping[str, int] = {}


class ServicePaths(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One service port, its mode, and what it has sent in the last minute and since the proxies' start."""

    key: str
    encryption: str = ""
    last: PathCounts = PathCounts()
    total: PathCounts = PathCounts()


class EncryptionStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The services that have sent anything since the proxies' start, and the TLS connections between nodes.

    `silent` are proxies that did not answer. If the traffic could not be read, `error` is the reason, and the rest is
    empty.
    """

    services: tuple[ServicePaths, ...] = ()
    tunnels: TunnelTraffic = TunnelTraffic()
    silent: tuple[str, ...] = ()
    error: str = ""


class _Node(msgspec.Struct, frozen=True):
    name: str
    error: str = ""


class _Service(msgspec.Struct, frozen=True):
    key: str
    namespace: str
    name: str
    last: PathCounts = PathCounts()
    total: PathCounts = PathCounts()


class _Report(msgspec.Struct, frozen=True):
    services: tuple[_Service, ...] = ()
    nodes: tuple[_Node, ...] = ()
    tunnels: TunnelTraffic = TunnelTraffic()


def parse_encryption(body: bytes, modes: Sequence[ServiceMode]) -> EncryptionStatus:
    """Read the document `/api/traffic`; raises MaeshError."""
    try:
        report = msgspec.json.decode(body, type=_Report)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error
    known = {(each.namespace, each.name): each.encryption for each in modes}
    services = (
        ServicePaths(
            key=each.key, encryption=known.get((each.namespace, each.name), ""), last=each.last, total=each.total
        )
        for each in report.services
        if each.total.paths or each.total.path_bytes
    )
    silent = tuple(node.name for node in report.nodes if node.error)
    return EncryptionStatus(services=tuple(services), tunnels=report.tunnels, silent=silent)
