"""Mutual TLS for Maesh: encrypts traffic between nodes, with certificates that the controller signs.

All processes import this module before they load a half, so it only declares the plugin and its settings.
"""

import re
from typing import Literal

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration
from maesh_mtls.identity import find_domain_problem, is_node_name

__all__ = ["PLUGIN", "MtlsSettings"]

SHORTEST_LIFETIME_S = 3600.0
LONGEST_LIFETIME_S = 7 * 86400.0
SHORTEST_STEP_S = 1.0
LONGEST_STEP_S = 86400.0
_PORT_LIMIT = 65535
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}")


class MtlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set mtls.KEY=VALUE`. Each says which process uses it."""

    mode: Literal["off", "permissive", "strict"] = "permissive"
    """Controller: the mode of services without the annotation `encryption`."""

    domain: str = "cluster.local"
    """Controller: the trust domain, which is part of every node's identity."""

    ca: str = ""
    """Controller: the folder with the authority's `tls.crt` and `tls.key`. Without it, the Secret is used."""

    ca_secret: str = "maesh-ca"  # noqa: S105 - a name
    """Controller: in a cluster, the Secret with the authority, in the mesh's namespace; it is made if it is missing."""

    trust_config_map: str = "maesh-trust"
    """Controller: in a cluster, the ConfigMap in which the leader keeps the certificates to trust."""

    tokens: str = ""
    """Controller: the file with the tokens of nodes, which are accepted besides those of the proxies' account."""

    proxy_account: str = "maesh-mesh"
    """Controller: in a cluster, the service account of the proxies, as NAME or NAMESPACE/NAME."""

    certificate_lifetime: PositiveDuration = 86400.0
    """Controller: how long a node's certificate is valid, from 1h to 168h."""

    rotation_step: PositiveDuration = 60.0
    """Controller: how long each step of a rotation of the authority lasts at least, from 1s to 24h."""

    revoked: tuple[str, ...] = ()
    """Controller: certificates that all proxies refuse, as `NODE/SERIAL` with the serial number in hexadecimal."""

    allow_clear: bool = False
    """Both: whether tokens may be sent over HTTP without TLS between machines."""

    port: int = 15008
    """Both: the port on which proxies accept connections of other nodes; it must be the same on all nodes."""

    token: str = ""
    """Proxy: the file with the token of this node. Without it, the proxy has no certificate."""

    trust: str = ""
    """Proxy: the file with the certificates of the authority. Without it, those that the controller sends are used."""

    check_source: bool = False
    """Proxy: whether a node's connections must come from an address of its proxies."""

    def __post_init__(self) -> None:
        """Check what the types do not."""
        if problem := find_domain_problem(self.domain):
            raise ValueError(f"domain: {self.domain!r} {problem}")
        if not SHORTEST_LIFETIME_S <= self.certificate_lifetime <= LONGEST_LIFETIME_S:
            raise ValueError("certificate-lifetime: it must be from 1h to 168h")
        if not SHORTEST_STEP_S <= self.rotation_step <= LONGEST_STEP_S:
            raise ValueError("rotation-step: it must be from 1s to 24h")
        for name, text in (("ca-secret", self.ca_secret), ("trust-config-map", self.trust_config_map)):
            if not is_node_name(text):
                raise ValueError(f"{name}: {text!r} is not the name of an object")
        if not all(map(is_node_name, self.proxy_account.split("/"))) or self.proxy_account.count("/") > 1:
            raise ValueError(f"proxy-account: {self.proxy_account!r} is not NAME or NAMESPACE/NAME")
        if not 0 < self.port <= _PORT_LIMIT:
            raise ValueError(f"port: {self.port} is not from 1 to {_PORT_LIMIT}")
        for text in self.revoked:
            node, _, serial = text.partition("/")
            if not is_node_name(node) or not _SERIAL.fullmatch(serial):
                raise ValueError(f"revoked: {text!r} is not NODE/SERIAL")


PLUGIN = Plugin(
    hook_api_version=1,
    settings=MtlsSettings,
    controller="maesh_mtls.controller.hooks:ControllerHalf",
    proxy="maesh_mtls.proxy.hooks:ProxyHalf",
)
