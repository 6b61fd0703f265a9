"""A slip in an SMI object never opens more: whatever is misspelt, misplaced, null or of another type closes.

Takes valid meshes of every kind and shape, changes each field of each object in every way below, and compares what is
let in with what the object's owner had written.
"""

import copy

import msgspec
import pytest
from maesh_acl import AccessSettings
from maesh_acl.kinds import TrafficTarget
from maesh_smi.kinds import TcpRoute

from .conftest import (
    Cluster,
    build_group,
    build_object,
    build_pod,
    build_service,
    build_split,
    build_target,
)

pytestmark = pytest.mark.slow

CLIENT, OTHER = "10.0.0.1", "10.0.0.2"
CLIENTS = (CLIENT, OTHER, "10.0.0.3")
REQUESTS = [(method, path) for method in ("GET", "POST") for path in ("/api", "/admin")]
PODS = (
    build_pod("client", CLIENT, "caller"),
    build_pod("other", OTHER, "other"),
    build_pod("web-1", "10.0.1.1", "server", app="web"),
    build_pod("web-2", "10.0.1.2", "batch", app="web"),
    build_service("web"),
)
GROUP = build_group("api", {"name": "read", "pathRegex": "/api", "methods": ["GET"], "headers": [{"X-A": "b"}]})
GROUP["spec"]["matches"].append({"name": "write", "pathRegex": "/admin", "methods": ["POST"]})
TARGET = build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api", "write")], port=8080)
OLD_TARGET = build_object(
    "TrafficTarget",
    "t",
    "access.smi-spec.io/v1alpha1",
    destination={"kind": "ServiceAccount", "name": "server", "namespace": "shop", "port": "8080"},
    sources=[{"kind": "ServiceAccount", "name": "caller", "namespace": "shop"}],
    specs=[{"kind": "HTTPRouteGroup", "name": "api", "matches": ["write"]}],
)
OLD_GROUP = build_object("HTTPRouteGroup", "api", "specs.smi-spec.io/v1alpha2", matches=GROUP["spec"]["matches"])
ROUTE = build_object(
    "TCPRoute",
    "r",
    "specs.smi-spec.io/v1alpha4",
    spec={"matches": [{"name": "a", "ports": [8080]}, {"name": "b", "ports": [9999]}]},
)
NARROWED = build_target("t", "server", ["caller"], [("TCPRoute", "r", "b")], port=8080)
LEAVES = (
    build_pod("v1-1", "10.0.2.1", "one", app="v1"),
    build_service("v1"),
    build_target("one", "one", ["other"]),
    build_target("root", "server", ["caller"]),
)
SPLIT = build_split("s", "web", {"v1": 1}, ["api"])
SPLIT["spec"]["matches"][0]["matches"] = ["write"]

