"""Resources go in, topology and configuration come out: one folder a case, in tests/data/mesh (see README.md there)."""

import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.port_plan import plan_claims
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import ConfigurationError
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.resources import Resource, Service
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import FilterRequest, MiddlewareBuilder, Stage
from maesh_core.plugin_system.protocols import PortRange

from .case_routes import load_routes

CASES = Path(__file__).parents[2] / "data" / "mesh"
NAMES = sorted(path.parent.name for path in CASES.glob("*/resources.yaml"))


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    default_mode: str = "http"
    ignored_namespaces: tuple[str, ...] = ()
    watched_namespaces: tuple[str, ...] = ()
    http_limit: int = 100
    tcp_limit: int = 1000
    middlewares: tuple[str, ...] = ()
    folder: str = ""


class Annotated:
    """A middleware that an annotation switches on; the value `bad` is one."""

    def __init__(self, kind: str, stage: Stage, annotation: str) -> None:
        self.kind = kind
        self.stage = stage
        self.annotations = (annotation,)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any] | None:
        (name,) = self.annotations
        if annotations.get(name) == "bad":
            raise ConfigurationError(f"annotation {name}: 'bad' is no value")
        return {"value": annotations[name]} if name in annotations else None


class Guard:
    """A middleware that every service has."""

    kind = "guard"
    stage = Stage.ADMISSION
    annotations = ()

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        return {"allow": []}


class Fields(Annotated):
    """A middleware that filters named `Fields` configure, too; the field `bad` is one that it refuses."""

    filters = ("Fields",)
    is_single = False

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> Mapping[str, Any]:
        if any("bad" in request.value for request in requests):
            raise ConfigurationError("'bad' is no field")
        return {"filters": [request.value for request in requests]}


MIDDLEWARES: dict[str, MiddlewareBuilder] = {
    "fields": Fields("fields", Stage.SHAPE, "fields"),
    "guard": Guard(),
    "limit": Annotated("limit", Stage.LIMIT, "burst"),
    "stamp": Annotated("stamp", Stage.DELIVER, "stamp"),
}


def load_case(name: str) -> tuple[list[Resource], Rules]:
    folder = CASES / name
    manifest = parse_manifest((folder / "resources.yaml").read_bytes(), KindTable(CORE_KINDS), path="resources.yaml")
    assert manifest.errors == ()
    assert manifest.unread_kinds == ()
    path = folder / "rules.json"
    rules = msgspec.json.decode(path.read_bytes() if path.exists() else b"{}", type=Rules)
    rules.folder = name
    return [loaded.resource for loaded in manifest.resources], rules


def list_at_once(resources: Iterable[Resource]) -> Snapshot:
    snapshot = Snapshot(CORE_KINDS)
    wanted = list(resources)
    events = [Replaced(kind.type, [each for each in wanted if type(each) is kind.type]) for kind in CORE_KINDS]
    snapshot.apply(events, source="test")
    return snapshot


def build_case(snapshot: Snapshot, rules: Rules) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the stages as the controller does, with a port table that only counts up."""
    nodes = build_nodes(snapshot, rules)
    catalogue = build_catalogue(rules)
    tcp = catalogue.traffic_types["tcp"].port_range
    free = iter(range(tcp.first, tcp.first + tcp.limit))
    configurations = {}
    for node in nodes:
        claims = plan_claims(node, catalogue)
        entrypoints = {"tcp": dict(zip(claims.get("tcp", ()), free, strict=False))}
        configurations[node.key] = build_service_configuration(node, catalogue=catalogue, entrypoints=entrypoints)
    store = RevisionStore("case", tuple(rules.middlewares))
    store.apply(configurations)
    services = {
        str(key): {
            "ports": msgspec.to_builtins(configuration.ports),
            "errors": list(configuration.errors),
            "notices": list(configuration.notices),
        }
        for key, configuration in configurations.items()
    }
    document = msgspec.json.decode(store.render(None) or b"")
    topology, configuration = json.loads(
        json.dumps([render_topology(nodes), {"document": document, "services": services}])
    )
    return topology, configuration


def build_nodes(snapshot: Snapshot, rules: Rules) -> list[ServiceNode]:
    topology_rules = TopologyRules(
        default_mode=rules.default_mode,
        ignored_namespaces=rules.ignored_namespaces,
        watched_namespaces=rules.watched_namespaces,
    )
    routes = load_routes(CASES / rules.folder)
    builders = [routes] if routes is not None else []
    nodes = [
        build_service_node(snapshot.view(), key, rules=topology_rules, builders=builders)
        for key in snapshot.keys(Service)
    ]
    return [node for node in nodes if node is not None]


def build_catalogue(rules: Rules) -> Catalogue:
    return Catalogue(
        [
            HttpTrafficType(PortRange(first=5000, limit=rules.http_limit, is_exclusive=False)),
            TcpTrafficType(PortRange(first=10000, limit=rules.tcp_limit, is_exclusive=True)),
        ],
        [MIDDLEWARES[name] for name in rules.middlewares],
    )


def compare(path: Path, built: dict[str, Any]) -> None:
    expected = json.loads(path.read_text()) if path.exists() else None
    if expected != built and os.environ.get("MAESH_REGENERATE_CASES"):
        path.write_text(json.dumps(built, indent=2) + "\n")
    assert built == expected


@pytest.mark.parametrize("name", NAMES)
def test_resources_give_the_topology_on_file(name: str) -> None:
    resources, rules = load_case(name)
    compare(CASES / name / "topology.json", build_case(list_at_once(resources), rules)[0])


@pytest.mark.parametrize("name", NAMES)
def test_resources_give_the_configuration_on_file(name: str) -> None:
    resources, rules = load_case(name)
    compare(CASES / name / "configuration.json", build_case(list_at_once(resources), rules)[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_resources_changes_nothing(name: str) -> None:
    resources, rules = load_case(name)
    expected = json.dumps(build_case(list_at_once(resources), rules))
    for seed in range(3):
        shuffled = random.Random(seed).sample(resources, len(resources))
        assert json.dumps(build_case(list_at_once(shuffled), rules)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_resources_that_come_one_by_one_end_the_same(name: str) -> None:
    resources, rules = load_case(name)
    snapshot = list_at_once([])
    for resource in reversed(resources):
        snapshot.apply([Applied(resource)], source="test")
    assert build_case(snapshot, rules) == build_case(list_at_once(resources), rules)


def test_the_folder_of_cases_is_found() -> None:
    assert len(NAMES) >= 25
