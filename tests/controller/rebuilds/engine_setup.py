"""An engine with the plugins of a test, and the objects that tests apply to it."""

import json

import msgspec

from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.ranges import list_exclusive_ranges
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.rebuilds.engine_parts import EngineParts
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Namespace,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from maesh_core.model.topology import PodNode
from maesh_core.plugin_system.hookspecs import Addition, Stage
from maesh_core.plugin_system.protocols import PortRange, TrafficType

TYPES = tuple(kind.type for kind in CORE_KINDS)
TRAFFIC_TYPE = "mesh.traefik.io/traffic-type"
FRIEND = "example.org/friend"
"""Names another service of the namespace, which the test's topology builder reads."""
BOOM = "example.org/boom"
CALLERS = "example.org/callers"
"""Names a service account, whose pods the service's rules name."""
ENCRYPTION = "mesh.traefik.io/encryption"


class FriendBuilder:
    """Reads another service; fails in a way that nobody expects where that one is annotated so."""

    name = "friend"

    def build(self, view, node):
        name = node.annotations.get(FRIEND)
        friend = view.get(Service, ObjectKey(node.key.namespace, name)) if name else None
        if friend is None:
            return None
        if BOOM in friend.metadata.annotations:
            raise RuntimeError("boom")
        seen = ObjectFindings(type=Pod, key=ObjectKey(node.key.namespace, "p"), notices=(f"seen by {node.key.name}",))
        return Addition(value=len(friend.spec.ports), objects=(seen,))


class LooseService:
    """Checks every pod: does it have a service of its name, or concern one?"""

    type = Pod

    def check(self, view, resource, services):
        found = view.get(Service, resource.key)
        return Findings(notices=(f"no service {resource.metadata.name}",)) if not (found or services) else None


class StampBuilder:
    """A middleware whose builder raises an unexpected error if its annotation says so."""

    kind = "stamp"
    stage = Stage.LIMIT
    annotations = ("stamp",)

    def build_settings(self, annotations, service):
        if annotations.get("stamp") == "boom":
            raise RuntimeError("stamp boom")
        return {"text": annotations["stamp"]} if annotations else None


class BadTrafficType(HttpTrafficType):
    """A traffic type of a plugin that makes what cannot be sent."""

    name = "bad"

    def build_section(self, service, annotations, *, entrypoints, middlewares):
        section = super().build_section(service, annotations, entrypoints=entrypoints, middlewares=())
        return msgspec.structs.replace(section, services={key: object() for key in section.services})

    def build_closed_section(self, service, *, entrypoints, reason):
        raise RuntimeError("closing fails too")


class PlainTrafficType(HttpTrafficType):
    """A traffic type of a plugin, which no transport can encrypt."""

    name = "plain"


class FakeNode(msgspec.Struct, frozen=True):
    """How the transport of a test describes a node."""

    addresses: tuple[str, ...]


class FakeTransport:
    """The controller's half of a transport; a node named `boom` cannot be described, and `out` takes no part."""

    name = "fake"
    annotations: tuple[str, ...] = ("encryption",)

    def build_mode(self, annotations, service):
        mode = annotations.get("encryption", "permissive")
        if mode == "wrong":
            raise ValueError("annotation encryption: 'wrong' is no mode")
        return mode

    def describe_node(self, node):
        if node.name == "boom":
            raise RuntimeError("boom")
        return None if node.name == "out" else FakeNode(tuple(pod.address for pod in node.proxies))


class CallerBuilder:
    """Names the pods of an account as clients, as rules of access control do."""

    name = "caller"

    def build(self, view, node):
        account = node.annotations.get(CALLERS)
        pods = view.find(Pod, "account", ObjectKey(node.key.namespace, account)) if account else ()
        named = (
            PodNode(key=pod.key, service_account=account, address=pod.addresses[0]) for pod in pods if pod.addresses
        )
        return Addition(pods=tuple(named))


def build_engine(
    *,
    assigned=None,
    mapping_path=None,
    sources=("s",),
    tcp_limit=2,
    is_inherited=False,
    checkers=(),
    transport=None,
    sends_pod_names=False,
    sends_namespaces=False,
    builders=None,
):
    traffic_types: list[TrafficType] = [
        HttpTrafficType(
            PortRange(first=5000, limit=2, is_exclusive=False),
            own_range=PortRange(first=20000, limit=2, is_exclusive=True),
        ),
        TcpTrafficType(PortRange(first=10000, limit=tcp_limit, is_exclusive=True)),
        PlainTrafficType(PortRange(first=8000, limit=2, is_exclusive=False)),
        BadTrafficType(PortRange(first=7000, limit=2, is_exclusive=False)),
    ]
    ranges = {each.name: each.port_range for each in list_exclusive_ranges(traffic_types)}
    mapping_file = PortMappingFile(mapping_path)
    parts = EngineParts(
        snapshot=Snapshot(CORE_KINDS),
        rules=TopologyRules(has_transport=transport is not None),
        builders=(FriendBuilder(), CallerBuilder()) if builders is None else builders,
        catalogue=Catalogue(traffic_types, [StampBuilder()], transport=transport),
        ports=PortTables(
            ranges, assigned=assigned or mapping_file.load(), clock=lambda: 0.0, is_inherited=is_inherited
        ),
        mapping_file=mapping_file,
        revisions=RevisionStore("e", ()),
        sources=sources,
        kinds=CORE_KINDS,
        checkers=checkers,
        sends_pod_names=sends_pod_names,
        sends_namespaces=sends_namespaces,
    )
    return Engine(parts)


def build_service(name="a", namespace="n", ports=(80,), **annotations):
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations.get("annotations", {})),
        spec=ServiceSpec(ports=tuple(ServicePort(port=port, name=str(port)) for port in ports), selector={"app": name}),
    )


def build_slice(name, service, address="10.0.0.1", pod=None, namespace="n", node=""):
    reference = ObjectReference(kind="Pod", namespace=namespace, name=pod) if pod else None
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={"kubernetes.io/service-name": service}),
        endpoints=(Endpoint(addresses=(address,), target_ref=reference, node_name=node),),
        ports=(EndpointPort(name="80", port=8080),),
    )


def build_pod(name, ip, labels=None, *, node="", account="default"):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="n", labels=labels or {}),
        spec=PodSpec(node_name=node, service_account_name=account),
        status=PodStatus(pod_ip=ip),
    )


def build_proxy(name, ip, *, node, **status):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="maesh", labels={"maesh.io/tunnel": "15008"}),
        spec=PodSpec(node_name=node),
        status=PodStatus(pod_ip=ip, **status),
    )


def build_namespace(name="n", **annotations):
    return Namespace(metadata=ObjectMeta(name=name, annotations=annotations))


def list_all(*resources):
    return [Replaced(type_, [each for each in resources if type(each) is type_]) for type_ in TYPES]


def start(*resources, **more):
    engine = build_engine(**more)
    engine.apply(list_all(*resources), source="s")
    return engine


def report(engine, name="a"):
    return next(each for each in engine.list_reports() if each.name == name)


def pull(engine, since=None):
    return json.loads(engine.render_configuration(since))


def tcp(**more):
    return {"annotations": {TRAFFIC_TYPE: "tcp", **more}}
