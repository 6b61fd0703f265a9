"""A cluster as YAML, and what the controller makes of it."""

import pytest
from maesh_smi.controller import SplitBuilder
from maesh_smi.kinds import KINDS

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
from maesh_core.plugin_system.protocols import PortRange

CATALOGUE = Catalogue(
    [
        HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False)),
        TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True)),
    ],
    [],
)


def write_service(name, *addresses, port=80, target=8080, annotations=""):
    """Write a Service of namespace `shop`, and its Pods."""
    pods = "".join(
        f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-{number}, namespace: shop, labels: {{app: {name}}}}}
spec: {{containers: [{{name: a}}]}}
status: {{podIP: {address}}}"""
        for number, address in enumerate(addresses)
    )
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, annotations: {{{annotations}}}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: {port}, targetPort: {target}}}]}}{pods}"""


def write_split(name, root, weights, *, matches=(), version="v1alpha4"):
    backends = ", ".join(f"{{service: {backend}, weight: {weight}}}" for backend, weight in weights.items())
    references = ", ".join(f"{{kind: HTTPRouteGroup, name: {group}}}" for group in matches)
    conditions = f", matches: [{references}]" if matches else ""
    return f"""
---
apiVersion: split.smi-spec.io/{version}
kind: TrafficSplit
metadata: {{name: {name}, namespace: shop}}
spec: {{service: {root}, backends: [{backends}]{conditions}}}"""


class Cluster:
    def __init__(self, *texts):
        self.manifest = parse_manifest("\n".join(texts).encode(), KindTable((*CORE_KINDS, *KINDS)), path="test.yaml")
        self.snapshot = Snapshot((*CORE_KINDS, *KINDS))
        by_type = {kind.type: [] for kind in (*CORE_KINDS, *KINDS)}
        for each in self.manifest.resources:
            by_type[type(each.resource)].append(each.resource)
        events = [Replaced(type=type_, resources=tuple(found)) for type_, found in by_type.items()]
        self.snapshot.apply(events, source="test")

    def build_node(self, name="web"):
        view = self.snapshot.view()
        node = build_service_node(view, ObjectKey("shop", name), rules=TopologyRules(), builders=[SplitBuilder()])
        self.reads = view.reads
        return node

    def list_branches(self, name="web"):
        """List the branches of a service's first port: matches, and each backend's share of 1."""
        found = []
        for branch in self.build_node(name).ports[0].branches:
            total = sum(backend.weight for backend in branch.backends)
            shares = {backend.service.name: round(backend.weight / total, 6) for backend in branch.backends}
            found.append((branch.matches, shares))
        return found

    def build_configuration(self, name="web"):
        entrypoints = {"tcp": {port.number: 10000 for port in self.build_node(name).ports}}
        return build_service_configuration(self.build_node(name), catalogue=CATALOGUE, entrypoints=entrypoints)

    def list_errors(self, name="web"):
        return [text for view in self.build_node(name).sections["trafficSplits"].values() for text in view.errors]


@pytest.fixture
def cluster():
    return Cluster
