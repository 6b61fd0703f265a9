"""The receiver's decisions: which node a certificate belongs to, and whether this node may open a connection here.

The chain of the certificate has been checked by OpenSSL, and its end by the engine, for each connection and each stream
on it. What is missing, unknown or unclear is refused.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from maesh_core.plugin import Delivery, DeliveryVerdict, Refusal
from maesh_mtls.proxy.directory import Directory

UNKNOWN_NODE = Refusal(403, "the node is not known")
FOREIGN_CLIENT = Refusal(403, "the client is not on the node that sends")

_log = logging.getLogger(__name__)


class Judge(Protocol):
    """The core's own decisions; see `Node`."""

    async def judge_delivery(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide about a connection that another node asks for."""

    def judge_delivery_again(self, delivery: Delivery) -> DeliveryVerdict:
        """Decide about a connection that is open."""


class MtlsTunnelRules:
    """Implements `TunnelRules`."""

    __slots__ = ("_checks_source", "_core", "_directory")

    def __init__(self, directory: Directory, core: Judge, *, checks_source: bool) -> None:
        self._directory = directory
        self._core = core
        self._checks_source = checks_source

    def __repr__(self) -> str:
        return f"<MtlsTunnelRules {self._directory!r}>"

    def find_identity(self, certificate: Mapping[str, Any], address: str) -> str | None:
        """Return the node of a verified certificate, as `SSLObject.getpeercert` describes it; None refuses it."""
        names = certificate.get("subjectAltName", ())
        if len(names) != 1 or names[0][0] != "URI" or "notAfter" not in certificate:
            _log.debug("a connection from %s is closed: its certificate has no identity, or several", address)
            return None
        name = self._directory.find_node(names[0][1])
        if name is None:
            _log.debug("a connection from %s is closed: its certificate is that of no node", address)
            return None
        entry = self._directory.nodes[name]
        if certificate.get("serialNumber") in (None, *entry.revoked):
            _log.warning("a connection from %s is closed: the certificate of node %s is revoked", address, name)
            return None
        if self._checks_source and address not in entry.addresses:
            _log.warning("a connection from %s is closed: it is not an address of node %s", address, name)
            return None
        return name

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether a node may open a connection: a client that it names must be on it."""
        directory = self._directory
        if node not in directory.nodes:
            return UNKNOWN_NODE
        client = delivery.client
        if client and not await directory.wait_for(node, lambda: self._is_on_node(client, node)):
            return FOREIGN_CLIENT
        return await self._core.judge_delivery(node, delivery)

    def judge_again(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether a node may keep a connection: the client must still be on it."""
        if node not in self._directory.nodes:
            return UNKNOWN_NODE
        if delivery.client and not self._is_on_node(delivery.client, node):
            return FOREIGN_CLIENT
        return self._core.judge_delivery_again(delivery)

    def _is_on_node(self, client: str, node: str) -> bool:
        entry = self._directory.clients.get(client)
        return entry is not None and entry.node == node
