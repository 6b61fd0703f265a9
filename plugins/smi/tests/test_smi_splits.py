"""Splits become branches: shares, matches, splits below splits, and everything that can be wrong with them."""

from itertools import pairwise

import pytest

from maesh_core.controller.resources.view import ObjectRead
from maesh_core.model.configuration import HttpBranch, Part, Server, Service
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.plugin import HeaderMatch, HttpMatch

from .conftest import write_service, write_split

WEB, V1, V2 = write_service("web", "10.0.0.1"), write_service("v1", "10.0.1.1"), write_service("v2", "10.0.2.1")
GROUP = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: beta, namespace: shop}
spec: {matches: [{name: group, headers: [{x-group: "^beta$"}]}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: api, namespace: shop}
spec: {matches: [{name: read, pathRegex: /api, methods: [get]}, {name: any, pathRegex: /v1, methods: ["*"]}]}
"""
BETA = HttpMatch(headers=(HeaderMatch(name="x-group", pattern="^beta$"),))
READ, ANY = HttpMatch(paths=("/api",), methods=("GET",)), HttpMatch(paths=("/v1",))


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"])
def test_a_split_of_any_version_divides_the_traffic_among_its_backends(cluster, version):
    weights = {"v1": "900m", "v2": "100m"} if version == "v1alpha1" else {"v1": 90, "v2": 10}
    split = write_split("canary", "web", weights, version=version)
    assert cluster(WEB, V1, V2, split).list_branches() == [((), {"v1": 0.9, "v2": 0.1})]


def test_the_configuration_has_a_service_of_parts_and_one_for_each_backend(cluster):
    found = cluster(
        WEB, V1, write_service("v2", "10.0.2.1", target=9090), write_split("canary", "web", {"v1": 90, "v2": 10})
    )
    section = found.build_configuration().sections["http"]
    key = "shop/web:80"
    assert section.routers[key].branches == (HttpBranch(service=f"{key}/split/canary"),)
    assert section.services[f"{key}/split/canary"].parts == (
        Part(service=f"{key}/split/canary/v1", weight=9),
        Part(service=f"{key}/split/canary/v2", weight=1),
    )
    assert section.services[f"{key}/split/canary/v2"].servers == (Server(address="10.0.2.1", port=9090),)
    assert section.services[key].servers == (Server(address="10.0.0.1", port=8080),)


def test_a_tcp_service_is_split_too(cluster):
    tcp = "maesh.containo.us/traffic-type: tcp"
    services = [
        write_service(name, f"10.0.{number}.1", annotations=tcp) for number, name in enumerate(("web", "v1", "v2"))
    ]
    section = cluster(*services, write_split("s", "web", {"v1": 1, "v2": 1})).build_configuration().sections["tcp"]
    assert section.routers["shop/web:80"].service == "shop/web:80/split/s"
    assert len(section.services["shop/web:80/split/s"].parts) == 2


def test_a_split_with_matches_takes_what_matches_and_the_rest_is_the_services_own(cluster):
    found = cluster(WEB, V2, GROUP, write_split("beta", "web", {"v2": 1}, matches=["beta"]))
    assert found.list_branches() == [((BETA,), {"v2": 1.0})]


def test_matches_of_several_groups_add_up(cluster):
    found = cluster(WEB, V2, GROUP, write_split("s", "web", {"v2": 1}, matches=["beta", "api"]))
    assert found.list_branches() == [((BETA, READ, ANY), {"v2": 1.0})]


def test_of_several_splits_those_with_matches_come_first_then_by_name(cluster):
    splits = [
        write_split("a-all", "web", {"v1": 1}),
        write_split("z-beta", "web", {"v2": 1}, matches=["beta"]),
        write_split("b-all", "web", {"v2": 1}),
    ]
    assert cluster(WEB, V1, V2, GROUP, *splits).list_branches() == [((BETA,), {"v2": 1.0}), ((), {"v1": 1.0})]


def test_a_split_of_a_backend_is_resolved_into_its_leaves(cluster):
    services = [write_service(name, "10.1.0.1") for name in ("a", "b", "c", "d")]
    splits = [
        write_split("outer", "web", {"v1": 3, "v2": 1}),
        write_split("middle", "v1", {"a": 1, "b": 2}),
        write_split("inner", "b", {"c": 1, "d": 1}),
    ]
    shares = cluster(WEB, V1, V2, *services, *splits).list_branches()
    assert shares == [((), {"a": 0.25, "c": 0.25, "d": 0.25, "v2": 0.25})]


def test_two_ways_to_one_leaf_add_up(cluster):
    splits = [
        write_split("outer", "web", {"v1": 1, "v2": 1}),
        write_split("one", "v1", {"leaf": 1, "v1b": 1}),
        write_split("two", "v2", {"leaf": 1}),
    ]
    found = cluster(WEB, V1, V2, write_service("leaf", "10.3.0.1"), write_service("v1b", "10.4.0.1"), *splits)
    assert found.list_branches() == [((), {"leaf": 0.75, "v1b": 0.25})]


def test_matches_of_a_split_below_apply_within_its_share(cluster):
    splits = [
        write_split("outer", "web", {"v1": 1, "v2": 1}, matches=["api"]),
        write_split("below", "v1", {"leaf": 1}, matches=["beta"]),
    ]
    found = cluster(WEB, V1, V2, GROUP, write_service("leaf", "10.3.0.1"), *splits).list_branches()
    both = tuple(HttpMatch(paths=each.paths, methods=each.methods, headers=BETA.headers) for each in (READ, ANY))
    assert found == [(both, {"leaf": 0.5, "v2": 0.5}), ((READ, ANY), {"v1": 0.5, "v2": 0.5})]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"v1": 1, "v2": 0}, {"v1": 1.0}),
        ({"v1": 0, "v2": 0}, {}),
        ({"v1": 1, "nobody": 1}, {"v1": 1.0}),
        ({"v1": 1, "v2": -1}, {"v1": 1.0}),
        ({"v1": 1, "v2": "many"}, {"v1": 1.0}),
        ({"nobody": 1}, {}),
    ],
)
def test_backends_without_weight_or_use_get_nothing_and_the_service_gets_none_of_it(cluster, weights, expected):
    assert cluster(WEB, V1, V2, write_split("s", "web", weights)).list_branches() == [((), expected)]


@pytest.mark.parametrize(
    ("backend", "error"),
    [
        ("", "backend v2: the service does not exist; it is ignored"),
        (write_service("v2", "10.0.2.1", port=81), "backend v2: it has no port 80 TCP; it is ignored"),
        (
            write_service("v2", "10.0.2.1", annotations="maesh.containo.us/traffic-type: tcp"),
            "backend v2: its traffic type is tcp, not http; it is ignored",
        ),
    ],
)
def test_a_bad_backend_is_an_error_on_the_split_alone(cluster, backend, error):
    found = cluster(WEB, V1, backend, write_split("s", "web", {"v1": 1, "v2": 1}))
    assert found.list_branches() == [((), {"v1": 1.0})]
    assert found.list_errors() == [error]
    node = found.build_node()
    assert (node.errors, node.notices) == ((), (f"TrafficSplit s: {error}",))


@pytest.mark.parametrize(
    ("group", "error"),
    [
        ("", "there is no HTTPRouteGroup g"),
        ("spec: {matches: [{name: m, pathRegex: '('}]}", "HTTPRouteGroup g: match m: '(' is not a valid pattern"),
        ("spec: {}", "HTTPRouteGroup g has no matches"),
    ],
)
def test_a_split_whose_matches_cannot_be_used_is_detached(cluster, group, error):
    head = "---\napiVersion: specs.smi-spec.io/v1alpha3\nkind: HTTPRouteGroup\nmetadata: {name: g, namespace: shop}"
    text = f"{head}\n{group}"
    found = cluster(WEB, V1, text if group else "", write_split("s", "web", {"v1": 1}, matches=["g"]))
    assert found.list_branches() == []
    assert found.list_errors()[0].startswith(error)


@pytest.mark.parametrize(
    ("splits", "loop"),
    [
        ({"s": ("web", ["web"])}, "web -> web"),
        ({"s": ("web", ["v1"]), "t": ("v1", ["web"])}, "web -> v1 -> web"),
        ({"s": ("web", ["v1"]), "t": ("v1", ["v2"]), "u": ("v2", ["v1"])}, "v1 -> v2 -> v1"),
    ],
)
def test_a_split_in_a_loop_or_leading_into_one_is_detached_and_says_which(cluster, splits, loop):
    written = [write_split(name, root, dict.fromkeys(backends, 1)) for name, (root, backends) in splits.items()]
    found = cluster(WEB, V1, V2, *written)
    assert found.list_branches() == []
    assert found.list_errors() == [f"it leads into a loop: {loop}"]


def write_groups(side, count, matches=1):
    """Write splits of a service, each with a header of its own to look at."""
    for number in range(count):
        found = ", ".join(f"{{name: m{each}, headers: [{{x-{side}{number}: '{each}'}}]}}" for each in range(matches))
        yield f"""
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: {side}{number}, namespace: shop}}
spec: {{matches: [{found}]}}"""
        yield write_split(f"{side}{number}", side, {"leaf": 1}, matches=[f"{side}{number}"])


LEAF = write_service("leaf", "10.3.0.1")


def test_a_split_that_comes_to_too_many_branches_is_detached_as_a_whole(cluster):
    top = write_split("top", "web", {"v1": 1, "v2": 1})
    fits = cluster(WEB, V1, V2, LEAF, top, *write_groups("v1", 9), *write_groups("v2", 9))
    assert len(fits.list_branches()) == 100
    assert fits.list_branches()[-1] == ((), {"v1": 0.5, "v2": 0.5})
    found = cluster(WEB, V1, V2, LEAF, top, *write_groups("v1", 10), *write_groups("v2", 9))
    assert found.list_branches() == []
    assert found.list_errors() == ["with its nested splits it has more than 100 branches"]


VERBS = [
    f"""
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: {verb}, namespace: shop}}
spec: {{matches: [{{name: m, methods: [{verb}]}}]}}"""
    for verb in "abc"
]


def test_matches_that_exclude_or_repeat_each_other_make_no_more_branches(cluster):
    names = [f"s{number}" for number in range(20)]
    splits = [write_split(f"{name}{verb}", name, {"leaf": 1}, matches=[verb]) for name in names for verb in "abc"]
    services = [write_service(name, "10.4.0.1") for name in names]
    top = write_split("top", "web", dict.fromkeys(names, 1))
    branches = cluster(WEB, LEAF, *VERBS, *services, *splits, top).list_branches()
    assert branches[:3] == [((HttpMatch(methods=(verb,)),), {"leaf": 1.0}) for verb in "ABC"]
    assert branches[3:] == [((), dict.fromkeys(names, 0.05))]


def test_a_split_that_comes_to_too_many_matches_is_detached(cluster):
    below = list(write_groups("v1", 1, matches=200))
    top = [
        text.replace("service: v2,", "service: web,").replace("leaf", "v1")
        for text in write_groups("v2", 1, matches=51)
    ]
    found = cluster(WEB, V1, V2, LEAF, *below, *top)
    assert found.list_branches() == []
    assert found.list_errors() == ["with its nested splits a branch has more than 10000 matches"]


def test_two_ways_that_meet_are_no_loop_and_cost_no_more_than_their_splits(cluster):
    names = [f"s{number}" for number in range(18)]
    services = [write_service(f"{name}{side}", "10.9.0.1") for name in names for side in "ab"]
    splits = [
        write_split(f"{one}{side}", f"{one}{side}", {f"{other}a": 1, f"{other}b": 1})
        for one, other in pairwise(names)
        for side in "ab"
    ]
    found = cluster(WEB, *services, *splits, write_split("top", "web", {"s0a": 1, "s0b": 1}))
    assert found.list_branches() == [((), {"s17a": 0.5, "s17b": 0.5})]


def test_splits_below_each_other_without_end_are_detached(cluster):
    names = ["web", *(f"s{number}" for number in range(25))]
    services = [write_service(name, "10.9.0.1") for name in names]
    splits = [write_split(f"t{one}", one, {other: 1}) for one, other in pairwise(names)]
    found = cluster(*services, *splits)
    assert found.list_branches() == []
    assert found.list_errors() == ["its nested splits are more than 20 levels deep"]


def test_a_backend_without_pods_leaves_its_share_to_the_others(cluster):
    found = cluster(WEB, V1, write_service("v2"), write_split("s", "web", {"v1": 1, "v2": 9}))
    services = found.build_configuration().sections["http"].services
    assert services["shop/web:80/split/s"].parts == (Part(service="shop/web:80/split/s/v1", weight=1),)
    alone = cluster(WEB, write_service("v2"), write_split("s", "web", {"v2": 9}))
    services = alone.build_configuration().sections["http"].services
    assert services["shop/web:80/split/s/v2"] == Service()


def test_what_a_backends_pods_do_re_runs_the_service(cluster):
    found = cluster(WEB, V1, write_split("s", "web", {"v1": 1}))
    found.build_node()
    assert ObjectRead(Pod, ObjectKey("shop", "v1-0")) in found.reads or any("v1" in str(read) for read in found.reads)


def test_the_topology_shows_splits_with_their_matches(cluster):
    found = cluster(WEB, V1, GROUP, write_split("s", "web", {"v1": 3}, matches=["beta"]))
    view = found.build_node().sections["trafficSplits"]["s@shop"]
    assert (view.service, view.backends, view.matches) == ("web", ({"service": "v1", "weight": 3},), (BETA,))


def test_a_split_of_another_namespace_has_no_say(cluster):
    foreign = write_split("s", "web", {"v1": 1}).replace("namespace: shop", "namespace: other")
    assert cluster(WEB, V1, foreign).list_branches() == []


def test_ports_of_one_number_and_two_protocols_go_each_to_their_own(cluster):
    def write(name, address):
        return write_service(name, address, annotations="maesh.containo.us/traffic-type: tcp").replace(
            "ports: [{port: 80, targetPort: 8080}]",
            "ports: [{port: 80, targetPort: 9999, protocol: UDP, name: u}, {port: 80, targetPort: 8080, name: t}]",
        )

    found = cluster(write("web", "10.0.0.1"), write("v1", "10.0.1.1"), write_split("s", "web", {"v1": 1}))
    section = found.build_configuration().sections["tcp"]
    assert section.services["shop/web:80/split/s/v1"].servers == (Server(address="10.0.1.1", port=8080),)


def test_a_backend_whose_own_annotations_close_it_is_left_out(cluster):
    bad = write_service("v1", "10.0.1.1", annotations="maesh.containo.us/scheme: gopher")
    configuration = cluster(WEB, bad, V2, write_split("s", "web", {"v1": 1, "v2": 9})).build_configuration()
    services = configuration.sections["http"].services
    assert [part.service for part in services["shop/web:80/split/s"].parts] == ["shop/web:80/split/s/v2"]
    assert configuration.errors == ()


def test_a_backend_has_the_scheme_of_its_annotation_or_of_its_own_port(cluster):
    def with_protocol(text, name):
        found = text.replace("targetPort: 8080", f"targetPort: 8080, appProtocol: {name}")
        assert found != text
        return found

    web = with_protocol(WEB, "https")
    v1 = with_protocol(V1, "grpc")
    v2 = with_protocol(write_service("v2", "10.0.2.1", annotations="maesh.containo.us/scheme: https"), "grpc")
    v3 = write_service("v3", "10.0.3.1")
    split = write_split("s", "web", {"v1": 1, "v2": 1, "v3": 1})
    services = cluster(web, v1, v2, v3, split).build_configuration().sections["http"].services
    found = {
        name: (
            services[f"shop/web:80/split/s/{name}"].scheme,
            services[f"shop/web:80/split/s/{name}"].servers[0].tls_name,
        )
        for name in ("v1", "v2", "v3")
    }
    assert found == {"v1": ("h2c", ""), "v2": ("https", "v2.shop.svc"), "v3": ("http", "")}
    assert (services["shop/web:80"].scheme, services["shop/web:80"].servers[0].tls_name) == ("https", "web.shop.svc")


def test_no_backends_name_is_that_of_a_branch(cluster):
    texts = [write_split("s", "web", {"v2": 1}), write_split("t", "v2", {"v1": 1}, matches=["beta"])]
    section = cluster(WEB, V1, V2, GROUP, *texts).build_configuration().sections["http"]
    keys = {key.partition("/split/")[2] for key in section.services} - {""}
    assert keys == {"s", "s/v1", "s:2", "s:2/v2"}


def test_a_split_follows_the_traffic_type_of_each_port(cluster):
    of_port, of_service = "maesh.containo.us/80.traffic-type: tcp", "maesh.containo.us/traffic-type: tcp"
    services = [
        write_service("web", "10.0.0.1", annotations=of_port),
        write_service("v1", "10.0.1.1", annotations=of_service),
        write_service("v2", "10.0.2.1"),
    ]
    found = cluster(*services, write_split("s", "web", {"v1": 1, "v2": 1}))
    assert found.list_branches() == [((), {"v1": 1.0})]
    assert found.list_errors() == ["backend v2: its traffic type is http, not tcp; it is ignored"]
