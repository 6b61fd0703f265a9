"""A cluster as objects, and what controller and proxy make of it: routes and their access control."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from maesh_acl import AccessSettings, AclSettings
from maesh_acl.controller import AclBuilder, GrantBuilder
from maesh_acl.kinds import KINDS
from maesh_acl.proxy import AclFactory
from maesh_smi.controller import SplitBuilder
from maesh_smi.kinds import KINDS as SMI_KINDS

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.hookspecs import TopologyBuilder
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.stream_traffic import StreamTrafficType
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings
from maesh_testing import FakeExchange, FakeNode

ALL_KINDS = (*CORE_KINDS, *{id(kind): kind for kind in (*SMI_KINDS, *KINDS)}.values())
NAMESPACE = "shop"


class UdpTrafficType(StreamTrafficType):
    name, transport = "udp", "UDP"


CATALOGUE = Catalogue(
    [
        HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False)),
        TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True)),
        UdpTrafficType(PortRange(first=15000, limit=10, is_exclusive=True)),
    ],
    [AclBuilder()],
)


def build_object(kind, name, api_version="v1", *, namespace=NAMESPACE, labels=None, **fields):
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def build_pod(name, address, account, *, app="", namespace=NAMESPACE, phase="Running"):
    spec = {"serviceAccountName": account, "containers": [{"name": "a"}]}
    status = {"podIP": address, "phase": phase}
    return build_object("Pod", name, namespace=namespace, labels={"app": app}, spec=spec, status=status)


def build_service(name, *, target=8080, port=80, kind="", protocol="TCP"):
    spec = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target, "protocol": protocol}]}
    found = build_object("Service", name, spec=spec)
    found["metadata"]["annotations"] = {"maesh.containo.us/traffic-type": kind} if kind else {}
    return found


def build_target(name, account, sources, rules=(), *, port=None, namespace=NAMESPACE):
    destination = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    if port is not None:
        destination["port"] = port
    spec = {
        "destination": destination,
        "sources": [{"kind": "ServiceAccount", "name": each, "namespace": NAMESPACE} for each in sources],
    }
    if rules:
        spec["rules"] = [
            {"kind": kind, "name": rule, **({"matches": matches} if matches else {})} for kind, rule, *matches in rules
        ]
    return build_object("TrafficTarget", name, "access.smi-spec.io/v1alpha3", namespace=namespace, spec=spec)


def build_group(name, *matches):
    return build_object("HTTPRouteGroup", name, "specs.smi-spec.io/v1alpha4", spec={"matches": list(matches)})


def build_route(kind, name, ports=()):
    spec = {"matches": {"ports": list(ports)}} if ports else {}
    return build_object(kind, name, "specs.smi-spec.io/v1alpha4", spec=spec)


def build_split(name, root, weights, matches=()):
    spec = {
        "service": root,
        "backends": [{"service": backend, "weight": weight} for backend, weight in weights.items()],
    }
    if matches:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": each} for each in matches]
    return build_object("TrafficSplit", name, "split.smi-spec.io/v1alpha4", spec=spec)


async def compile_table(section, middlewares):
    """Compile a section as the proxy does; nobody connects to its servers."""
    clock = Clock(asyncio.get_running_loop())
    table = HttpHandler(CarryingSettings(), clock).compile_table(section, middlewares=middlewares, changed=None)
    clock.close()
    return table


class Cluster:
    def __init__(self, *objects, settings=None):
        self.settings = settings or AccessSettings()
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
        manifest = parse_manifest(content, KindTable(ALL_KINDS), path="test.json")
        assert not manifest.errors, manifest.errors
        self.faults = [str(fault) for fault in manifest.faults]
        by_type = {kind.type: [] for kind in ALL_KINDS}
        for each in manifest.resources:
            by_type[type(each.resource)].append(each.resource)
        self.snapshot = Snapshot(ALL_KINDS)
        self.snapshot.apply(
            [Replaced(type=type_, resources=tuple(found)) for type_, found in by_type.items()], source="test"
        )
        self.factory = AclFactory(FakeNode())

    def build_node(self, service):
        builders: list[TopologyBuilder] = [SplitBuilder(), GrantBuilder(self.settings)]
        key = ObjectKey(NAMESPACE, service)
        return build_service_node(self.snapshot.view(), key, rules=TopologyRules(), builders=builders)

    def build_sections(self, service):
        node = self.build_node(service)
        entrypoints = {name: {port.number: 10000 for port in node.ports} for name in ("tcp", "udp")}
        found = build_service_configuration(node, catalogue=CATALOGUE, entrypoints=entrypoints)
        assert not found.errors, found.errors
        return found.sections

    def build_section(self, service):
        (section,) = self.build_sections(service).values()
        return section

    def build_acl(self, service):
        middleware = self.build_section(service).middlewares[f"{NAMESPACE}/{service}/acl"]
        settings = msgspec.convert(msgspec.json.decode(msgspec.json.encode(middleware.settings)), AclSettings)
        return self.factory.build_middleware(settings, f"{NAMESPACE}/{service}")

    def ask(self, client, service, *, method="GET", path="/", headers=None):
        """Send a request as the proxy would judge it: 200 with the servers that may have it, or 403."""
        return self.open(service)(client, method, path, headers or {})

    def open(self, service):
        """Build a service as the proxy has it; return what sends requests to it."""
        section = self.build_section(service)
        acl = self.build_acl(service)
        table = asyncio.run(compile_table(section, dict.fromkeys(section.middlewares, acl)))
        (router,) = section.routers.values()

        def send(client, method, path, headers):
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = parse_request_head(
                f"{method} {path} HTTP/1.1\r\nHost: {service}.{NAMESPACE}.maesh\r\n{lines}\r\n".encode()
            )
            route = table.find(router.entrypoint, head.host)
            if route.branches:
                route = route.choose(head)
            if route.balancer is None:
                return route.closed.status, None
            exchange: Any = FakeExchange(head.method, head.target, client_address=client, service=route.service)
            exchange.client_headers = head.client_headers
            exchange.destination, exchange.allowed_servers = route.destination, None
            answer = acl.on_request(exchange)
            return (200, exchange.allowed_servers) if answer is None else (answer.status, None)

        return send

    def connect(self, client, service):
        """Connect to a service's port; return whether it may be, and the servers."""
        (router,) = self.build_section(service).routers.values()
        connection = SimpleNamespace(
            client_address=client,
            entrypoint=10000,
            service=router.service,
            exchange=None,
            allowed_servers=None,
            would_deny="",
            server=None,
        )
        return self.build_acl(service).on_connect(connection), connection.allowed_servers


@pytest.fixture
def cluster():
    return Cluster
