"""What one service contributes where plugins misbehave, and what closes it. The rules: tests/data/mesh."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.port_plan import plan_claims, plan_ports
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpRouter, Section, Service, ServiceConfiguration, StreamRouter
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder, Stage
from maesh_core.plugin_system.protocols import PortRange, TrafficType

HTTP = HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False))
TCP = TcpTrafficType(PortRange(first=10000, limit=10, is_exclusive=True))
KEY = ObjectKey("shop", "cart")
PREFIX = "maesh.containo.us/"


class Plugin:
    """A middleware builder that does what it is told."""

    stage = Stage.LIMIT
    annotations = ("limit",)

    def __init__(self, build: Callable[[Mapping[str, str]], Any], kind: str = "limit") -> None:
        self.kind = kind
        self._build = build

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._build(annotations)
        return found


class Custom(HttpTrafficType):
    """A traffic type of a plugin that gives what it is told."""

    name = "custom"

    def __init__(self, section: Section) -> None:
        super().__init__(HTTP.port_range)
        self._section = section

    def build_section(self, service: ServiceNode, *_: Any, **__: Any) -> Section:
        return self._section

    def build_closed_section(self, service: ServiceNode, **_: Any) -> Section:
        return self._section


def make_node(*ports: PortNode, traffic_type: str | None = "http", **fields: Any) -> ServiceNode:
    return ServiceNode(key=KEY, traffic_type=traffic_type, ports=ports or (PortNode(number=80),), **fields)


def build(
    node: ServiceNode,
    *builders: MiddlewareBuilder,
    entrypoints: Mapping[int, int] | None = None,
    errors: Sequence[str] = (),
    custom: Section | None = None,
) -> ServiceConfiguration:
    types: list[TrafficType] = [HTTP, TCP, *([Custom(custom)] if custom is not None else [])]
    catalogue = Catalogue(types, builders)
    return build_service_configuration(node, catalogue=catalogue, entrypoints={"tcp": entrypoints or {}}, errors=errors)


def is_closed(configuration: ServiceConfiguration) -> bool:
    routers = [router for section in configuration.sections.values() for router in section.routers.values()]
    return all(router.service is None for router in routers)


def test_ports_are_planned_whatever_is_wrong_with_the_service() -> None:
    ports = (PortNode(number=80), PortNode(number=53, protocol="UDP"), PortNode(number=81))
    catalogue = Catalogue([HTTP, TCP])
    for traffic_type in ("http", "tcp"):
        node = make_node(*ports, traffic_type=traffic_type, errors=("wrong",))
        assert [port.number for port in plan_ports(node, catalogue)] == [80, 81]
    for unknown in (None, "udp"):
        assert plan_ports(make_node(*ports, traffic_type=unknown), catalogue) == ()


def test_a_headless_stream_claims_no_entrypoint_and_shows_only_why_it_is_closed() -> None:
    catalogue = Catalogue([HTTP, TCP])
    node = msgspec.structs.replace(make_node(PortNode(number=80), traffic_type="tcp"), is_headless=True)
    assert plan_claims(node, catalogue) == {}
    configuration = build_service_configuration(node, catalogue=catalogue, entrypoints={})
    assert [text[:18] for text in configuration.errors] == ["a headless service"]


def test_an_error_of_the_node_or_of_the_caller_closes_the_service() -> None:
    of_node, of_caller = build(make_node(errors=("wrong",))), build(make_node(), errors=("TypeError: wrong",))
    for configuration, error, reason in (
        (of_node, "wrong", "wrong"),
        (of_caller, "TypeError: wrong", "the service could not be configured"),
    ):
        assert configuration.errors == (error,)
        assert is_closed(configuration)
        (router,) = configuration.sections["http"].routers.values()
        assert (router.status, router.reason) == (404, reason)
        assert configuration.ports[0].entrypoint is None


@pytest.mark.parametrize("fault", [KeyError("secret"), TypeError("takes 1 positional argument"), ValueError("no")])
def test_clients_read_the_reason_of_an_error_and_never_what_an_exception_says(fault: Exception) -> None:
    def fail(_: Mapping[str, str]) -> Any:
        raise fault

    with pytest.raises(type(fault)):  # the engine shows it on the service, and has it built again with that error
        build(make_node(), Plugin(fail))
    settings = Plugin(lambda _: {"value": object()})
    configuration = build(make_node(), settings)
    (error,) = configuration.errors
    assert error.startswith("middleware limit: its settings cannot be sent to proxies: ")
    (router,) = configuration.sections["http"].routers.values()
    assert router.reason == "middleware limit: its settings cannot be sent to proxies"


@pytest.mark.parametrize("settings", [True, 1, "text", ["a"]])
def test_settings_that_are_no_mapping_close_the_service_alone(settings: Any) -> None:
    configuration = build(make_node(), Plugin(lambda _: settings))
    assert configuration.errors == (
        "middleware limit: its settings are not a mapping, so they cannot be sent to proxies",
    )
    assert is_closed(configuration)


@pytest.mark.parametrize("names", [(), ("shop/cart/guard",)])
@pytest.mark.parametrize("router_type", [HttpRouter, StreamRouter])
def test_a_traffic_type_that_leaves_out_who_may_come_in_closes_the_service(
    names: tuple[str, ...], router_type: Any
) -> None:
    hosts = {"hosts": ("cart",)} if router_type is HttpRouter else {}
    router = router_type(entrypoint=1, service="shop/cart:80", middlewares=names, **hosts)
    custom = Section(routers={"shop/cart:80": router}, services={"shop/cart:80": Service()})
    guard = Plugin(lambda _: {}, kind="guard")
    guard.stage = Stage.ADMISSION
    configuration = build(make_node(traffic_type="custom"), guard, custom=custom)
    expected = (
        ()
        if names
        else ("its traffic type returned the router 'shop/cart:80' without the middleware 'shop/cart/guard'",)
    )
    assert configuration.errors == expected


def test_builders_read_annotations_without_prefix_on_the_service_too() -> None:
    seen: list[ServiceNode] = []

    class Looking(Plugin):
        def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> None:
            seen.append(service)

    class LookingType(HttpTrafficType):
        name = "looking"

        def build_section(self, service: ServiceNode, *arguments: Any, **named: Any) -> Section:
            seen.append(service)
            return super().build_section(service, *arguments, **named)

    annotations = {f"{PREFIX}limit": "1", f"{PREFIX}other": "x"}
    node = make_node(traffic_type="looking", annotations=annotations)
    catalogue = Catalogue([LookingType(HTTP.port_range)], [Looking(lambda _: None)])
    build_service_configuration(node, catalogue=catalogue, entrypoints={})
    assert len(seen) == 2
    for service in seen:
        assert service.annotations == {**annotations, "limit": "1", "other": "x"}


def test_errors_are_each_reported_once_on_one_line() -> None:
    configuration = build(make_node(errors=("two\nlines", "b")), errors=("b", "two  lines"))
    assert configuration.errors == ("two lines", "b")


def test_a_shared_entrypoint_is_worked_out_whatever_the_port_table_says() -> None:
    configuration = build(make_node(PortNode(number=80, index=2)), entrypoints={80: 7})
    assert configuration.ports[0].entrypoint == 5002


def test_a_port_without_an_entrypoint_of_its_own_closes_no_other() -> None:
    node = make_node(PortNode(number=80), PortNode(number=81, index=1), traffic_type="tcp")
    configuration = build(node, entrypoints={81: 10007})
    assert list(configuration.sections["tcp"].routers) == ["shop/cart:81"]
    assert [port.entrypoint for port in configuration.ports] == [None, 10007]
    assert configuration.errors == ("port 80 has no entrypoint: all 10 from 10000 are in use",)


def test_a_middleware_gets_its_own_annotations_only() -> None:
    seen: list[Mapping[str, str]] = []
    node = make_node(annotations={PREFIX + "limit": "1", PREFIX + "scheme": "http", "limit": "2"})
    build(node, Plugin(lambda annotations: seen.append(annotations)))
    assert seen == [{"limit": "1"}]


def test_settings_that_are_empty_are_still_settings() -> None:
    configuration = build(make_node(), Plugin(lambda _: {}))
    assert list(configuration.sections["http"].middlewares) == ["shop/cart/limit"]


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): 3}])
def test_settings_that_cannot_be_sent_close_the_service(value: Any) -> None:
    configuration = build(make_node(), Plugin(lambda _: value))
    assert is_closed(configuration)
    assert configuration.errors[0].startswith("middleware limit: its settings cannot be sent to proxies")


def test_every_middlewares_error_is_reported() -> None:
    def refuse(_: Mapping[str, str]) -> None:
        raise ConfigurationError("no")

    other = Plugin(lambda _: {1: object()}, kind="other")
    other.annotations = ("other",)
    configuration = build(make_node(), Plugin(refuse), other)
    assert len(configuration.errors) == 2
    assert is_closed(configuration)


def test_another_exception_of_a_plugin_goes_up_and_the_caller_can_still_close_the_service() -> None:
    def fail(_: Mapping[str, str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build(make_node(), Plugin(fail))
    configuration = build(make_node(), Plugin(fail), errors=("it failed",))
    assert configuration.errors == ("it failed",)
    assert list(configuration.sections["http"].routers) == ["shop/cart:80"]
    assert is_closed(configuration)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (Section(services={"shop/other:80": Service()}), "does not belong to the service"),
        (Section(services={"shop/cart": Service()}), "does not belong to the service"),
        (Section(services={"shop/cart-b:80": Service()}), "does not belong to the service"),
        (
            Section(routers={"shop/cart:80": HttpRouter(entrypoint=1, hosts=(), service="shop/cart:80")}),
            "without its service",
        ),
        (
            Section(routers={"shop/cart:80": HttpRouter(entrypoint=1, hosts=(), middlewares=("shop/cart/x",))}),
            "without one of its middlewares",
        ),
    ],
)
def test_what_a_traffic_type_makes_stays_within_the_service_and_refers_to_what_is_there(
    section: Section, text: str
) -> None:
    configuration = build(make_node(traffic_type="custom"), custom=section)
    assert text in configuration.errors[0]
    assert configuration.sections == {}


def test_a_name_that_could_be_part_of_anothers_key_contributes_nothing() -> None:
    node = msgspec.structs.replace(make_node(errors=("no label",)), key=ObjectKey("shop", "cart/x"))
    configuration = build(node)
    assert configuration.sections == {}
    assert configuration.errors == ("no label",)


class Hash:
    """A load balancer of a plugin."""

    name = "hash"
    annotations = ("hash-header",)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("named", "notices"),
    [({"load-balancer": "hash"}, 0), ({}, 1), ({"load-balancer": "least-request"}, 1)],
    ids=["named", "not named", "another"],
)
def test_an_annotation_of_a_balancer_that_the_service_does_not_name_is_a_notice(
    named: Mapping[str, str], notices: int
) -> None:
    balancers = {"hash": Hash()}
    catalogue = Catalogue([HttpTrafficType(HTTP.port_range, balancers)], [], balancers)
    annotations = {f"{PREFIX}{name}": text for name, text in {"hash-header": "X-User", **named}.items()}
    built = build_service_configuration(
        make_node(annotations=annotations), catalogue=catalogue, entrypoints={}, errors=()
    )
    assert built.errors == ()
    text = f"annotation {PREFIX}hash-header: it has no effect without load-balancer: hash"
    assert built.notices == (text,) * notices


@pytest.mark.parametrize("traffic_type", ["http", "tcp"])
def test_settings_for_an_observer_are_sent_but_no_router_refers_to_them(traffic_type: str) -> None:
    observed, limit = Plugin(lambda annotations: {"limit": annotations.get("seen")}, "seen"), Plugin(lambda _: {})
    observed.stage, observed.annotations = Stage.OBSERVE, ("seen",)
    node = make_node(traffic_type=traffic_type, annotations={f"{PREFIX}seen": "true"})
    built = build(node, observed, limit, entrypoints={80: 10000})
    section = built.sections[traffic_type]
    assert built.notices == ()
    assert section.middlewares["shop/cart/seen"].settings == {"limit": "true"}
    assert section.routers["shop/cart:80"].middlewares == (("shop/cart/limit",) if traffic_type == "http" else ())