MESHES = {
    "a target below spec": ([GROUP, TARGET], ["TrafficTarget", "HTTPRouteGroup"]),
    "a target at the top": ([OLD_GROUP, OLD_TARGET], ["TrafficTarget", "HTTPRouteGroup"]),
    "routes beside groups": (
        [GROUP, ROUTE, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api"), ("TCPRoute", "r", "a")])],
        ["TrafficTarget", "HTTPRouteGroup", "TCPRoute"],
    ),
    "a route of another port": ([ROUTE, NARROWED], ["TrafficTarget", "TCPRoute"]),
    "a split": ([*LEAVES, GROUP, SPLIT], ["TrafficSplit", "HTTPRouteGroup"]),
}


def list_paths(value, path=()):
    """List the place of every field and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from list_paths(item, (*path, key))


def find(value, path):
    for step in path:
        value = value[step]
    return value


def change(document, path):
    """Return every slip that can be made at a place, with a name."""
    *way, name = path
    original = find(document, path)

    def make(label, do):
        changed = copy.deepcopy(document)
        do(changed, find(changed, way))
        return f"{'.'.join(map(str, path))}: {label}", changed

    def rename(other):
        def do(_, holder):
            holder[other] = holder.pop(name)

        return do

    def put(value):
        def do(_, holder):
            holder[name] = value

        return do

    if isinstance(name, str):
        for other in (f"{name}x", name[:-1], name.upper(), name.capitalize(), f" {name}"):
            if other not in (name, ""):
                yield make(f"renamed {other!r}", rename(other))
        yield make("beside an unknown field", lambda _, holder: holder.update(unknown=1))
        yield make("twice in another case", lambda _, holder: holder.update({name.upper(): original}))
        yield make("a level down", lambda _, holder: holder.update(inner={name: holder.pop(name)}))
        if way and isinstance(find(document, way[:-1]), dict) and (len(way) > 1 or name != "kind"):
            yield make(
                "a level up",
                lambda whole, holder: find(whole, way[:-1]).update({name: holder.pop(name)}),
            )
    for value in (None, 7, 1.5, True, "", "text", [], {}, [None], {"a": "b"}, [original], [[original]]):
        if type(value) is not type(original) or value in ([], [None]):
            yield make(f"becomes {value!r}", put(value))


def list_slips(label):
    objects, kinds = MESHES[label]
    for place, document in enumerate(objects):
        if document["kind"] not in kinds:
            continue
        fields = {name: item for name, item in document.items() if name not in ("apiVersion", "kind", "metadata")}
        for path in list_paths(fields):
            if "headers" in path[:-1] and isinstance(path[-1], str):
                continue  # the name of a header is a value
            if path[-1] == "headers":
                continue  # a map or a list of maps: one of the values below is as good
            for slip, changed in change(document, path):
                yield place, f"{document['kind']} {slip}", changed


def list_allowed(mesh):
    allowed, send = set(), mesh.open("web")
    for client in CLIENTS:
        for method, path in REQUESTS:
            for headers in ({}, {"X-A": "b"}):
                status, servers = send(client, method, path, headers)
                if status == 200:
                    found = servers or {(server, 8080) for server in ("10.0.1.1", "10.0.1.2", "10.0.2.1")}
                    allowed.update((client, method, path, bool(headers), server) for server in found)
    return allowed


GOOD_VALUES = (
    "becomes ''",
    "becomes 'text'",
    "becomes 7",
    "becomes 1.5",
    "becomes []",
    "becomes {}",
    "becomes {'a': 'b'}",
)
"""As good as the one before where the field takes such: it is read, and means what it says."""


@pytest.fixture(scope="module")
def untouched():
    """What each mesh lets in as it was written, without its split, and with one that divides everything."""
    found = {label: list_allowed(Cluster(*PODS, *objects)) for label, (objects, _) in MESHES.items()}
    divided = list_allowed(Cluster(*PODS, *LEAVES, build_split("s", "web", {"v1": 1})))
    return found, list_allowed(Cluster(*PODS, *LEAVES)), divided


@pytest.mark.parametrize("label", MESHES)
def test_no_slip_opens_more_and_each_is_an_error_on_its_object(untouched, label):
    by_mesh, without_split, divided = untouched
    told = silent = 0
    for place, slip, changed in list_slips(label):
        objects = list(MESHES[label][0])
        objects[place] = changed
        found = Cluster(*PODS, *objects)
        limit = by_mesh[label]
        if changed["kind"] == "TrafficSplit" and find_root(changed) is None:
            limit = without_split  # nobody can say which service it is about
        if not found.faults:
            assert slip.endswith(GOOD_VALUES), f"{slip}: no error"
            if label == "a split":  # it names a match that is missing now, or divides everything
                limit = limit | without_split | divided
            silent += 1
        assert list_allowed(found) <= limit, slip
        told += len(found.faults)
    assert told > 100
    assert silent < 30


def find_root(split):
    """Read the service of a split where a person could still read it."""
    fields = {**split, **(split["spec"] if isinstance(split.get("spec"), dict) else {})}
    return "web" if "web" in [value for value in fields.values() if isinstance(value, str)] else None


def read_notices(found, name):
    node = found.build_node(name)
    return node.notices if node is not None else ()


def list_services_with_notice(found, text):
    return [name for name in ("web", "v1") if any(text in notice for notice in read_notices(found, name))]


def test_a_split_that_cannot_be_read_closes_what_it_would_split_and_says_so(cluster):
    bad = build_split("s", "web", {"v1": 1})
    bad["spec"]["backend"] = []
    found = cluster(*PODS, *LEAVES, bad)
    assert list_allowed(found) == set()
    assert list_services_with_notice(found, "no client is allowed while TrafficSplit s@shop cannot be read") == ["web"]
    assert list_services_with_notice(found, "spec.backend: unknown field; did you mean backends?") == ["web"]


def test_a_split_below_that_cannot_be_read_closes_the_services_above(cluster):
    bad = build_split("below", "v1", {"v2": 1})
    bad["spec"]["match"] = []
    grants = (build_target("more", "one", ["caller"]), build_service("v2"))
    above = build_split("s", "web", {"v1": 1})
    assert list_allowed(cluster(*PODS, *LEAVES, *grants, above))
    assert list_allowed(cluster(*PODS, *LEAVES, *grants, above, bad)) == set()


def test_the_error_of_a_target_or_route_is_on_the_services_that_it_concerns(cluster):
    bad = copy.deepcopy(TARGET)
    bad["spec"]["destinaton"] = bad["spec"].pop("destination")
    found = cluster(*PODS, GROUP, bad)
    assert list_services_with_notice(found, "spec.destinaton: unknown field; did you mean destination?") == ["web"]
    assert found.build_node("web").sections["serviceTrafficTargets"]["web@shop:t@shop"].errors
    group = copy.deepcopy(GROUP)
    group["spec"]["matches"][0]["path"] = "/api"
    found = cluster(*PODS, group, TARGET)
    assert list_services_with_notice(found, "HTTPRouteGroup api has an error: spec.matches[0].path") == ["web"]


@pytest.mark.parametrize(("names", "status"), [(("a",), 200), (("b",), 403), (("a", "b"), 200), (("c",), 403)])
def test_a_rule_chooses_matches_of_a_tcp_route_by_name(cluster, names, status):
    found = cluster(*PODS, ROUTE, build_target("t", "server", ["caller"], [("TCPRoute", "r", *names)]))
    assert found.ask(CLIENT, "web")[0] == status


@pytest.mark.parametrize("rules", [[], None, {}, [None], "all"])
@pytest.mark.parametrize("is_old", [False, True])
def test_empty_rules_grant_nothing_and_no_rules_open_all_of_http_with_a_notice(cluster, rules, is_old):
    target = copy.deepcopy(OLD_TARGET if is_old else TARGET)
    holder, name = (target, "specs") if is_old else (target["spec"], "rules")
    del holder[name]
    found = cluster(*PODS, target)
    assert found.ask(CLIENT, "web", path="/any")[0] == 200
    assert list_services_with_notice(
        found, "TrafficTarget t@shop: it has no rules, so it allows all HTTP requests"
    ) == ["web"]
    holder[name] = rules
    closed = cluster(*PODS, target)
    assert closed.ask(CLIENT, "web", path="/any")[0] == 403
    assert list_services_with_notice(closed, "it has no rules") == []


def test_a_target_opens_only_its_own_namespace_unless_that_is_switched_off(cluster):
    foreign = build_target("t", "server", ["caller"])
    foreign["metadata"]["namespace"] = "evil"
    closed = cluster(*PODS, foreign)
    assert closed.ask(CLIENT, "web")[0] == 403
    assert list_services_with_notice(closed, "TrafficTarget t@evil: its destination is in namespace shop") == ["web"]
    opened = cluster(*PODS, foreign, settings=AccessSettings(own_namespace_only=False))
    assert opened.ask(CLIENT, "web")[0] == 200


def test_a_target_that_was_not_read_strictly_grants_nothing():
    """A source of objects that decodes the type itself, and so skips unknown fields, opens nothing."""
    assert msgspec.convert({"metadata": {"name": "t"}, "faults": ["x"], "spec": {}}, TrafficTarget).faults
    assert msgspec.convert({"metadata": {"name": "t"}}, TcpRoute).faults
