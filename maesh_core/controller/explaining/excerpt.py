"""The excerpt of a mesh that one question to `/api/explain` needs, and the answer that is computed from it.

`collect_excerpt` runs on the event loop. It renders one service, and of the rest of the mesh it only copies dicts. An
excerpt has only values that never change, so another thread may compute the answer. That answer equals the one of
`maesh explain`, which reads the documents of the whole mesh.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.controller.explaining.client import (
    find_client,
    is_plain_name,
    parse_plain_name,
    parse_service_name,
)
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.controller.explaining.pod_lookup import PodLookup
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.resources.kinds import ADDRESS_INDEX
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rendering import render_addition, render_topology
from maesh_core.model.addresses import parse_address
from maesh_core.model.configuration import HttpRouter, StreamRouter
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import FIXED_FIELDS, Update, parse_update
from maesh_core.model.resources import Pod, Service
from maesh_core.model.shadow_names import find_original
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder
from maesh_core.plugin_system.rules import list_rule_backends

SPLITS = "trafficSplits"
"""The topology's section of splits (topology/rendering.py)."""

Described = tuple[ServiceNode, tuple[str, ...], tuple[str, ...]]
"""A service's node, its errors and its notices."""


class Reports(Protocol):
    """The errors and notices of objects."""

    def copy_found(self) -> dict[Subject, Findings]: ...  # noqa: D102


class Configuration(Protocol):
    """The configuration of the mesh."""

    def render_service(self, service: ObjectKey) -> bytes: ...  # noqa: D102


class Mesh(Protocol):
    """What a controller knows: the engine."""

    @property
    def objects(self) -> Snapshot: ...  # noqa: D102

    @property
    def reports(self) -> Reports: ...  # noqa: D102

    @property
    def revisions(self) -> Configuration: ...  # noqa: D102

    @property
    def problems(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def middleware_builders(self) -> Sequence[MiddlewareBuilder]: ...  # noqa: D102

    def find_described(self, key: ObjectKey) -> Described | None: ...  # noqa: D102

    def list_services(self) -> list[ObjectKey]: ...  # noqa: D102


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """What concerns requests to one service: the services that may get them, and that service's configuration.

    `services` are the names of all services, for hints.
    """

    reached: tuple[Described, ...]
    configuration: bytes
    services: Sequence[ObjectKey]
    pods: PodLookup
    found: Mapping[Subject, Findings]
    problems: Mapping[str, str]
    middleware_builders: Sequence[MiddlewareBuilder]


def collect_excerpt(asked: ExplainedRequest, mesh: Mesh) -> Excerpt:
    """Collect what a question needs. Raises ConfigurationError if an unknown pod calls a service by its name alone."""
    service = asked.service
    if is_plain_name(service):
        key, _ = parse_plain_name(service, find_client(asked.client, PodLookup(mesh.objects)))
    else:
        key = _find_at(service, mesh) or parse_service_name(service)
    return Excerpt(
        reached=tuple(_list_reached(key, mesh)),
        configuration=mesh.revisions.render_service(key),
        services=mesh.list_services(),
        pods=PodLookup(mesh.objects.copy(Pod)),
        found=mesh.reports.copy_found(),
        problems=mesh.problems,
        middleware_builders=mesh.middleware_builders,
    )


def _find_at(text: str, mesh: Mesh) -> ObjectKey | None:
    """Find the service with this cluster address, of its own or of its shadow service; None for any other text."""
    address = parse_address(text.removeprefix("[").removesuffix("]"))
    if address is None:
        return None
    for each in mesh.objects.find(Service, ADDRESS_INDEX, address):
        key = find_original(each, each.metadata.namespace) or each.key
        described = mesh.find_described(key)
        if described is not None and address in (*described[0].cluster_ips, *described[0].shadow_ips):
            return key
    return None


def answer_question(asked: ExplainedRequest, excerpt: Excerpt) -> bytes:
    """Explain a request, as JSON. Raises ConfigurationError for an unknown service, port or pod."""
    topology = render_topology(
        [node for node, _, _ in excerpt.reached],
        errors={node.key: errors for node, errors, _ in excerpt.reached},
        notices={node.key: notices for node, _, notices in excerpt.reached},
    )
    explainer = Explainer(
        topology,
        decode_configuration(excerpt.configuration),
        {builder.kind: builder for builder in excerpt.middleware_builders},
        pods=excerpt.pods,
        objects=[_describe_found(subject, found) for subject, found in excerpt.found.items()],
        problems=excerpt.problems,
        services=excerpt.services,
    )
    return msgspec.json.encode(explainer.explain(asked))


def decode_configuration(body: bytes) -> Update:
    """Decode the controller's own configuration, with all its protocols."""
    protocols = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).keys() - FIXED_FIELDS
    return parse_update(body, {name: HttpRouter if name == "http" else StreamRouter for name in protocols})


def _list_reached(key: ObjectKey, mesh: Mesh) -> list[Described]:
    """List the service, and those to which splits and rules may send its requests."""
    reached: dict[ObjectKey, Described] = {}
    ruled: set[ObjectKey] = set()
    waiting = [key]
    while waiting:
        key = waiting.pop()
        described = mesh.find_described(key) if key not in reached else None
        if described is None:
            continue
        if not reached:  # the rules of backends do not apply
            ruled = {each.service for port in described[0].ports for each in list_rule_backends(port)}
        reached[key] = described
        for split in map(render_addition, described[0].sections.get(SPLITS, {}).values()):
            if isinstance(split, dict):
                backends = (each.get("service", "") for each in split.get("backends", ()))
                waiting += [ObjectKey(split.get("namespace", ""), name) for name in backends]
    for backend in ruled:
        described = mesh.find_described(backend) if backend not in reached else None
        if described is not None:
            reached[backend] = described
    return list(reached.values())


def _describe_found(subject: Subject, found: Findings) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "namespace": subject.key.namespace,
        "name": subject.key.name,
        "errors": found.errors,
        "notices": found.notices,
    }
