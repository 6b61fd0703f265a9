"""The identities of nodes and controllers: the URIs in their certificates, as in SPIFFE.

Takes and returns text. Both halves use it, so it imports nothing.
"""

import re
from typing import Final

NAME_LIMIT: Final = 253
_PART: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_match_node: Final = re.compile(r"spiffe://([a-z0-9.-]{1,253})/maesh/node/[a-z0-9.-]{1,253}").fullmatch
_match_name = re.compile(rf"{_PART}(\.{_PART})*").fullmatch


def is_node_name(text: str) -> bool:
    """Whether a text can be the name of a node, which is a DNS subdomain (RFC 1123)."""
    return len(text) <= NAME_LIMIT and _match_name(text) is not None


def find_domain_problem(text: str) -> str | None:
    """Explain why a text cannot be a trust domain; None if it can."""
    return None if is_node_name(text) else "is not a domain such as cluster.local"


def build_identity(domain: str, node: str) -> str:
    """Build the URI of a node. Raises ValueError for a name that no node can have."""
    if not is_node_name(node):
        raise ValueError("not the name of a node")
    return f"spiffe://{domain}/maesh/node/{node}"


def find_node_name(domain: str, identity: str) -> str | None:
    """Return the name of the node with an identity of this domain; None if it is that of no node."""
    prefix = f"spiffe://{domain}/maesh/node/"
    name = identity.removeprefix(prefix)
    return name if identity.startswith(prefix) and is_node_name(name) else None


def build_controller_identity(domain: str) -> str:
    """Build the URI that all controllers of a mesh have."""
    return f"spiffe://{domain}/maesh/controller"


def find_domain(identity: str) -> str | None:
    """Return the trust domain of a node's identity; None if it is that of no node."""
    found = _match_node(identity)
    return None if found is None else found[1]
