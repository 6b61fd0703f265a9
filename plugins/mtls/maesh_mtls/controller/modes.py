"""The rules of the transport: the mode of each service, what proxies must know of nodes, and what they report.

Takes annotations, nodes and facts; returns modes, entries of the configuration and reports. `use` replaces what is kept
beside the authority: the revocations, and what all nodes should trust.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from maesh_core.plugin import MeshNode, ServiceNode, TransportReport, read_annotation
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.authority.state import Revocation
from maesh_mtls.facts import check_facts, parse_facts, render_span
from maesh_mtls.identity import build_identity
from maesh_mtls.wire import MeshShare, NodeEntry

ENCRYPTION = "encryption"
_Mode = Literal["off", "permissive", "strict"]


class MtlsRules:
    """Implements `ReportingRules`."""

    name = "mtls"
    annotations: tuple[str, ...] = (ENCRYPTION,)

    def __init__(self, settings: MtlsSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._share: MeshShare | None = None
        self._nodes: frozenset[str] = frozenset()
        self._given: dict[str, tuple[str, ...]] = {}
        for text in settings.revoked:
            node, _, serial = text.partition("/")
            self._given[node] = (*self._given.get(node, ()), normalise_serial(serial))
        self._serials: Mapping[str, tuple[str, ...]] = self._given

    def __repr__(self) -> str:
        return f"<MtlsRules {len(self._nodes)} nodes revoked>"

    def use(self, revoked: Sequence[Revocation], share: MeshShare | None) -> bool:
        """Use these from now on; return whether anything differs."""
        serials = dict(self._given)
        for each in revoked:
            if each.serial:
                serials[each.node] = (*serials.get(each.node, ()), each.serial)
        nodes = frozenset(each.node for each in revoked if not each.serial)
        before = (self._serials, self._nodes, self._share)
        self._serials, self._nodes, self._share = serials, nodes, share
        return before != (serials, nodes, share)

    def build_mode(self, annotations: Mapping[str, str], service: ServiceNode) -> str:
        """Return the value of the annotation, or the default. Raises ConfigurationError."""
        mode: str | None = read_annotation(annotations, ENCRYPTION, _Mode)
        return self._settings.mode if mode is None else mode

    def is_revoked(self, node: str, serial: str) -> bool:
        """Whether a node or its certificate is revoked; serial numbers as `SSLObject.getpeercert` writes them."""
        return node in self._nodes or serial in self._serials.get(node, ())

    def describe_node(self, node: MeshNode) -> NodeEntry | None:
        """Describe a node that has a proxy; a revoked node takes no part."""
        if not node.proxies or node.name in self._nodes:
            return None
        return NodeEntry(
            addresses=tuple(pod.address for pod in node.proxies),
            port=self._settings.port,
            identity=build_identity(self._settings.domain, node.name),
            revoked=self._serials.get(node.name, ()),
        )

    def describe_mesh(self) -> MeshShare | None:
        """Return which certificates are trusted now, and who signs."""
        return self._share

    def accept_facts(self, facts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the valid facts of a proxy. Raises ValueError if one is wrong."""
        return check_facts(facts)

    def describe_facts(self, facts: Mapping[str, str]) -> TransportReport:
        """Describe the certificate of a proxy."""
        parsed, now = parse_facts(facts), self._now()
        summary = f"{render_span(parsed.ends - now)} left" if parsed.is_valid(now) else "none"
        return TransportReport(facts=facts, summary=summary, problem=parsed.find_problem(now))


def normalise_serial(text: str) -> str:
    """Write a serial number as `SSLObject.getpeercert` does: whole bytes in upper-case hexadecimal."""
    digits = text.upper().lstrip("0")
    return f"0{digits}" if len(digits) % 2 else digits or "00"
