"""Each value out of range refuses the update; each at the edge of its range passes."""

from typing import Any

import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import (
    Answer,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Middleware,
    NamedServer,
    Section,
    Server,
    Service,
    StreamRouter,
)
from maesh_core.model.messages import Update
from maesh_core.proxy.routing.checks import check_update, parse_wire_path


def http(**fields: Any) -> Section:
    return Section(routers={"r": HttpRouter(**{"entrypoint": 5000, "hosts": ("a",), **fields})})


def server(**fields: Any) -> Section:
    return Section(services={"s": Service(servers=(Server(**{"address": "10.0.0.1", "port": 80, **fields}),))})


@pytest.mark.parametrize(
    "section",
    [
        http(entrypoint=0),
        http(entrypoint=65536),
        http(hosts=("",)),
        http(hosts=("a b",)),
        http(hosts=("a\r\nX: y",)),
        http(hosts=("é",)),
        http(hosts=("a" * 256,)),
        http(status=200),
        http(status=600),
        http(reason="x" * 4097),
        http(own_entrypoint=65536),
        http(fallback=""),
        http(side_services=("a\nb",)),
        http(rules=HttpRules(order=(HttpOrder(rule=0),))),
        http(rules=HttpRules(rules=(HttpRule(),), order=(HttpOrder(rule=-1),))),
        http(rules=HttpRules(rules=(HttpRule(service="a\nb"),))),
        http(rules=HttpRules(rules=(HttpRule(middlewares=("",)),))),
        http(rules=HttpRules(status=200)),
        http(consumers={"test": HttpRules(reason="x" * 4097)}),
        Section(services={"s": Service(answer=Answer(status=200))}),
        Section(services={"s": Service(answer=Answer(status=500, reason="x" * 4097))}),
        Section(services={"s": Service(answer=Answer(status=500, grpc_status=17))}),
        Section(routers={"r": StreamRouter(entrypoint=-1, service="s")}),
        Section(routers={"": StreamRouter(entrypoint=1, service="s")}),
        Section(routers={"r": StreamRouter(entrypoint=1, service="s", consumers={"A": "s"})}),
        Section(routers={"r": StreamRouter(entrypoint=1, service="s", consumers={"a": "a\nb"})}),
        Section(routers={"a\nb": StreamRouter(entrypoint=1, service="s")}),
        Section(routers={"a" * 1025: {}}),
        server(tls_name="a b"),
        server(tls_name="a" * 256),
        Section(services={"s": Service(names=(NamedServer(name="a.test", port=1, tls_name="a b"),))}),
        server(address="localhost"),
        server(address=""),
        server(address="10.0.0"),
        server(address="10.0.0.1\0"),
        server(address="fe80::1%eth0"),
        server(port=0),
        server(port=65536),
        server(weight=-1),
        server(weight=2**31),
        server(node="N 1"),
        Section(services={"s": Service(encryption="")}),
        Section(services={"s": Service(encryption="a b")}),
        Section(services={"s": Service(scheme="ht tp")}),
        Section(services={"s": Service(load_balancer="")}),
        Section(services={"\0": Service()}),
        Section(middlewares={"m": Middleware(kind="")}),
        Section(middlewares={"m": Middleware(kind="a\nb")}),
    ],
)
def test_a_value_out_of_range_refuses_the_update(section: Section) -> None:
    with pytest.raises(UpdateRejectedError):
        check_update(Update(revision="e.1", full=True, sections={"http": section}))


@pytest.mark.parametrize(
    "section",
    [
        http(entrypoint=1, status=400),
        http(entrypoint=65535, status=599, hosts=("10.96.0.1", "fd00::1", "[fd00::1]", "Web.Shop.maesh")),
        http(hosts=(), service=None, reason="x" * 4096),
        server(port=1, weight=0),
        server(node="ip-10-0-0-1.example.internal"),
        Section(services={"s": Service(encryption="strict")}),
        server(address="fd00::1", port=65535, weight=2**31 - 1),
        Section(routers={"r": {"entrypoint": "of a protocol that is not loaded"}}),
    ],
)
def test_values_at_the_edges_pass(section: Section) -> None:
    check_update(Update(revision="e.1", full=True, sections={"http": section}))


@pytest.mark.parametrize(
    "fields",
    [
        {"revision": ""},
        {"revision": "a\r\nb"},
        {"revision": "é"},
        {"revision": "a" * 257},
        {"full": True, "removed": ("http/routers/r",)},
        {"removed": ("http/routers/",)},
        {"removed": ("http/routers",)},
        {"removed": ("http/cats/r",)},
        {"removed": ("/routers/r",)},
        {"sections": {"": Section()}},
        {"sections": {"h\nttp": Section()}},
    ],
)
def test_a_head_that_cannot_be_refuses_the_update(fields: dict[str, Any]) -> None:
    with pytest.raises(UpdateRejectedError):
        check_update(Update(**{"revision": "e.1", "full": False, **fields}))


def test_the_key_in_a_wire_path_may_hold_slashes() -> None:
    assert parse_wire_path("http/middlewares/ns/name/retry") == ("http", "middlewares", "ns/name/retry")
