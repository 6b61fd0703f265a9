"""A whole proxy in this process: it starts, follows a scripted controller, and carries traffic."""

import asyncio
import json
import socket
from typing import Any

import msgspec
import pytest

from maesh_core import engine
from maesh_core.errors import SettingsError, StartupError
from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.metrics import Histogram
from maesh_core.model.traffic import ProxyTraffic
from maesh_core.proxy.node.shared_reports import join_reports
from maesh_core.proxy.workers.messages import Failed, Reported

from .in_process_proxy import FakePlugins, GetPort, World


async def test_a_proxy_is_ready_after_its_first_configuration_and_carries_traffic(world: World) -> None:
    world.controller.body = b"not yet"
    world.start()
    await world.wait_for("/ping", 200)
    assert (await world.get(world.admin, "/ready"))[0] == 503
    world.tell()
    await world.wait_for("/ready", 200)
    assert await world.get(world.entrypoint) == (200, "hello")
    assert (await world.get(world.entrypoint, host="other"))[0] == 404
    assert f"node=node-1&admin={world.admin} " in world.controller.requests[0]


async def test_the_admin_port_shows_the_current_configuration_and_503_before_the_first(world: World) -> None:
    world.controller.body = b"not yet"
    world.start()
    await world.wait_for("/ping", 200)
    assert (await world.get(world.admin, "/configuration"))[0] == 503
    world.tell()
    await world.wait_for("/ready", 200)
    status, body = await world.get(world.admin, "/configuration")
    assert (status, json.loads(body)) == (200, json.loads(world.controller.body))


async def test_a_proxy_reports_its_chosen_admin_port_to_the_controller(world: World) -> None:
    world.tell()
    world.start(admin_port=0)
    while not world.controller.requests:  # noqa: ASYNC110 - the list tells nobody
        await asyncio.sleep(0)
    told = world.controller.requests[0].partition("&admin=")[2].partition(" ")[0]
    assert (await world.get(int(told), "/ping"))[0] == 200


async def test_a_proxy_follows_the_controller(world: World, unused_tcp_port_factory: GetPort) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    old, world.entrypoint = world.entrypoint, unused_tcp_port_factory()
    world.tell("e.2")
    await world.wait_for_revision("e.2")
    assert await world.get(world.entrypoint) == (200, "hello")
    with pytest.raises(ConnectionRefusedError):
        await world.get(old)


