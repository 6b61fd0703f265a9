"""The controller's half of traffic that goes to other services: a port's branches become services of the section.

Takes a port and what makes a Service of one backend; returns the services and, for each branch, the key of the one that
stands for it. Who gets which share was decided before, in the topology.
"""

from collections.abc import Callable
from math import gcd
from typing import NamedTuple

from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import Answer, Part, Service
from maesh_core.model.topology import BackendNode, BranchNode, PortNode
from maesh_core.plugin_system.rules import select_backends


class Branches(NamedTuple):
    """What a port's branches come to."""

    targets: tuple[tuple[BranchNode, str], ...]
    services: dict[str, Service]


def build_branches(key: str, port: PortNode, build_backend: Callable[[BackendNode], Service]) -> Branches:
    """Build `key/NAME` for each branch, divided among `key/NAME/BACKEND`.

    A backend without servers gets nothing while another has some: its share goes to the others. One that its own
    annotations close is left out.
    """
    targets: list[tuple[BranchNode, str]] = []
    services: dict[str, Service] = {}
    for branch in port.branches:
        branch_key = f"{key}/{branch.name}"
        served = select_backends(branch)
        divisor = gcd(*(backend.weight for backend in served)) if served else 1
        parts = []
        for backend in served:
            backend_key = f"{branch_key}/{backend.service.name}"
            try:
                services[backend_key] = build_backend(backend)
            except ConfigurationError:  # it is an error on the backend itself, which says why
                continue
            parts.append(Part(service=backend_key, weight=backend.weight // divisor))
        services[branch_key] = Service(parts=tuple(parts))
        targets.append((branch, branch_key))
    return Branches(tuple(targets), services)


def build_answer(backend: BackendNode) -> Answer:
    """Build the response in place of a backend that cannot be used."""
    node = backend.answer
    if node is None:
        return Answer(status=503, reason=f"backend {backend.service} has no port")
    return Answer(status=node.status, reason=node.reason, grpc_status=node.grpc_status)
