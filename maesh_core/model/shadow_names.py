"""The names of shadow services, and which service each belongs to.

Takes the key of a user's service, or a Service as it is stored; returns names and keys. A name and its annotations must
agree, so that nobody can claim the shadow service of another service by an annotation alone.
"""

import hashlib

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service

MARK = "6d61657368"
"""`maesh` in hexadecimal, between the names of service and namespace (Maesh 1.2)."""
LABELS = {"app": "maesh", "type": "shadow"}
NAME_ANNOTATION = "maesh.containo.us/shadow-of-service"
NAMESPACE_ANNOTATION = "maesh.containo.us/shadow-of-namespace"
NAME_LIMIT = 63
"""Characters of a Service's name, a DNS label (RFC 1123)."""
HASH_LENGTH = 10


def build_name(mesh_namespace: str, service: ObjectKey) -> str:
    """Name a shadow service; a name that is too long is cut and made unique by a hash of the whole."""
    whole = build_long_name(mesh_namespace, service)
    if len(whole) <= NAME_LIMIT:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:HASH_LENGTH]
    return f"{whole[: NAME_LIMIT - HASH_LENGTH - 1].rstrip('-')}-{digest}"


def build_long_name(mesh_namespace: str, service: ObjectKey) -> str:
    """Name a shadow service as the rewrite rule of DNS does, at any length."""
    return f"{mesh_namespace}-{service.name}-{MARK}-{service.namespace}"


def is_hashed(mesh_namespace: str, service: ObjectKey) -> bool:
    """Whether DNS needs a rule of its own to find this service's shadow service."""
    return len(build_long_name(mesh_namespace, service)) > NAME_LIMIT


def is_ours(service: Service, mesh_namespace: str) -> bool:
    """Whether a Service is labelled as a shadow service of this mesh."""
    labels = service.metadata.labels
    return service.metadata.namespace == mesh_namespace and LABELS.items() <= labels.items()


def find_original(service: Service, mesh_namespace: str) -> ObjectKey | None:
    """Find the service of a shadow service; None if it is not this mesh's, or its name and annotations differ.

    Shadow services of earlier versions have no annotations: their names are parsed, if they are unambiguous.
    """
    if not is_ours(service, mesh_namespace):
        return None
    annotations = service.metadata.annotations
    named = ObjectKey(annotations.get(NAMESPACE_ANNOTATION, ""), annotations.get(NAME_ANNOTATION, ""))
    if named.name:
        return named if build_name(mesh_namespace, named) == service.metadata.name else None
    rest = service.metadata.name.removeprefix(f"{mesh_namespace}-")
    name, mark, namespace = rest.partition(f"-{MARK}-")
    is_unique = bool(mark and name and namespace) and MARK not in namespace and rest != service.metadata.name
    return ObjectKey(namespace, name) if is_unique else None
