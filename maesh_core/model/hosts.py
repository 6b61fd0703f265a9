"""The host names of services: those that routers have, and others that stand for one of them.

Takes names; returns names. The controller writes the hosts of each router (controller/configuration/http.py); a proxy
looks up the host of a request as it is, and only if no router has it, by what it stands for. A name alone stands for a
service of the client's namespace, as the search list of a pod's resolver has it (Kubernetes, DNS for Services and
Pods).
"""

from typing import Final

from maesh_core.model.keys import ObjectKey

ZONES: Final = ("maesh", "traefik.mesh")
"""The mesh's zones, the first one in names that are shown."""
_SUFFIX: Final = f".{ZONES[0]}".encode()


def build_tls_name(service: ObjectKey) -> str:
    """Build the name in the certificates of a service's pods, whose addresses change; the hosts above are the mesh's.

    The cluster's domain is left out, because certificates for a service commonly include the name without it.
    """
    return f"{service.name}.{service.namespace}.svc".lower()


def find_meant_host(host: bytes) -> bytes | None:
    """Find the host that a cluster's name of a service stands for; None if it is not one.

    These are `name.namespace` and `name.namespace.svc`, with or without the cluster's domain, as clients send them that
    reach the mesh by another way than its zones. In lower case, without port and final dot.
    """
    name, _, rest = host.partition(b".")
    namespace, _, domain = rest.partition(b".")
    if not (name and namespace) or (domain and domain.partition(b".")[0] != b"svc"):
        return None
    return name + b"." + namespace + _SUFFIX


def build_meant_host(name: bytes, namespace: str) -> bytes:
    """Build the host that a name without a dot stands for, if a client of a namespace, which is a label, sends it."""
    return name + b"." + namespace.encode() + _SUFFIX
