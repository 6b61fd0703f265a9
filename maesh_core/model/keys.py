"""Keys of objects that refer to each other: Kubernetes objects, and the objects of a configuration.

Kubernetes names contain neither `/`, `:` nor `@` (RFC 1123 labels and subdomains), so keys that are joined with these
are unambiguous. Every key of the mesh is built here.
"""

import re
from typing import NamedTuple

_PORT_DIGITS = 5
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
SUBDOMAIN_LIMIT = 253


class ObjectKey(NamedTuple):
    """Namespace and name of a Kubernetes object; the namespace is empty for cluster-scoped objects."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Render as the topology does: `name@namespace` (Maesh)."""
        return f"{self.name}@{self.namespace}"


class ObjectIdentity(NamedTuple):
    """Identifies one object; `uid` distinguishes it from an earlier one with the same name."""

    api_version: str
    kind: str
    key: ObjectKey
    uid: str


def is_label(text: str) -> bool:
    """Whether a text is a DNS label (RFC 1123), as names of services and namespaces are."""
    return _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """Whether a text is a DNS name in lower case (RFC 1123), as names of most objects and hosts are."""
    return len(text) <= SUBDOMAIN_LIMIT and _SUBDOMAIN.fullmatch(text) is not None


def build_port_key(service: ObjectKey, port: int) -> str:
    """Build the key of the router and the service of one service port: `namespace/name:port`."""
    return f"{service.namespace}/{service.name}:{port}"


def cut_port_key(key: str) -> str:
    """Shorten the key of a branch, or of a part of one, to that of its service port: `namespace/name:port`.

    This is the label `service` of the core's metrics. Any other key is unchanged.
    """
    head, colon, tail = key.partition(":")
    return f"{head}{colon}{tail.partition('/')[0]}"


def find_owner(key: str) -> str:
    """Find the service, `namespace/name`, that owns a router, service or middleware with this key."""
    namespace, slash, rest = key.partition("/")
    return f"{namespace}{slash}{rest.partition(':')[0].partition('/')[0]}"


def build_middleware_key(service: ObjectKey, kind: str, port: int = 0) -> str:
    """Build the key of a service's middleware of one kind: `namespace/name/kind`.

    One that a port has instead of it has the port's number behind.
    """
    return f"{service.namespace}/{service.name}/{kind}/{port}" if port else f"{service.namespace}/{service.name}/{kind}"


def find_scope(key: str) -> str:
    """Find what a middleware with this key is for: `namespace/name`, or `namespace/name:port` if only for one port."""
    owner = find_owner(key)
    _, _, port = key[len(owner) + 1 :].partition("/")
    is_port = port.isascii() and port.isdecimal() and len(port) <= _PORT_DIGITS
    return f"{owner}:{port}" if is_port else owner


def build_wire_path(protocol: str, noun: str, key: str) -> str:
    """Build the path of a configuration object, as in `removed`: `http/routers/namespace/name:port`."""
    return f"{protocol}/{noun}/{key}"


def is_rule_key(service: str, port_key: str) -> bool:
    """Return whether the key of a service is that of a rule of a port, for all clients or those of a namespace."""
    kind, _, name = service.removeprefix(f"{port_key}/").partition("/")
    is_name = bool(name) if kind == "rule" else kind == "consumer" and "/" in name
    return is_name and service.startswith(f"{port_key}/")
