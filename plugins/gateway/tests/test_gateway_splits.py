"""A route and a TrafficSplit on one port: the route decides, and both say so."""

from maesh_gateway.attaching.splits import SplitNoticeBuilder
from maesh_gateway.controller import RouteBuilder
from maesh_gateway.routes import HttpRoute
from maesh_smi.controller import SplitBuilder
from maesh_smi.kinds import KINDS as SMI_KINDS
from maesh_smi.kinds import TrafficSplit

from maesh_core.controller.topology.builder import build_service_node
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin import TopologyBuilder

from .conftest import ALL_KINDS, Cluster, write_parent, write_route, write_rule, write_service

WEB = write_service("web", ports=((80, "http"), (81, "other")))
V1 = write_service("v1", "10.0.1.1", ports=((80, "http"), (81, "other")))
SPLIT = {
    "apiVersion": "split.smi-spec.io/v1alpha4",
    "kind": "TrafficSplit",
    "metadata": {"name": "canary", "namespace": "shop"},
    "spec": {"service": "web", "backends": [{"service": "v1", "weight": 1}]},
}


def build_node(*objects):
    found = Cluster(*objects, kinds=(*ALL_KINDS, *SMI_KINDS))
    builders: list[TopologyBuilder] = [SplitNoticeBuilder(), SplitBuilder(), RouteBuilder(found.settings)]
    view = found.snapshot.view()
    return build_service_node(view, ObjectKey("shop", "web"), rules=found.rules, builders=builders)


def list_notices(node):
    return {(each.type, each.key.name): each.notices for each in node.objects if each.notices}


def test_the_route_decides_and_both_objects_and_the_service_say_so():
    node = build_node(WEB, V1, SPLIT, write_route(rules=[write_rule("web")], parents=[write_parent(port=80)]))
    assert list_notices(node) == {
        (TrafficSplit, "canary"): ("it has no effect on port 80, where HTTPRoute web decides",),
        (HttpRoute, "web"): ("on port 80 it decides in place of TrafficSplit canary",),
    }
    assert node.notices == ("port 80: HTTPRoute web decides in place of TrafficSplit canary",)
    assert (node.ports[0].rules is not None, node.ports[1].rules) == (True, None)
    assert node.errors == ()


def test_a_consumer_route_leaves_the_split_to_all_other_clients():
    node = build_node(WEB, V1, SPLIT, write_route(rules=[write_rule("web")], namespace="client"))
    assert list_notices(node) == {}
    assert node.ports[0].branches


def test_a_route_or_a_split_alone_says_nothing():
    assert list_notices(build_node(WEB, V1, SPLIT)) == {}
    assert list_notices(build_node(WEB, V1, write_route(rules=[write_rule("web")]))) == {}