async def test_a_proxy_continues_without_the_controller_and_reconnects(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    await world.controller.stop()
    assert await world.get(world.entrypoint) == (200, "hello")
    assert (await world.get(world.admin, "/ready"))[0] == 200
    world.tell("f.1", hosts=("new.shop.maesh",))
    await world.controller.start()
    await world.wait_for_revision("f.1")
    assert await world.get(world.entrypoint, host="new.shop.maesh") == (200, "hello")


async def test_an_invalid_update_leaves_the_configuration_unchanged(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    world.tell("e.2", hosts=("a\r\nb",))
    while "maesh_proxy_configuration_rejected_total 1.0" not in (await world.get(world.admin, "/metrics"))[1]:
        assert await world.get(world.entrypoint) == (200, "hello")
    world.tell("e.3")
    await world.wait_for_revision("e.3")


async def test_refused_routers_are_in_the_status_and_answer_503(world: World) -> None:
    world.tell(middlewares=("shop/web/gone",))
    world.start()
    await world.wait_for("/ready", 200)
    status = json.loads((await world.get(world.admin, "/status"))[1])
    reason = "middleware shop/web/gone is not in the configuration"
    expected = {"revision": "e.1", "ready": True, "workers": 1, "engine": engine.form}
    assert status == {**expected, "refused": [{"router": "http/routers/r", "reason": reason}]}
    assert await world.get(world.entrypoint) == (503, reason)


async def test_with_acl_a_configuration_made_without_it_answers_403(world: World) -> None:
    world.tell()
    world.start(plugins=FakePlugins(("acl",)))
    await world.wait_for("/ready", 200)
    assert (await world.get(world.entrypoint))[0] == 403
    world.tell("e.2", plugins=("acl",))
    await world.wait_for_revision("e.2")
    assert (await world.get(world.entrypoint))[0] == 200


async def test_a_middleware_of_a_plugin_changes_responses(world: World) -> None:
    class NoSettings(msgspec.Struct):
        pass

    class Stamp:
        def on_response(self, exchange: Any) -> None:
            exchange.response_headers.set(b"x-stamp", b"yes")

    class Factory:
        kind = "stamp"
        settings_type = NoSettings

        def build_middleware(self, settings: Any, service: str) -> object:
            return Stamp()

    router = HttpRouter(entrypoint=world.entrypoint, hosts=("h",), service="s", middlewares=("shop/web/stamp",))
    service = Service(servers=(Server(address="127.0.0.1", port=world.upstream.port),))
    section = Section(
        routers={"r": router}, services={"s": service}, middlewares={"shop/web/stamp": Middleware(kind="stamp")}
    )
    world.controller.tell("e.1", {"http": section})
    world.start(plugins=FakePlugins(maesh_middleware_factories=[Factory()]))
    await world.wait_for("/ready", 200)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.entrypoint)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"x-stamp: yes\r\n" in (await reader.read()).lower()
    writer.close()


async def test_a_plugin_reports_on_the_admin_port(world: World) -> None:
    class Factory:
        kind, report_name = "stamp", "stamps"
        settings_type = None

        def build_report(self) -> bytes:
            return b'{"stamps": 3}'

    class Failing(Factory):
        kind, report_name = "fail", "failures"

        def build_report(self) -> bytes:
            raise ValueError

    world.tell()
    world.start(plugins=FakePlugins(maesh_middleware_factories=[Factory(), Failing()]))
    await world.wait_for("/ready", 200)
    assert await world.get(world.admin, "/reports/stamps") == (200, '{"workers":[{"stamps": 3}],"missing":0}')
    assert (await world.get(world.admin, "/reports/others"))[0] == 404
    assert (await world.get(world.admin, "/reports/failures"))[0] == 404


def test_a_worker_that_is_late_is_missing_in_a_report() -> None:
    assert join_reports([Reported(body=b"{}"), None]) == b'{"workers":[{}],"missing":1}'
    assert join_reports([None]) == b'{"workers":[],"missing":1}'
    assert join_reports([Failed(text="none"), None]) is None


@pytest.mark.parametrize("part", ["admin", "entrypoint"])
async def test_a_port_in_use_stops_the_start(world: World, part: str) -> None:
    port = getattr(world, part)
    world.tell()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StartupError, match=f"{port}.*in use"):
        await world.start()


class FakeFactory:
    """Claims the kind `stamp`."""

    kind = "stamp"


class FakeHandler:
    """Claims a protocol."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.router_type = StreamRouter


@pytest.mark.parametrize(
    ("plugins", "text"),
    [
        (FakePlugins(maesh_middleware_factories=[FakeFactory(), FakeFactory()]), "middleware kind stamp is claimed"),
        (FakePlugins(maesh_protocol_handlers=[FakeHandler("udp"), FakeHandler("udp")]), "protocol udp is claimed"),
        (FakePlugins(maesh_protocol_handlers=[FakeHandler("http")]), "protocol http belongs to the core"),
        (FakePlugins(maesh_transports=[FakeFactory(), FakeFactory()]), "at most one can be enabled"),
    ],
)
async def test_two_claims_of_the_same_name_stop_the_start(world: World, plugins: FakePlugins, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        await world.start(plugins=plugins)


async def test_a_bad_endpoint_stops_the_start(world: World) -> None:
    with pytest.raises(SettingsError):
        await world.start(endpoint="nowhere")


async def test_the_admin_port_shows_the_traffic_with_fresh_counters(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    for expected in (1, 2):
        assert await world.get(world.entrypoint) == (200, "hello")
        status, body = await world.get(world.admin, "/traffic")
        traffic = msgspec.json.decode(body, type=ProxyTraffic)
        requests = next(family for family in traffic.now if family.name == "maesh_service_requests")
        assert (status, traffic.before) == (200, ())
        assert sum(value for _, value in requests.samples if not isinstance(value, Histogram)) == expected
        assert 0 < traffic.interval_s == traffic.uptime_s
