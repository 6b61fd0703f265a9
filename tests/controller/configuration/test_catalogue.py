"""What is enabled is found by name, in one order, and two that claim one thing stop the start."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from maesh_core.controller.configuration.catalogue import Catalogue, index_balancers
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import PluginError
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import Stage
from maesh_core.plugin_system.protocols import PortRange

HTTP = HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False))
TCP = TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True))


class One:
    def __init__(self, kind: str, *annotations: str, stage: Stage = Stage.LIMIT) -> None:
        self.kind = kind
        self.stage = stage
        self.annotations = annotations

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any] | None:
        return None


class Other(One):
    """The same, of another plugin."""


class Filtering(One):
    """A builder that routes can use, too."""

    is_single = False

    def __init__(self, kind: str, *filters: str) -> None:
        super().__init__(kind)
        self.filters = filters

    def build_filter(self, requests: Any, service: ServiceNode) -> Mapping[str, Any]:
        return {}


class Balancer:
    def __init__(self, name: str, *annotations: str) -> None:
        self.name = name
        self.annotations = annotations

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        return {}


class OtherHttp(HttpTrafficType):
    """The same, of another plugin."""


def test_the_order_is_that_of_stages_then_of_names() -> None:
    builders = [One("b"), One("a"), One("z", stage=Stage.ADMISSION), One("c", stage=Stage.DELIVER)]
    for ordered in itertools.permutations(builders):
        catalogue = Catalogue([TCP, HTTP], ordered)
        assert [builder.kind for builder in catalogue.middleware_builders] == ["z", "a", "b", "c"]
        assert list(catalogue.traffic_types) == ["http", "tcp"]


def test_annotations_of_the_core_and_of_what_is_enabled_are_claimed() -> None:
    catalogue = Catalogue([HTTP], [One("retry", "retry-attempts", "retry-on")])
    names = ("traffic-type", "scheme", "retry-attempts", "retry-on", "retry", "ratelimit-burst", "")
    assert [catalogue.is_claimed(name) for name in names] == [True, True, True, True, False, False, False]


def test_two_traffic_types_of_one_name_are_refused_by_both_names() -> None:
    with pytest.raises(PluginError, match=r"'http' is claimed by both .*\.HttpTrafficType and .*\.OtherHttp"):
        Catalogue([HTTP, OtherHttp(HTTP.port_range)])


def test_two_middlewares_of_one_kind_are_refused_by_both_names() -> None:
    with pytest.raises(PluginError, match=r"middleware kind 'a' is claimed by both .*\.One and .*\.Other$"):
        Catalogue([], [One("a"), Other("a")])


def test_two_middlewares_of_one_annotation_are_refused_by_both_names() -> None:
    with pytest.raises(PluginError, match=r"annotation 'x' is claimed by both .*\.One and .*\.Other$"):
        Catalogue([], [One("a", "x"), Other("b", "y", "x")])


def test_an_annotation_of_the_core_is_not_to_be_claimed() -> None:
    with pytest.raises(PluginError, match=r"'scheme' is claimed by both the core and .*\.One$"):
        Catalogue([], [One("a", "scheme")])


@pytest.mark.parametrize("name", ["", "a/b", "A", "full", "removed", "revision", "plugins"])
def test_a_traffic_type_whose_name_would_spoil_the_document_is_refused(name: str) -> None:
    named = OtherHttp(HTTP.port_range)
    named.name = name
    with pytest.raises(PluginError, match="is not a valid name"):
        Catalogue([named])


@pytest.mark.parametrize("kind", ["", "a/b", "a:b"])
def test_a_middleware_whose_kind_would_spoil_keys_is_refused(kind: str) -> None:
    with pytest.raises(PluginError, match="is not a valid name"):
        Catalogue([], [One(kind)])


def test_balancers_are_found_by_name_and_their_annotations_are_claimed() -> None:
    balancers = index_balancers([Balancer("nearest"), Balancer("hash", "hash-header")])
    assert list(balancers) == ["hash", "nearest"]
    assert Catalogue([HTTP], [], balancers).is_claimed("hash-header")
    with pytest.raises(PluginError, match=r"'hash-header' is claimed by both .*\.One and .*\.Balancer"):
        Catalogue([HTTP], [One("a", "hash-header")], balancers)


def test_two_balancers_of_one_name_are_refused() -> None:
    with pytest.raises(PluginError, match=r"load balancer 'hash' is claimed by both .*\.Balancer and .*\.Balancer$"):
        index_balancers([Balancer("hash"), Balancer("hash", "x")])


@pytest.mark.parametrize("name", ["round-robin", "least-request", "", "No label", "x" * 64])
def test_a_balancer_cannot_have_a_name_of_the_core_or_one_nobody_could_say(name: str) -> None:
    with pytest.raises(PluginError, match="is not a valid name"):
        index_balancers([Balancer(name)])


SWITCHES = {"ratelimit-burst": "plugin ratelimit is off; --ratelimit switches it on"}


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("maesh.containo.us/retry-attempts", None),
        ("mesh.traefik.io/scheme", None),
        ("maesh.containo.us/retry-attempt", "no enabled plugin reads it; did you mean retry-attempts?"),
        ("mesh.traefik.io/retry-attempt", "no enabled plugin reads it; did you mean retry-attempts?"),
        ("mesh.traefik.io/trafic-type", "no enabled plugin reads it; did you mean traffic-type?"),
        ("mesh.traefik.io/ratelimit-bursts", "no enabled plugin reads it; did you mean ratelimit-burst?"),
        (
            "mesh.traefik.io/ratelimit-burst",
            "no enabled plugin reads it: plugin ratelimit is off; --ratelimit switches it on",
        ),
        ("mesh.traefik.io/colour", "no enabled plugin reads it"),
        (
            "mesh.traeffik.io/retry-attempts",
            "it has no effect with this prefix; the mesh's are maesh.containo.us/ and mesh.traefik.io/",
        ),
        (
            "retry-attempts",
            "it has no effect without a prefix; the mesh's are maesh.containo.us/ and mesh.traefik.io/",
        ),
        ("scheme", None),
        ("example.org/retry-attempts", None),
        ("kubectl.kubernetes.io/last-applied-configuration", None),
        ("mesh.traeffik.io/colour", None),
    ],
)
def test_an_annotation_that_is_nearly_one_of_the_meshs_is_distinguished_from_one_of_others(
    annotation: str, said: str | None
) -> None:
    catalogue = Catalogue([HTTP], [One("retry", "retry-attempts", "retry-on")], switches=SWITCHES)
    assert catalogue.find_annotation_mistake(annotation) == said


def test_a_traffic_type_that_is_not_carried_is_explained() -> None:
    catalogue = Catalogue([HTTP, TCP], type_switches={"udp": "plugin udp is off; --udp switches it on"})
    start = "no enabled plugin supports traffic type"
    known = "known: http, tcp"
    assert catalogue.describe_unknown_type("gopher") == f"{start} 'gopher'; {known}"
    assert catalogue.describe_unknown_type("htp") == f"{start} 'htp'; {known}; did you mean http?"
    assert catalogue.describe_unknown_type("udp").endswith(f"{known}; plugin udp is off; --udp switches it on")


def test_the_builder_of_a_filter_is_found_by_the_name_of_the_filter() -> None:
    rewrite = Filtering("rewrite", "URLRewrite")
    catalogue = Catalogue([HTTP], [One("a"), rewrite])
    assert catalogue.find_filter("URLRewrite") is rewrite
    assert catalogue.find_filter("CORS") is None
    assert catalogue.filters == {"URLRewrite"}
    with pytest.raises(PluginError, match="filter 'URLRewrite' is claimed by both"):
        Catalogue([HTTP], [rewrite, Filtering("other", "URLRewrite")])
