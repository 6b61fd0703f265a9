"""What transports share: the modes of services, the kinds of paths, and the content of the section `transport`.

Values only.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

OFF = "off"
PERMISSIVE = "permissive"
STRICT = "strict"
MODES = (OFF, PERMISSIVE, STRICT)
"""The modes of a service, weakest first. Permissive encrypts where both nodes can; strict refuses what would be in
clear."""

ENCRYPTABLE: Final = frozenset({"http", "tcp"})
"""The traffic types whose traffic can be encrypted, and whose handlers in the proxy respect the mode; others cannot be
strict."""

LOCAL: Final = "local"
CLEAR: Final = "clear"
ENCRYPTED: Final = "encrypted"
PATHS: Final = (ENCRYPTED, CLEAR, LOCAL)
"""The kinds of paths to a server, as in the label `path`. `local` is in clear to a server on the proxy's own node."""

_NODE_NAME_LIMIT = 253
_match_node_name = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?").fullmatch


class ClientEntry(msgspec.Struct, frozen=True):
    """A pod that may be a client: its node, empty if unknown, and its service account as `name@namespace`."""

    node: str
    account: str


class TransportSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section `transport`: nodes by name, and clients by address."""

    nodes: Mapping[str, Any] = {}
    clients: Mapping[str, ClientEntry] = {}


def is_node_name(text: str) -> bool:
    """Whether a text can be the name of a node, which is a DNS subdomain (RFC 1123)."""
    return len(text) <= _NODE_NAME_LIMIT and _match_node_name(text) is not None
