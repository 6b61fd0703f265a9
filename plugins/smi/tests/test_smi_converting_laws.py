"""A split and the route that it is converted to choose alike, for any splits and requests."""

from fractions import Fraction

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from maesh_smi.converting import CONVERTER

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.plugin import ObjectKey, compile_matches
from maesh_core.proxy.http.messages.request_parsing import parse_request_head

from .conftest import Cluster, write_service, write_split

gateway = pytest.importorskip("maesh_gateway.controller")
kinds = pytest.importorskip("maesh_gateway.kinds")

NAMES = ("web", "a", "b", "c")
BASE = [write_service(name) for name in NAMES]
PATHS = ("/", "/api", "/api$", "/api(/|$)", "/api/v1(/|$)", "/a.i", "/other$")
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "pathRegex": st.sampled_from(PATHS),
        "methods": st.lists(st.sampled_from(["GET", "PUT"]), min_size=1, max_size=2, unique=True),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(["^1$", "1", ""]), min_size=1),
    },
)
WEIGHTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 9), min_size=1)
SPLITS = st.lists(st.tuples(WEIGHTS, st.lists(CONDITIONS, max_size=2)), min_size=1, max_size=3)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "PUT", "POST"]),
    st.sampled_from(["/", "/api", "/api/", "/api/v1", "/api/v1/x", "/apis", "/axi", "/other", "/otherwise"]),
    st.dictionaries(st.sampled_from(["X-A", "x-b"]), st.sampled_from(["1", "11", "2", ""])),
)


def write_group(name, matches):
    spec = {"matches": [{"name": f"m{index}", **each} for index, each in enumerate(matches)]}
    metadata = {"name": name, "namespace": "shop"}
    group = {"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": metadata, "spec": spec}
    return "\n---\n" + yaml.safe_dump(group)


def write_all(splits):
    texts = list(BASE)
    for index, (weights, matches) in enumerate(splits):
        texts.append(write_split(f"s{index}", "web", weights, matches=[f"g{index}"] if matches else ()))
        if matches:
            texts.append(write_group(f"g{index}", matches))
    return texts


def list_shares(backends):
    total = sum(each.weight for each in backends)
    return {each.service.name: Fraction(each.weight, total) for each in backends if each.weight}


def choose_by_splits(node, head):
    for branch in node.ports[0].branches:
        if compile_matches(branch.matches)(head):
            return list_shares(branch.backends)
    return {"web": Fraction(1)}


def build_table(cluster, value):
    """Build the rules of the service `web` that the plugin gateway reads from a route."""
    known = (*CORE_KINDS, *kinds.KINDS)
    snapshot = Snapshot(known)
    by_type = {kind.type: [] for kind in known}
    for each in cluster.manifest.resources:
        if type(each.resource) in by_type:
            by_type[type(each.resource)].append(each.resource)
    kind = next(kind for kind in known if kind.name == value["kind"] and value["apiVersion"] in kind.api_versions)
    by_type[kind.type].append(kind.decode(value))
    snapshot.apply([Replaced(type=type_, resources=tuple(found)) for type_, found in by_type.items()], source="test")
    view = BuilderView(snapshot.view(), TopologyRules())
    addition = gateway.RouteBuilder(gateway.GatewaySettings()).build(view, view.build_service(ObjectKey("shop", "web")))
    assert addition is not None
    assert not addition.notices
    return addition.rules[80, "TCP"].producer


def choose_by_rules(table, head):
    for each in table.order:
        if compile_matches([each.match])(head):
            return list_shares(table.rules[each.rule].backends)
    return None


@given(SPLITS, st.lists(REQUESTS, min_size=1, max_size=10))
def test_a_split_and_its_route_choose_alike(splits, requests):
    cluster = Cluster(*write_all(splits))
    node = cluster.build_node()
    view = BuilderView(cluster.snapshot.view(), TopologyRules())
    conversion = CONVERTER.convert(view, [each.resource for each in cluster.manifest.resources])
    assume(conversion.objects and not any("CHECK" in note for note in conversion.objects[0].notes))
    table = build_table(cluster, conversion.objects[0].value)
    for method, path, headers in requests:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = parse_request_head(f"{method} {path} HTTP/1.1\r\nHost: web\r\n{lines}\r\n".encode())
        assert choose_by_rules(table, head) == choose_by_splits(node, head)
