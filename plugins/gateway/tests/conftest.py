"""A cluster of plain objects, and what the gateway makes of it."""

import pytest
from maesh_gateway import GatewaySettings
from maesh_gateway.attachments import Attachments
from maesh_gateway.controller import RouteBuilder
from maesh_gateway.kinds import KINDS

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey

API = "gateway.networking.k8s.io/v1"
FILTERS = frozenset(
    {
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestRedirect",
        "URLRewrite",
        "RequestMirror",
        "CORS",
        "timeouts",
        "retry",
        "sessionPersistence",
    }
)
ALL_KINDS = (*CORE_KINDS, *KINDS)


def write_service(name, address="10.0.0.1", *, namespace="shop", ports=((80, "http"),), annotations=None, **spec):
    """Write a Service of which each port is served by one pod."""
    labels = {"app": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
            "spec": {
                "selector": labels,
                "ports": [
                    {"port": each[0], "name": each[1], "targetPort": 8080, **(each[2] if len(each) > 2 else {})}
                    for each in ports
                ],
                **spec,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-0", "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"ports": []}]},
            "status": {"podIP": address} if address else {},
        },
    ]


def write_route(name="web", rules=None, *, namespace="shop", parents=None, kind="HTTPRoute", created="", **spec):
    """Write a route whose parent is the Service `web` of namespace `shop`."""
    metadata = {"name": name, "namespace": namespace}
    if created:
        metadata["creationTimestamp"] = created
    if parents is None:
        parents = [write_parent()]
    body = {"parentRefs": parents, **spec}
    if rules is not None:
        body["rules"] = rules
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": body}


def write_parent(name="web", *, namespace="shop", **fields):
    return {"group": "", "kind": "Service", "name": name, "namespace": namespace, **fields}


def write_rule(*backends, **fields):
    """Write a rule; a backend is a name or a whole reference."""
    refs = [{"name": each, "port": 80} if isinstance(each, str) else each for each in backends]
    return {"backendRefs": refs, **fields}


def write_path(value, type_="PathPrefix"):
    return {"path": {"type": type_, "value": value}}


class Cluster:
    """Objects, and the rules that the gateway builds from them."""

    def __init__(self, *objects, filters=FILTERS, grants="mesh", kinds=ALL_KINDS):
        self.snapshot = Snapshot(kinds)
        self.settings = GatewaySettings(reference_grants=grants)
        self.rules = TopologyRules(filters=filters)
        by_type = {kind.type: [] for kind in kinds}
        for each in _flatten(objects):
            kind = next(kind for kind in kinds if _is_of(kind, each))
            by_type[kind.type].append(kind.decode(each))
        self.resources = by_type
        events = [Replaced(type=type_, resources=tuple(found)) for type_, found in by_type.items()]
        self.snapshot.apply(events, source="test")

    @property
    def view(self):
        return BuilderView(self.snapshot.view(), self.rules)

    def build(self, name="web", namespace="shop"):
        """Build what the gateway adds to a service."""
        view = self.view
        node = view.build_service(ObjectKey(namespace, name))
        return RouteBuilder(self.settings).build(view, node)

    def build_table(self, port=80, *, consumer=None, name="web"):
        """Build the rules of a port: the producer's, or those of a namespace."""
        rules = self.build(name).rules[port, "TCP"]
        return rules.producer if consumer is None else rules.consumers[consumer]

    def list_order(self, port=80, **options):
        """List the matches in order, each with the place of its rule: the route's name and the index."""
        table = self.build_table(port, **options)
        return [(each.match, tuple(table.rules[each.rule].name.split("/")[2:])) for each in table.order]

    def list_rules(self, port=80, **options):
        """List the rules in the order of their first matches, each once."""
        return list(dict.fromkeys(place for _, place in self.list_order(port, **options)))

    def find_rule(self, index=0, *, route="web", **options):
        table = self.build_table(**options)
        return next(rule for rule in table.rules if rule.name.endswith(f"/{route}/{index}"))

    def find_attachment(self, route="web", *, kind="HTTPRoute", parent=0, name="web", namespace=""):
        value = self.build(name).value
        assert isinstance(value, Attachments)
        found = [each for items in value.routes.values() for each in items]
        wanted = (kind, route, parent)
        named = (each for each in found if (each.kind, each.name, each.parent) == wanted)
        return next(each for each in named if namespace in ("", each.namespace))


def _is_of(kind, item):
    return kind.name == item["kind"] and item["apiVersion"] in kind.api_versions


def _flatten(objects):
    for each in objects:
        if isinstance(each, dict):
            yield each
        else:
            yield from _flatten(each)


@pytest.fixture
def cluster():
    return Cluster
