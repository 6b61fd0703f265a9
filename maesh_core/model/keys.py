"""Names of things that refer to each other: Kubernetes objects, and the objects of a configuration.

Kubernetes names hold neither `/`, `:` nor `@` (RFC 1123 labels and subdomains), so joining them with these never
makes two names meet. Every key of the mesh is made here.
"""

import re
from typing import NamedTuple

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ObjectKey(NamedTuple):
    """Namespace and name of a Kubernetes object; the namespace is empty for objects that have none."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Render as the topology does: `name@namespace` (Maesh)."""
        return f"{self.name}@{self.namespace}"


class ObjectIdentity(NamedTuple):
    """One object among all that have had its name: `uid` tells it from an earlier one."""

    api_version: str
    kind: str
    key: ObjectKey
    uid: str


def is_label(text: str) -> bool:
    """Tell whether a text is a DNS label (RFC 1123), as names of services and namespaces are."""
    return _LABEL.fullmatch(text) is not None


def build_port_key(service: ObjectKey, port: int) -> str:
    """Name the router and the service of one service port: `namespace/name:port`."""
    return f"{service.namespace}/{service.name}:{port}"


def cut_port_key(key: str) -> str:
    """Cut the key of a branch, or of a part of one, down to that of its service port: `namespace/name:port`.

    This is the label `service` of the core's metrics. Any other key stays as it is.
    """
    head, colon, tail = key.partition(":")
    return f"{head}{colon}{tail.partition('/')[0]}"


def build_middleware_key(service: ObjectKey, kind: str) -> str:
    """Name the middleware of one kind that belongs to a service: `namespace/name/kind`."""
    return f"{service.namespace}/{service.name}/{kind}"


def build_wire_path(protocol: str, noun: str, key: str) -> str:
    """Name a configuration object among all others, as `removed` does: `http/routers/namespace/name:port`."""
    return f"{protocol}/{noun}/{key}"
