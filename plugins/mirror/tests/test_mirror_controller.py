"""Annotations and filters in, side services and mirrors out, or errors."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_mirror import MirrorSettings
from maesh_mirror.controller import ControllerHalf, SideFinder, parse_targets
from maesh_mirror.settings import Mirrors

from maesh_core.plugin import BackendNode, ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

NEXT = ServiceNode(key=ObjectKey("shop", "next"), traffic_type="http", ports=(PortNode(number=80),))
SIDE = BackendNode(service=NEXT.key, weight=1, port=NEXT.ports[0])
NAME = "annotation/shop/next/80"


class FakeView:
    def build_service(self, key):
        return NEXT if key == NEXT.key else None


VIEW: Any = FakeView()


def build_service(annotations=(), *, sides=(NAME,), ports=(80,)):
    found = tuple(PortNode(number=port, side_backends=dict.fromkeys(sides, SIDE)) for port in ports)
    prefixed = {f"maesh.containo.us/{name}": text for name, text in dict(annotations).items()}
    return ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", annotations=prefixed, ports=found)


def get_builder(**settings):
    (builder,) = ControllerHalf(MirrorSettings(**settings)).maesh_middleware_builders()
    return builder


def send(built):
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), Mirrors)


def build(annotations, service=None, **settings):
    """Build what the proxy would get."""
    named = {f"mirror-{name}": text for name, text in annotations.items()}
    return send(get_builder(**settings).build_settings(named, service or build_service(named)))


def build_filter(value, **settings):
    port = PortNode(number=80)
    request = FilterRequest(
        name="RequestMirror", value=value, matches=(), port=port, side_services={"m": "shop/web:80/side/m"}
    )
    return send(get_builder(**settings).build_filter([request], build_service()))


def test_a_service_without_the_annotations_has_no_mirror():
    assert build({}) is None
    assert SideFinder().build(VIEW, build_service()) is None


def test_a_mirror_gets_all_requests_unless_a_share_is_set():
    found = build({"service": "next.shop:80"}, body_limit=7)
    (mirror,) = found.mirrors
    assert (mirror.name, mirror.share, found.body_limit) == ("next.shop:80", 1, 7)
    assert mirror.keys == {"shop/web:80": f"shop/web:80/side/{NAME}"}
    assert build({"service": "next.shop:80", "percent": "0.5"}).mirrors[0].share == 0.005
    assert build({"service": "next.shop:80", "percent": "0"}) is None
    assert build({"service": "next.shop:80", "body-limit": "3"}).body_limit == 3


def test_each_mirror_can_have_a_share_of_its_own():
    names = [NAME, "annotation/shop/other/80", "annotation/shop/third/80"]
    service = build_service(sides=names)
    text = "next.shop:80, other.shop:80, third.shop:80"
    found = build({"service": text, "percent": "10, 0,0.5"}, service)
    assert [(each.name, each.share) for each in found.mirrors] == [("next.shop:80", 0.1), ("third.shop:80", 0.005)]
    assert [each.share for each in build({"service": text, "percent": "20"}, service).mirrors] == [0.2] * 3
    assert build({"service": text, "percent": "0,0,0"}, service) is None


@pytest.mark.parametrize("percent", ["10, 20, 30", "10,", "10, 101", ",", "10, x"])
def test_shares_that_do_not_fit_the_services_are_errors(percent):
    with pytest.raises(ConfigurationError, match="mirror-percent"):
        build({"service": "next.shop:80, other.shop:80", "percent": percent})


def test_each_port_has_a_side_service_of_its_own():
    found = build({"service": "next.shop:80"}, build_service(ports=(80, 81)))
    assert set(found.mirrors[0].keys) == {"shop/web:80", "shop/web:81"}


def test_the_side_service_is_found_and_one_that_is_missing_is_noticed():
    service = build_service({"mirror-service": "next.shop:80, next.shop:81, gone.shop:80"})
    found = SideFinder().build(VIEW, service)
    assert set(found.side_backends) == {(80, "TCP")}
    (backend,) = found.side_backends[80, "TCP"].values()
    assert (backend.service, backend.port) == (NEXT.key, NEXT.ports[0])
    assert found.notices == (
        "annotation mirror-service: there is no service port next.shop:81, so it gets no copies",
        "annotation mirror-service: there is no service port gone.shop:80, so it gets no copies",
    )
    assert build({"service": "gone.shop:80"}) is None


def test_the_annotation_of_a_port_is_that_of_this_port_only():
    service = build_service({"81.mirror-service": "next.shop:80"}, ports=(80, 81))
    assert set(SideFinder().build(VIEW, service).side_backends) == {(81, "TCP")}


@pytest.mark.parametrize(
    ("value", "share"),
    [
        ({}, 1),
        ({"percent": 10}, 0.1),
        ({"fraction": {"numerator": 1}}, 0.01),
        ({"fraction": {"numerator": 1, "denominator": 4}}, 0.25),
    ],
)
def test_a_filter_has_a_percentage_or_a_fraction(value, share):
    (mirror,) = build_filter({"backend": "m", **value}).mirrors
    assert (mirror.share, mirror.keys) == (share, {"shop/web:80": "shop/web:80/side/m"})


@pytest.mark.parametrize("value", [{"percent": 0}, {"fraction": {"numerator": 0}}])
def test_a_filter_that_copies_nothing_needs_no_middleware(value):
    assert build_filter({"backend": "m", **value}) is None


@pytest.mark.parametrize(
    "value",
    [
        {"backend": ""},
        {"backend": "other"},
        {"backend": "m", "percent": 101},
        {"backend": "m", "percent": -1},
        {"backend": "m", "percent": 1, "fraction": {"numerator": 1}},
        {"backend": "m", "fraction": {"numerator": 2, "denominator": 1}},
        {"backend": "m", "fraction": {"numerator": 2, "denominator": 0}},
        {"backend": "m", "share": 1},
    ],
)
def test_a_filter_with_an_error_is_refused(value):
    with pytest.raises(ConfigurationError, match="RequestMirror"):
        build_filter(value)


def test_several_filters_of_one_rule_are_one_middleware():
    requests = [
        FilterRequest(
            name="RequestMirror",
            value={"backend": name},
            matches=(),
            port=PortNode(number=80),
            side_services={name: f"shop/web:80/side/{name}"},
        )
        for name in ("a", "b")
    ]
    assert [each.name for each in send(get_builder().build_filter(requests, build_service())).mirrors] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("service", "next", "name.namespace:port"),
        ("service", "next.shop", "name.namespace:port"),
        ("service", "next.shop:0", "name.namespace:port"),
        ("service", "next.shop:65536", "name.namespace:port"),
        ("service", "Next.shop:80", "name.namespace:port"),
        ("service", "../next.shop:80", "name.namespace:port"),
        ("service", "", "name.namespace:port"),
        ("service", "next.shop:80,", "name.namespace:port"),
        ("service", "next.shop:80, next.shop:80", "names a service twice"),
        ("percent", "101", "from 0 to 100"),
        ("percent", "nan", "from 0 to 100"),
        ("body-limit", "1048577", "a whole number from 0 to "),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_and_rule(name, text, rule):
    with pytest.raises(ConfigurationError) as caught:
        build({"service": "next.shop:80", name: text})
    assert f"annotation mirror-{name}" in str(caught.value)
    assert rule in str(caught.value)


def test_a_share_without_a_service_is_an_error():
    with pytest.raises(ConfigurationError, match="mirror-service"):
        build({"percent": "10"})


def test_the_side_service_of_a_filter_is_shown_as_the_annotation_names_it():
    name = "mirror/other/next/80"
    request = FilterRequest(
        name="RequestMirror",
        value={"backend": name},
        matches=(),
        port=PortNode(number=80),
        side_services={name: f"shop/web:80/side/{name}"},
    )
    (mirror,) = send(get_builder().build_filter([request], build_service())).mirrors
    assert mirror.name == "next.other:80"


def test_it_explains_which_share_is_copied():
    builder = get_builder()
    named = {"mirror-service": "next.shop:80", "mirror-percent": "12.5"}
    settings = msgspec.to_builtins(builder.build_settings(named, build_service(named)))
    verdict = builder.explain(settings, None)
    assert (verdict.is_admitted, verdict.reasons) == (True, ("copies 12.5 % of the requests to next.shop:80",))


@given(st.text(max_size=40))
def test_any_text_is_read_as_services_or_refused(text):
    with contextlib.suppress(ConfigurationError):
        assert parse_targets(text)
